"""The planner: the cleanest feasible time, and always a deadline that can be met."""

from __future__ import annotations

from datetime import timedelta
from itertools import combinations, pairwise

import pytest
from green_api.units import Power
from green_operator.plan.planner import plan_fleet
from green_operator.plan.types import Fleet, JobRequest, Outlook, Plan, PlanReason, Window
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.factories import HOUR, T0, hours, outlook, request

MARGIN = timedelta(minutes=15)


def plan(job: JobRequest, known: Outlook | None, now: float = 0.0) -> Plan:
    outlooks = {known.zone: known} if known else {}
    return plan_fleet(Fleet((job,), outlooks, MARGIN), hours(now))[job.key]


def length(plan: Plan) -> timedelta:
    return sum((w.end - w.start for w in plan.windows), timedelta(0))


def test_an_interruptible_job_takes_the_cleanest_slots() -> None:
    chosen = plan(request(remaining=2 * HOUR), outlook([300, 100, 300, 100, 300, 300]))
    assert chosen.windows == (Window(hours(1), hours(2)), Window(hours(3), hours(4)))
    assert chosen.reason is PlanReason.LOWEST_EMISSIONS
    assert chosen.expected.emissions is not None
    # 100 W for 2 h is 0.2 kWh: 20 g at 100 g/kWh; from now on it is 40 g (300 and 100 g/kWh).
    assert chosen.expected.emissions.grams == pytest.approx(20)
    assert chosen.run_now.emissions is not None
    assert chosen.run_now.emissions.grams == pytest.approx(40)
    assert chosen.saving is not None
    assert chosen.saving.grams == pytest.approx(20)


def test_any_other_job_takes_the_cleanest_block() -> None:
    job = request(remaining=2 * HOUR, interruptible=False)
    chosen = plan(job, outlook([300, 100, 300, 150, 140, 300, 300]))
    assert chosen.windows == (Window(hours(3), hours(5)),)


def test_a_block_may_begin_within_a_slot() -> None:
    job = request(remaining=1.5 * HOUR, interruptible=False)
    chosen = plan(job, outlook([300, 100, 200, 300, 300]))
    assert chosen.windows == (Window(hours(1), hours(2.5)),)
    chosen = plan(job, outlook([300, 200, 100, 300, 300]))
    assert chosen.windows == (Window(hours(1.5), hours(3)),)


def test_equal_slots_are_taken_from_the_earliest_without_a_pause() -> None:
    chosen = plan(request(remaining=2.5 * HOUR), outlook([100] * 24))
    assert chosen.windows == (Window(hours(0), hours(2.5)),)
    assert chosen.reason is PlanReason.CLEANEST_NOW


def test_the_last_partial_slot_joins_its_neighbour() -> None:
    chosen = plan(request(remaining=1.5 * HOUR), outlook([300, 200, 100, 300]))
    assert chosen.windows == (Window(hours(1.5), hours(3)),)


def test_the_outage_margin_is_kept_free_before_the_deadline() -> None:
    grams = [300.0] * 22 + [10.0, 10.0]
    chosen = plan(request(remaining=HOUR), outlook(grams))
    assert chosen.windows[-1].end <= hours(24) - MARGIN
    assert chosen.latest_start == hours(23) - MARGIN


@pytest.mark.parametrize(
    ("changes", "now", "known", "reason"),
    [
        ({"immediately": True}, 0, True, PlanReason.STARTS_IMMEDIATELY),
        ({"deadline": None}, 0, True, PlanReason.STARTS_IMMEDIATELY),
        ({"deadline": hours(2)}, 0, True, PlanReason.DEADLINE_AT_RISK),
        ({"deadline": hours(2) + MARGIN}, 0, True, PlanReason.LATEST_START_REACHED),
        ({}, 0, False, PlanReason.INTENSITY_UNKNOWN),
        ({"zones": ()}, 0, True, PlanReason.INTENSITY_UNKNOWN),
        # A job that is late starts at once, whatever the grid is like.
        ({"deadline": hours(1)}, 5, True, PlanReason.DEADLINE_AT_RISK),
    ],
)
def test_it_starts_at_once_and_says_why(
    changes: dict[str, object], now: float, known: bool, reason: PlanReason
) -> None:
    chosen = plan(request(**changes), outlook([300, 100] * 12) if known else None, now)
    assert chosen.reason is reason
    assert chosen.windows == (Window(hours(now), hours(now) + 2 * HOUR),)
    assert chosen.runs_at(hours(now))


