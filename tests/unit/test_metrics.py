"""Metrics: counters grow by what is new, once, also over restarts; series say what is so now."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from green_api.base import Signal
from green_api.contract import Mark, ModelFigures, Result
from green_api.status import (
    Condition,
    ConditionStatus,
    ConditionType,
    EmissionsStatus,
    EnergyStatus,
    JobStatus,
    ProgressStatus,
    RoleState,
    RoleStatus,
    RunStatus,
    State,
)
from green_api.units import Intensity, Power
from green_operator.account.book import Book
from green_operator.account.statement import Statement, state_account, statement_of
from green_operator.metrics import Metrics, OperatorMetrics, describe, standing
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.exposition import generate_latest

from tests.unit.factories import HOUR, T0, attempt, hours, job, outlook, sample

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics.txt"
STATUS = JobStatus(state=State.RUNNING)
ENDED = JobStatus(state=State.SUCCEEDED)
LABELS = ("default", "gb", "train", "Estimated")


def a_statement(joules: float) -> Statement:
    one = attempt(0, 1, [sample(1, joules, Mark.ENDED)], ok=True)
    return state_account([one], Power(1), "gb", outlook([360]), T0)


def scraped(metrics: Metrics, metric: str, /, **labels: str) -> float | None:
    """A metric's sample as a scrape has it."""
    return metrics.registry.get_sample_value(metric, labels)


def energy(metrics: Metrics) -> float:
    return metrics.energy.value(LABELS)


def test_the_same_account_counts_once() -> None:
    metrics = Metrics()
    for joules in (100, 100, 250):
        metrics.record(job(), STATUS, a_statement(joules))
    assert energy(metrics) == pytest.approx(250)


def test_a_new_process_counts_only_what_is_new() -> None:
    metrics = Metrics()
    metrics.begin_after(job(), STATUS, a_statement(100))
    metrics.record(job(), STATUS, a_statement(150))
    assert energy(metrics) == pytest.approx(50)


def test_a_new_series_is_scraped_at_zero_before_it_is_scraped_at_its_value() -> None:
    metrics = Metrics()
    metrics.record(job(), STATUS, a_statement(100))
    labels = dict(zip(("namespace", "zone", "task", "provenance"), LABELS, strict=True))
    assert [scraped(metrics, "green_energy_joules_total", **labels) for _ in range(3)] == [
        0, 100, 100,
    ]  # fmt: skip


def test_a_reader_who_is_not_prometheus_sees_values_and_takes_no_first_look() -> None:
    metrics = Metrics()
    metrics.record(job(), STATUS, a_statement(100))
    labels = dict(zip(("namespace", "zone", "task", "provenance"), LABELS, strict=True))
    seen = []
    for prometheus in (False, True, False, True):
        metrics.answer(prometheus=prometheus)
        seen.append(scraped(metrics, "green_energy_joules_total", **labels))
    assert seen == [100, 0, 100, 100]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["read", "end", "next", "late word", "restart"]), st.integers(0, 5)
        ),
        max_size=25,
    )
)
def test_counters_are_never_above_the_books_and_at_the_end_equal_them(
    events: list[tuple[str, int]],
) -> None:
    """Also where the estimated end of an attempt gives way to readings that come later."""
    book, now, joules, number = Book(Power(1000), T0), 0.0, 0.0, 0
    current = book.begin("a0", T0, "gb")
    known = outlook([360] * 200)
    processes = [Metrics()]
    total = 0.0
    for event, amount in [*events, ("end", 1)]:
        assert current is not None
        if event in {"read", "late word"} and (current.end is None or event == "late word"):
            until = (current.end - T0) / HOUR if current.end is not None else now + 0.1
            at = max(min(now, until), (current.last - T0) / HOUR)
            joules += amount
            book.enter(current, sample(at, joules), known)
        elif event == "end" and current.end is None:
            book.end(current, hours(now), succeeded=False, intensity=known)
        elif event == "next" and current.end is not None:
            number, joules = number + 1, 0.0
            current = book.begin(f"a{number}", hours(now), "gb")
        elif event == "restart":
            processes.append(Metrics())
            processes[-1].begin_after(job(), STATUS, statement_of(book))
        now += 0.2 * amount + 0.01
        processes[-1].record(job(), STATUS, statement_of(book))
        total = sum(energy(m) for m in processes)
        assert total <= statement_of(book).energy.joules + 1e-6
    processes[-1].record(job(), ENDED, statement_of(book))
    total = sum(energy(m) for m in processes)
    assert total == pytest.approx(statement_of(book).energy.joules)


