"""Accounting: every joule once, with its provenance, at the intensity of its time."""

from __future__ import annotations

import pytest
from green_api.base import Provenance
from green_api.contract import Mark
from green_api.status import AccountStatus
from green_api.units import Emissions, Energy, Power
from green_operator.account.book import Book
from green_operator.account.readings import AttemptRecord
from green_operator.account.statement import state_account, statement_of
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.factories import T0, attempt, hours, outlook, sample

KWH = 3.6e6
RESERVED = Power(100.0)


def energy_of(attempts: list[AttemptRecord]) -> Energy:
    return state_account(attempts, RESERVED, "gb", None, T0).energy


def test_energy_is_split_over_the_hours_it_was_used_in() -> None:
    one = attempt(0, 2, [sample(2, 2 * KWH, Mark.ENDED)], ok=True)
    statement = state_account([one], RESERVED, "gb", outlook([400, 100]), T0)
    assert statement.energy.kilowatt_hours == pytest.approx(2)
    assert statement.emissions.grams == pytest.approx(500)


def test_waiting_for_clean_hours_is_a_positive_difference() -> None:
    """The worked figure of the design's formula: 5 + 5 kWh, 400 and 420 against 100 and 120."""
    one = attempt(2, 4, [sample(3, 5 * KWH), sample(4, 10 * KWH, Mark.ENDED)], ok=True)
    statement = state_account([one], RESERVED, "gb", outlook([400, 420, 100, 120]), T0)
    assert statement.emissions.grams == pytest.approx(1100)
    assert statement.counterfactual is not None
    assert statement.counterfactual.grams == pytest.approx(4100)
    assert statement.difference is not None
    assert statement.difference.grams == pytest.approx(3000)


def test_waiting_for_what_turned_out_dirtier_is_negative() -> None:
    one = attempt(1, 2, [sample(2, KWH, Mark.ENDED)], ok=True)
    statement = state_account([one], RESERVED, "gb", outlook([100, 300]), T0)
    assert statement.difference is not None
    assert statement.difference.grams == pytest.approx(-200)


def test_restarts_and_repeated_work_are_in_the_actual_only() -> None:
    killed = attempt(
        0, 3,
        [
            sample(0.5, 1 * KWH, Mark.WORKING),
            sample(2, 3 * KWH, Mark.SAVED),
            sample(3, 4 * KWH),
        ],
        uid="a",
    )  # fmt: skip
    resumed = attempt(
        4, 6,
        [sample(5, 1 * KWH, Mark.WORKING), sample(6, 2 * KWH, Mark.ENDED)],
        ok=True, uid="b",
    )  # fmt: skip
    statement = state_account([killed, resumed], RESERVED, "gb", outlook([100] * 6), T0)
    assert statement.energy.kilowatt_hours == pytest.approx(6)
    assert statement.emissions.grams == pytest.approx(600)
    # 1 kWh of repeated work and 1 kWh of restoring are not needed without the interruption.
    assert statement.counterfactual is not None
    assert statement.counterfactual.grams == pytest.approx(400)


def test_what_was_in_vain_is_in_the_actual_only() -> None:
    """Start-up, an hour's round, an hour of waiting, a round that stands."""
    marks = [
        sample(0.5, 1 * KWH, Mark.WORKING),
        sample(1, 2 * KWH, Mark.SAVED),
        sample(3, 5 * KWH, Mark.DISCARDED),
        sample(4, 6 * KWH, Mark.SAVED),
        sample(5, 8 * KWH, Mark.DISCARDED),
        sample(6, 9 * KWH, Mark.ENDED),
    ]
    one = attempt(0, 6, marks, ok=True)
    statement = state_account([one], RESERVED, "gb", outlook([100] * 6), T0)
    assert statement.emissions.grams == pytest.approx(900)
    assert statement.counterfactual is not None
    assert statement.counterfactual.grams == pytest.approx(400)