def test_unknown_hours_count_as_average() -> None:
    # Known for 4 of 24 hours: the rest is taken at 250, so the known 100 is the best.
    chosen = plan(request(remaining=HOUR), outlook([300, 300, 300, 100]))
    assert chosen.windows == (Window(hours(3), hours(4)),)
    assert chosen.assumed == hours(24) - MARGIN - hours(4)


def test_the_renewable_share_is_that_of_the_chosen_time() -> None:
    known = outlook([300, 100])
    slots = tuple(
        type(s)(s.start, s.end, s.intensity, share)
        for s, share in zip(known.slots, (0.2, 0.8), strict=True)
    )
    job = request(remaining=HOUR, deadline=hours(2) + MARGIN)
    chosen = plan(job, Outlook("gb", known.signal, slots))
    assert chosen.expected.renewable_share == pytest.approx(0.8)
    assert chosen.run_now.renewable_share == pytest.approx(0.2)


def test_of_two_zones_the_cleaner_one_is_chosen() -> None:
    dirty, clean = outlook([300] * 24), Outlook("fr", outlook([0]).signal, outlook([50] * 24).slots)
    fleet = Fleet((request(zones=("gb", "fr")),), {"gb": dirty, "fr": clean}, MARGIN)
    assert plan_fleet(fleet, T0)["job"].zone == "fr"


grams_lists = st.lists(st.integers(0, 900), min_size=6, max_size=30)


@given(grams_lists, st.integers(1, 5), st.floats(0, 5), st.booleans())
def test_every_plan_is_feasible_and_no_worse_than_running_now(
    grams: list[int], need: int, now: float, interruptible: bool
) -> None:
    job = request(remaining=need * HOUR, deadline=hours(len(grams)), interruptible=interruptible)
    chosen = plan(job, outlook([float(g) for g in grams]), now)
    assert abs(length(chosen) - job.remaining) < timedelta(milliseconds=1)
    assert chosen.windows[0].start >= hours(now)
    assert all(a.end < b.start for a, b in pairwise(chosen.windows))
    if chosen.reason is not PlanReason.DEADLINE_AT_RISK:
        assert chosen.windows[-1].end <= hours(len(grams)) - MARGIN + timedelta(milliseconds=1)
    if not interruptible:
        assert len(chosen.windows) == 1
    if chosen.saving is not None:
        assert chosen.saving.grams >= -1e-9


@given(st.lists(st.integers(0, 900), min_size=4, max_size=9), st.integers(1, 4))
def test_the_slots_are_the_best_of_all_choices(grams: list[int], need: int) -> None:
    """Against every combination of whole slots, and every whole-slot block."""
    known = outlook([float(g) for g in grams])
    deadline = hours(len(grams)) + MARGIN
    best = min(sum(c) for c in combinations(grams, need))
    chosen = plan(request(remaining=need * HOUR, deadline=deadline, power=Power(1000)), known)
    assert chosen.expected.emissions is not None
    assert chosen.expected.emissions.grams == pytest.approx(best)
    block = min(sum(grams[i : i + need]) for i in range(len(grams) - need + 1))
    job = request(remaining=need * HOUR, deadline=deadline, power=Power(1000), interruptible=False)
    chosen = plan(job, known)
    assert chosen.expected.emissions is not None
    assert chosen.expected.emissions.grams <= block + 1e-6


@given(grams_lists, st.integers(0, 5), st.integers(1, 5))
def test_a_plan_that_is_followed_stays_the_same(grams: list[int], now: int, need: int) -> None:
    """With the same outlook, planning again later changes nothing: no job is moved to and fro."""
    known = outlook([float(g) for g in grams])
    job = request(remaining=need * HOUR, deadline=hours(len(grams)))
    first = plan(job, known, now)
    if first.reason is PlanReason.LOWEST_EMISSIONS and first.windows[0].start > hours(now):
        again = plan(job, known, now + (first.windows[0].start - hours(now)) / HOUR)
        assert again.expected.emissions is not None
        assert first.expected.emissions is not None
        assert again.expected.emissions.grams == pytest.approx(first.expected.emissions.grams)


def test_a_deadline_in_another_century_costs_no_more_than_one_in_a_month() -> None:
    far = request(remaining=2 * HOUR, deadline=T0 + timedelta(days=60_000))
    chosen = plan(far, outlook([300, 100, 300, 50, 300]))
    assert chosen.windows[0].start == hours(1)
    assert length(chosen) == 2 * HOUR


def test_work_that_outlasts_all_that_can_be_planned_starts_at_once() -> None:
    year = timedelta(days=365)
    chosen = plan(request(remaining=year, deadline=T0 + 3 * year), outlook([300, 100]))
    assert chosen.windows == (Window(T0, T0 + year),)
    assert chosen.reason is PlanReason.CLEANEST_NOW