def test_the_estimated_end_of_a_deleted_job_is_counted_too() -> None:
    cut_off = state_account([attempt(0, 1, [])], Power(10), "gb", outlook([360]), T0)
    metrics = Metrics()
    metrics.record(job(), STATUS, cut_off)
    assert energy(metrics) == 0
    metrics.forget("default", "shrink")
    assert energy(metrics) == pytest.approx(36_000)


def test_what_becomes_known_after_the_end_is_in_no_counter_as_it_is_in_no_status() -> None:
    metrics = Metrics()
    metrics.record(job(), ENDED, a_statement(100))
    metrics.record(job(), ENDED, a_statement(120))
    again = Metrics()
    again.begin_after(job(), ENDED, a_statement(100))
    again.record(job(), ENDED, a_statement(120))
    assert (energy(metrics), energy(again)) == (pytest.approx(100), 0)


def condition(kind: ConditionType, holds: bool, reason: str) -> Condition:
    status = ConditionStatus.TRUE if holds else ConditionStatus.FALSE
    return Condition(type=kind, status=status, reason=reason, last_transition_time=hours(2))


def test_jobs_are_counted_in_every_state_and_by_their_conditions() -> None:
    metrics = Metrics()
    waits = JobStatus(
        state=State.PLANNED,
        conditions=[
            condition(ConditionType.RUNNING, False, "Plan"),
            condition(ConditionType.DEADLINE_AT_RISK, True, "DoesNotFit"),
        ],
    )
    metrics.count_jobs([standing(job(), s) for s in (STATUS, None, waits, waits)])
    spaces = {"namespace": "default"}
    counts = {
        state: scraped(metrics, "green_jobs", task="train", state=state.value, **spaces)
        for state in State
    }
    assert (counts[State.RUNNING], counts[State.PLANNED], counts[State.FAILED]) == (1, 2, 0)
    assert scraped(metrics, "green_jobs_waiting", reason="Plan", **spaces) == 2
    at_risk = {"condition": "DeadlineAtRisk", "status": "True", "reason": "DoesNotFit"}
    assert scraped(metrics, "green_jobs_by_condition", **at_risk, **spaces) == 2
    metrics.count_jobs([standing(job(), STATUS)])
    assert scraped(metrics, "green_jobs_by_condition", **at_risk, **spaces) is None


def test_a_job_that_ended_after_its_deadline_is_late_once_and_one_in_time_is_not() -> None:
    late = ENDED.model_copy(update={"deadline": hours(1), "completion_time": hours(2)})
    timely = late.model_copy(update={"deadline": hours(3)})
    given_up = JobStatus(
        state=State.FAILED, conditions=[condition(ConditionType.FAILED, True, "DeadlineExceeded")]
    )
    metrics = Metrics()
    metrics.count_jobs([standing(job(), STATUS)])
    # Prometheus sees the zero before the first.
    assert scraped(metrics, "green_jobs_late_total", namespace="default") == 0
    for name, status in (("late", late), ("timely", timely), ("given-up", given_up)):
        plain = job()
        metadata = plain.metadata.model_copy(update={"name": name})
        named = plain.model_copy(update={"metadata": metadata})
        for _ in range(2):
            metrics.record(named, status, None)
    assert scraped(metrics, "green_jobs_late_total", namespace="default") == 2
    again = Metrics()
    again.begin_after(job(), ENDED, a_statement(100))
    again.record(job(), late, a_statement(100))
    assert again.late.value(("default",)) == 0


def test_energy_without_a_known_intensity_is_counted_apart_and_emissions_by_their_kind() -> None:
    half_known = state_account(
        [attempt(0, 2, [sample(2, 200, Mark.ENDED)], ok=True)],
        Power(1), "gb", outlook([360]), T0,
    )  # fmt: skip
    metrics = Metrics()
    metrics.record(job(), ENDED, half_known)
    assert metrics.unaccounted.value(LABELS) == pytest.approx(100)
    kind = half_known.signal
    assert kind is not None
    assert metrics.emissions.value((*LABELS, kind.value)) == pytest.approx(0.01)