def test_the_first_start_up_counts_once_whatever_is_discarded_and_whoever_is_killed() -> None:
    killed = attempt(
        0, 3, [sample(1, 1 * KWH, Mark.WORKING), sample(2, 2 * KWH, Mark.DISCARDED), sample(3, 3 * KWH)],
        uid="a",
    )  # fmt: skip
    again = attempt(
        4, 6, [sample(5, 1 * KWH, Mark.WORKING), sample(6, 2 * KWH, Mark.ENDED)], ok=True, uid="b"
    )
    statement = state_account([killed, again], RESERVED, "gb", outlook([100] * 6), T0)
    assert statement.counterfactual is not None
    assert statement.counterfactual.grams == pytest.approx(200)


def test_an_unseen_tail_is_estimated_from_the_reservation() -> None:
    killed = attempt(0, 2, [sample(1, KWH)])
    nothing_seen = attempt(0, 1, [])
    assert energy_of([killed]).joules == pytest.approx(KWH + 100 * 3600)
    assert energy_of([nothing_seen]).joules == pytest.approx(100 * 3600)


def test_an_attempt_that_ended_by_its_own_word_has_no_tail() -> None:
    one = attempt(0, 1.001, [sample(1, KWH, Mark.ENDED)], ok=True)
    assert energy_of([one]).joules == pytest.approx(KWH)


def test_provenances_are_told_apart_and_add_up() -> None:
    one = attempt(0, 1, [sample(1, 500, Mark.ENDED, gpu=9000)], ok=True)
    statement = state_account([one], RESERVED, "gb", outlook([360]), T0)
    assert statement.of(Provenance.MEASURED) == Energy(9000)
    assert statement.of(Provenance.ESTIMATED) == Energy(500)
    assert statement.energy == Energy(9500)
    assert statement.emissions.grams == pytest.approx(0.95)


def test_hours_without_intensity_are_set_apart_not_zero() -> None:
    one = attempt(0, 2, [sample(2, 2 * KWH, Mark.ENDED)], ok=True)
    statement = state_account([one], RESERVED, "gb", outlook([400]), T0)
    assert statement.emissions.grams == pytest.approx(400)
    assert statement.unaccounted.kilowatt_hours == pytest.approx(1)
    assert statement.difference is None
    nothing = state_account([one], RESERVED, "gb", None, T0)
    assert nothing.signal is None
    assert nothing.unaccounted.kilowatt_hours == pytest.approx(2)


def test_a_counter_that_is_sent_again_or_falls_adds_nothing() -> None:
    samples = [sample(1, 100), sample(1, 100), sample(2, 60), sample(3, 150, Mark.ENDED)]
    assert energy_of([attempt(0, 3, samples, ok=True)]).joules == 150


rises = st.lists(st.floats(0, 1e6), min_size=1, max_size=20)


@given(rises, st.lists(st.integers(0, 900), min_size=30, max_size=30))
def test_emissions_lie_between_the_cleanest_and_the_dirtiest_hour(
    steps: list[float], grams: list[int]
) -> None:
    joules, samples = 0.0, []
    for index, rise in enumerate(steps, start=1):
        joules += rise
        samples.append(sample(index * 1.3, joules))
    one = attempt(0, len(steps) * 1.3, samples, ok=True)
    statement = state_account([one], RESERVED, "gb", outlook([float(g) for g in grams]), T0)
    # The books hold whole millijoules.
    assert statement.energy.joules == pytest.approx(joules, abs=1e-3)
    assert statement.unaccounted.joules == pytest.approx(0, abs=1e-3 * max(joules, 1))
    kwh = statement.energy.joules / KWH
    assert min(grams) * kwh - 1e-6 <= statement.emissions.grams <= max(grams) * kwh + 1e-6


@given(rises)
def test_a_job_that_runs_at_once_without_a_pause_differs_by_nothing(steps: list[float]) -> None:
    joules, samples = 0.0, []
    for index, rise in enumerate(steps, start=1):
        joules += rise + 1.0
        samples.append(sample(float(index), joules))
    one = attempt(0, len(steps), samples, ok=True)
    grams = [100.0 + 50 * (i % 5) for i in range(len(steps))]
    statement = state_account([one], RESERVED, "gb", outlook(grams), T0)
    assert statement.difference is not None
    assert statement.difference.grams == pytest.approx(0, abs=1e-6)