def test_updates_of_sites_are_counted_by_whether_they_were_of_use_and_once() -> None:
    def after(rounds: int, dropped: int) -> JobStatus:
        sites = [
            RoleStatus(name=name, state=RoleState.RUNNING, rounds=rounds, dropped_updates=lost,
                       bytes=1000 * rounds)
            for name, lost in (("a", dropped), ("b", 0))
        ]  # fmt: skip
        server = RoleStatus(name="server", state=RoleState.RUNNING, rounds=rounds, accuracy=0.5)
        return STATUS.model_copy(update={"roles": [server, *sites], "start_time": T0})

    metrics = Metrics()
    metrics.begin_after(job(), after(2, 1), a_statement(100))
    for status in (after(2, 1), after(5, 2), after(5, 2)):
        metrics.record(job(), status, a_statement(100))
    assert metrics.updates.value(("default", "Counted")) == 6
    assert metrics.updates.value(("default", "Dropped")) == 1
    assert metrics.traffic.value(("default",)) == 6000
    assert scraped(metrics, "green_job_accuracy_ratio", **ONE) == 0.5


FULL = JobStatus(
    state=State.SUSPENDED,
    start_time=T0,
    planned_start=hours(5),
    first_planned_start=hours(-1),
    deadline=hours(24),
    energy=EnergyStatus(joules=100, measured_joules=60, estimated_joules=40),
    emissions=EmissionsStatus(
        signal=Signal.AVERAGE_LIFECYCLE, zone="gb", micrograms=5, difference_micrograms=-2_000_000
    ),
    progress=ProgressStatus(progress_percentage=50),
    run=RunStatus(number=1, attempts=2, active_seconds=60),
    conditions=[condition(ConditionType.RUNNING, False, "Plan")],
)
FIGURES = ModelFigures(parameters=1, bytes=100, accuracy=0.9, runtime="PyTorch eager")
ONE = {"namespace": "default", "name": "shrink"}
OF_KIND = {**ONE, "signal": "AverageLifecycle"}


def series(metrics: Metrics) -> list[str]:
    text = generate_latest(metrics.registry).decode()
    return [line.split("{")[0] for line in text.splitlines() if 'name="shrink"' in line]


def test_a_job_shows_what_its_status_says_and_no_more_than_that() -> None:
    metrics = Metrics()
    metrics.show(job(), FULL)
    assert scraped(metrics, "green_job_emissions_difference_grams", **OF_KIND) == -2
    measured = {"provenance": "Measured", **ONE}
    assert scraped(metrics, "green_job_energy_by_provenance_joules", **measured) == 60
    since = scraped(metrics, "green_job_running_changed_timestamp_seconds", **ONE)
    assert since == hours(2).timestamp()
    unknown = FULL.emissions and FULL.emissions.model_copy(update={"difference_micrograms": None})
    changes = {"state": State.RUNNING, "planned_start": None, "emissions": unknown}
    metrics.show(job(), FULL.model_copy(update=changes))
    assert scraped(metrics, "green_job_running", **ONE) == 1
    assert scraped(metrics, "green_job_emissions_difference_grams", **OF_KIND) is None
    metrics.forget("default", "shrink")
    assert series(metrics) == []


@pytest.mark.parametrize("state", [State.RUNNING, State.SUSPENDED, State.SUCCEEDED, State.FAILED])
def test_a_job_that_has_started_keeps_its_planned_start(state: State) -> None:
    """Also once it runs or has ended: beside its first start, not the next one of its plan."""
    metrics = Metrics()
    metrics.show(job(), FULL.model_copy(update={"state": state}))
    planned = scraped(metrics, "green_job_planned_start_timestamp_seconds", **ONE)
    assert planned == hours(-1).timestamp()


def test_a_job_tells_its_zone_and_a_difference_only_where_every_hour_is_known() -> None:
    metrics = Metrics()
    known = FULL.emissions
    assert known is not None
    partly = known.model_copy(update={"unaccounted_joules": 7})
    metrics.show(job(), FULL.model_copy(update={"emissions": partly}))
    assert scraped(metrics, "green_job_zone_info", **ONE, zone="gb") == 1
    assert scraped(metrics, "green_job_unaccounted_energy_joules", **ONE) == 7
    assert scraped(metrics, "green_job_emissions_difference_grams", **OF_KIND) is None
    metrics.show(job(), FULL)
    assert scraped(metrics, "green_job_unaccounted_energy_joules", **ONE) is None
    assert scraped(metrics, "green_job_emissions_difference_grams", **OF_KIND) == -2


def test_emissions_of_several_kinds_of_intensity_are_in_no_sum_of_one_kind() -> None:
    metrics = Metrics()
    mixed = condition(ConditionType.SIGNAL_CONSISTENT, False, "SignalsMixed")
    metrics.show(job(), FULL.model_copy(update={"conditions": [*FULL.conditions, mixed]}))
    assert scraped(metrics, "green_job_emissions_grams", **OF_KIND) is None
    assert scraped(metrics, "green_job_emissions_grams", **ONE, signal="Mixed") == 5e-6


def test_a_job_has_at_most_sixteen_series_and_one_that_waits_has_none() -> None:
    metrics = Metrics()
    metrics.show(job(), FULL.model_copy(update={"start_time": None}))
    assert series(metrics) == []
    metrics.show(job(), FULL)
    assert len(series(metrics)) <= 16
    result = Result(original=FIGURES, final=FIGURES.model_copy(update={"bytes": 25}))
    metrics.show(job(), FULL.model_copy(update={"state": State.SUCCEEDED, "result": result}))
    assert len(series(metrics)) <= 16
    assert scraped(metrics, "green_job_size_ratio", **ONE) == 0.25
    allowed = {line.split()[0] for line in GOLDEN.read_text().splitlines() if "per-job" in line}
    assert set(series(metrics)) <= allowed
    server = RoleStatus(name="server", state=RoleState.RUNNING, accuracy=0.5)
    metrics.show(job(), FULL.model_copy(update={"roles": [server]}))
    assert len(series(metrics)) <= 16


def test_of_too_many_jobs_the_oldest_finished_go_first_and_the_counters_stay() -> None:
    metrics = Metrics(job_limit=2)
    for number, end in enumerate([None, 3, 4, 2]):
        plain = job()
        metadata = plain.metadata.model_copy(update={"name": f"job-{number}"})
        named = plain.model_copy(update={"metadata": metadata})
        state = State.RUNNING if end is None else State.SUCCEEDED
        done = None if end is None else hours(end)
        changes = {"state": state, "completion_time": done}
        metrics.record(named, FULL.model_copy(update=changes), a_statement(100))
    shown = [
        number
        for number in range(4)
        if scraped(metrics, "green_job_running", namespace="default", name=f"job-{number}")
        is not None
    ]
    assert shown == [0, 2]
    assert scraped(metrics, "green_jobs_without_series") == 2
    assert energy(metrics) == pytest.approx(400)


def test_of_a_zone_that_is_gone_nothing_is_shown() -> None:
    metrics = Metrics()
    metrics.show_intensities({"gb": (Signal.AVERAGE_DIRECT, Intensity(360))})
    labels = {"zone": "gb", "signal": "AverageDirect"}
    name = "green_zone_carbon_intensity_grams_per_joule"
    assert scraped(metrics, name, **labels) == pytest.approx(1e-4)
    metrics.show_intensities({})
    assert scraped(metrics, name, **labels) is None


def test_metrics_that_were_once_released_are_as_they_were() -> None:
    """Names and labels are somebody's dashboards: one that goes or changes needs a decision."""
    jobs = Metrics()
    now = "".join(
        f"{m.name} {m.type} {','.join(m.labels) or '-'}{' per-job' if m.is_of_job else ''}\n"
        for m in describe(jobs, OperatorMetrics(jobs.registry))
    )
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(now)
    assert now == GOLDEN.read_text(), "UPDATE_GOLDEN=1 takes the new list; say so in CHANGELOG.md"


def test_delays_are_told_in_seconds() -> None:
    metrics = Metrics()
    metrics.started("default", timedelta(hours=2))
    assert scraped(metrics, "green_job_start_delay_seconds_sum", namespace="default") == 7200