@given(st.integers(1, 6), st.integers(1, 5))
def test_each_killed_attempt_has_just_one_tail(kills: int, seen: int) -> None:
    attempts = [
        attempt(i * 10, i * 10 + 9, [sample(i * 10 + j + 1, 100.0 * j) for j in range(seen)],
                uid=f"k{i}")
        for i in range(kills)
    ]  # fmt: skip
    measured = kills * 100.0 * (seen - 1)
    unseen = kills * (9 - seen) * 3600.0
    assert energy_of(attempts).joules == pytest.approx(measured + 100 * unseen)


def test_what_is_heard_later_takes_the_place_of_a_tail() -> None:
    """The next attempt reports the journal of one that died unheard."""
    books = Book(RESERVED, T0)
    dead = books.begin("a", T0, "gb")
    books.end(dead, hours(2), succeeded=False, intensity=outlook([100] * 9))
    assert statement_of(books).energy.joules == pytest.approx(2 * 3600 * 100)
    books.enter(dead, sample(1, 500, Mark.SAVED), outlook([100] * 9))
    assert statement_of(books).energy.joules == pytest.approx(500 + 3600 * 100)
    books.enter(dead, sample(2, 800, Mark.ENDED), outlook([100] * 9))
    assert statement_of(books).energy.joules == pytest.approx(800)
    assert statement_of(books).counterfactual == Emissions(round(500 / KWH * 100 * 1e9) / 1e9)


def test_the_books_of_a_job_that_saw_too_many_places_fit_a_status_and_lose_no_joule() -> None:
    books = Book(RESERVED, T0)
    for number in range(60):
        opened = books.begin(f"{number:036}", hours(number), f"zone-{number}")
        assert opened is not None
        books.enter(opened, sample(number + 0.5, 300, gpu=1000), outlook([100.0] * 99))
        books.end(opened, hours(number + 0.5), succeeded=False, intensity=None)
    # Its types have the bounds.
    stored = AccountStatus.model_validate(books.to_status().to_wire())
    assert len(stored.amounts) == 24
    assert statement_of(books).energy.joules == pytest.approx(60 * 1300)
    assert statement_of(books).of(Provenance.MEASURED).joules == pytest.approx(60 * 1000)


marks = st.sampled_from([Mark.BOUNDARY, Mark.SAVED, Mark.WORKING, Mark.DISCARDED])
told = st.lists(st.tuples(st.floats(0.01, 2), st.floats(0, 1e5), marks), max_size=6)


@given(st.lists(told, min_size=1, max_size=6), st.integers(0, 40))
def test_books_that_went_through_a_status_are_the_same_books(
    attempts: list[list[tuple[float, float, Mark]]], killed_at: int
) -> None:
    """An operator may be killed after any entry: what the status holds is all it needs."""
    grams = outlook([100.0 + 7 * i for i in range(60)])
    whole, cut = Book(RESERVED, T0), Book(RESERVED, T0)
    entries, at = 0, 0.0
    for number, samples in enumerate(attempts):
        for book in (whole, cut):
            book.begin(str(number), hours(at), "gb")
        joules = 0.0
        for gap, rise, mark in samples:
            at, joules, entries = at + gap, joules + rise, entries + 1
            for book in (whole, cut):
                known = book.attempt(str(number))
                assert known is not None
                book.enter(known, sample(at, joules, mark), grams)
            if entries == killed_at:
                wire = AccountStatus.model_validate(cut.to_status().to_wire())
                cut = Book.from_status(wire, RESERVED, T0)
        at += 0.5
        for book in (whole, cut):
            known = book.attempt(str(number))
            assert known is not None
            book.end(known, hours(at), succeeded=False, intensity=grams)
    assert statement_of(cut) == statement_of(whole)
    assert cut.active_time(hours(at)) == whole.active_time(hours(at))
