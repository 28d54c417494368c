"""The life of a job: each state with its reason, and the run that ought to exist."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from green_api.base import Signal
from green_api.contract import Outcome, Progress, Summary
from green_api.status import ConditionStatus, ConditionType, JobStatus, State
from green_api.units import Emissions, Energy, Intensity
from green_operator.lifecycle.decide import decide
from green_operator.lifecycle.types import DesiredRun, Obstacle, RunEnd, RunView, Snapshot
from green_operator.plan.types import Expectation, Plan, PlanReason, Window

from tests.unit.factories import hours, job

NOTHING = Expectation(Energy(3600), Emissions(10), Intensity(100), None)


def a_plan(start: float, end: float, reason: PlanReason = PlanReason.LOWEST_EMISSIONS) -> Plan:
    return Plan(
        key="shrink",
        reason=reason,
        zone="gb",
        signal=Signal.AVERAGE_LIFECYCLE,
        windows=(Window(hours(start), hours(end)),),
        expected=NOTHING,
        run_now=replace(NOTHING, emissions=Emissions(16), intensity=Intensity(160)),
        deadline=hours(24),
        latest_start=hours(20),
    )


def a_run(**changes: Any) -> RunView:
    run = RunView(
        number=1, suspend=True, active=0, running=0, failed_attempts=0, end=None, reason="", message="",
        summary=None,
    )  # fmt: skip
    return replace(run, **changes)


WORKING = a_run(active=1, running=1, suspend=False)


def a_snapshot(**changes: Any) -> Snapshot:
    snapshot = Snapshot(
        job=job(),
        now=hours(1),
        deadline=hours(24),
        plan=a_plan(5, 7),
        intensity_known=True,
        intensity_source="static",
        run=None,
        started=None,
        attempts=0,
        active_time=timedelta(0),
        progress=None,
        progress_problem="",
        statement=None,
        previous=None,
    )
    return replace(snapshot, **changes)


def done(digest: str | None) -> Summary:
    return Summary(
        attempt="a", outcome=Outcome.SUCCEEDED, message="done", report_sha256=digest,
        report_path="shrink/report.json",
    )  # fmt: skip


def condition(status: JobStatus, kind: ConditionType) -> tuple[str, str]:
    found = next(c for c in status.conditions if c.type is kind)
    return found.status.value, found.reason


def test_it_waits_with_a_suspended_run() -> None:
    decision = decide(a_snapshot())
    assert decision.status.state is State.PLANNED
    assert decision.run == DesiredRun(1, suspend=True, zone="gb")
    assert decision.status.planned_start == hours(5)
    assert decision.status.difference == "+6 g (38 %) expected"
    assert decision.status.message == (
        "Waits until 2026-06-01 05:00 UTC for cleaner power. Expected 100 instead of 160 gCO2e/kWh "
        "if run at once, a difference of +6 g (38 %)."
    )


def test_it_runs_in_its_window() -> None:
    decision = decide(a_snapshot(now=hours(5)))
    assert decision.run == DesiredRun(1, suspend=False, zone="gb")
    # It is not called running before a pod is.
    assert decision.status.state is State.PLANNED
    running = decide(a_snapshot(now=hours(5), run=WORKING, started=hours(5)))
    assert running.status.state is State.RUNNING


def test_when_its_first_start_was_planned_stays_in_the_status() -> None:
    """However late its pod is, whatever is planned next, and in a new process."""

    def after(previous: JobStatus, **changes: Any) -> JobStatus:
        stored = JobStatus.model_validate(previous.to_wire())
        return decide(a_snapshot(previous=stored, **changes)).status

    waits = decide(a_snapshot()).status
    due = after(waits, now=hours(6), plan=a_plan(6, 8))
    runs = after(due, now=hours(7), plan=a_plan(6, 8), run=WORKING, started=hours(6.5))
    paused = after(runs, now=hours(8), plan=a_plan(12, 13), run=a_run(), started=hours(6.5))
    assert [s.first_planned_start for s in (waits, due, runs, paused)] == [hours(5)] * 4
    assert (runs.planned_start, paused.planned_start) == (None, hours(12))


def test_a_first_start_that_is_planned_anew_is_the_one_that_was_decided_last() -> None:
    waits = decide(a_snapshot()).status
    later = decide(a_snapshot(plan=a_plan(9, 11), previous=waits)).status
    at_once = decide(a_snapshot(now=hours(3), plan=a_plan(3, 4), previous=later)).status
    assert [s.first_planned_start for s in (later, at_once)] == [hours(9), hours(3)]


def test_it_is_not_resumed_while_a_pod_is_still_there() -> None:
    ending = Obstacle("PodNotEnding", "pod x does not end: node y may be down")
    run = a_run(active=1, obstacle=ending)
    decision = decide(a_snapshot(now=hours(5), started=hours(1), run=run))
    assert decision.run == DesiredRun(1, suspend=True, zone="gb")
    assert decision.status.state is State.SUSPENDED
    assert condition(decision.status, ConditionType.RUNNING) == ("False", "PodNotEnding")
    # Neither a person nor the plan holds it.
    assert condition(decision.status, ConditionType.SUSPENDED) == ("False", "NotSuspended")


def test_a_run_that_was_deleted_by_hand_is_followed_by_the_next() -> None:
    decision = decide(a_snapshot(now=hours(5), started=hours(1), next_run=3))
    assert decision.run == DesiredRun(3, suspend=False, zone="gb")


def test_a_job_expires_only_after_its_end() -> None:
    run = a_run(end=RunEnd.COMPLETE, summary=done("0" * 64))
    brief = job(ttlSecondsAfterFinished=60)
    assert decide(a_snapshot(job=brief)).expires is None
    assert decide(a_snapshot(job=brief, run=run)).expires == hours(1) + timedelta(minutes=1)
    assert decide(a_snapshot(run=run)).expires is None


def test_it_is_suspended_by_plan_between_windows() -> None:
    decision = decide(a_snapshot(started=hours(0), run=WORKING))
    assert decision.run == DesiredRun(1, suspend=True, zone="gb")
    assert decision.status.state is State.SUSPENDED
    assert condition(decision.status, ConditionType.SUSPENDED) == ("True", "Plan")


def test_a_job_that_is_not_interruptible_is_not_suspended_once_begun() -> None:
    spec = {"completeWithin": "24h", "expectedDuration": "2h", "interruptible": False}
    decision = decide(a_snapshot(job=job(schedule=spec), started=hours(0), run=WORKING))
    assert decision.run == DesiredRun(1, suspend=False, zone="gb")
    assert decision.status.state is State.RUNNING


@pytest.mark.parametrize(("started", "state"), [(None, State.PLANNED), (0.0, State.SUSPENDED)])
def test_a_persons_pause_wins_over_the_plan(started: float | None, state: State) -> None:
    decision = decide(
        a_snapshot(
            job=job(suspend=True),
            now=hours(5),
            started=None if started is None else hours(started),
            run=a_run(suspend=False),
        )
    )
    assert decision.run == DesiredRun(1, suspend=True, zone="gb")
    assert decision.status.state is state
    if started is not None:
        assert condition(decision.status, ConditionType.SUSPENDED) == ("True", "Person")


def test_success_needs_exit_0_and_the_done_marker() -> None:
    run = a_run(end=RunEnd.COMPLETE, summary=done("0" * 64))
    decision = decide(a_snapshot(run=run, started=hours(0)))
    assert decision.status.state is State.SUCCEEDED
    assert decision.status.completion_time == hours(1)
    assert decision.status.report_path == "shrink/report.json"
    assert condition(decision.status, ConditionType.SUCCEEDED) == ("True", "Completed")
    assert decision.run is None


def test_exit_0_without_the_done_marker_gets_another_run_until_the_retries_are_used() -> None:
    again = decide(a_snapshot(run=a_run(end=RunEnd.COMPLETE, summary=done(None))))
    assert again.run == DesiredRun(2, suspend=True)
    assert not again.status.state.is_final
    end = decide(a_snapshot(run=a_run(number=4, end=RunEnd.COMPLETE)))
    assert end.status.state is State.FAILED
    assert condition(end.status, ConditionType.FAILED) == ("True", "NoDoneMarker")


def test_a_failed_run_fails_the_job_with_its_reason() -> None:
    run = a_run(end=RunEnd.FAILED, reason="InvalidTask", message="no module named x")
    decision = decide(a_snapshot(run=run))
    assert decision.status.state is State.FAILED
    assert decision.status.message == "no module named x"
    assert condition(decision.status, ConditionType.FAILED) == ("True", "InvalidTask")


def test_a_missed_deadline_fails_only_where_asked_and_after_the_last_attempt() -> None:
    late = a_snapshot(now=hours(25), started=hours(20), plan=a_plan(25, 26), run=WORKING)
    assert decide(late).status.state is State.RUNNING
    schedule = {
        "completeWithin": "24h",
        "expectedDuration": "2h",
        "interruptible": True,
        "onDeadlineMissed": "Fail",
    }
    strict = replace(late, job=job(schedule=schedule))
    assert decide(strict).run == DesiredRun(1, suspend=True, zone="gb")
    gone = decide(replace(strict, run=a_run(active=0)))
    assert condition(gone.status, ConditionType.FAILED) == ("True", "DeadlineExceeded")


def test_a_final_state_stays() -> None:
    run = a_run(end=RunEnd.COMPLETE, summary=done("0" * 64))
    first = decide(a_snapshot(run=run))
    later = decide(a_snapshot(run=run, now=hours(9), plan=None, previous=first.status))
    assert later.status == first.status
    assert later.run is None


def test_a_status_that_says_the_same_is_the_same() -> None:
    """Else each look would be a write."""
    first = decide(a_snapshot())
    later = decide(a_snapshot(now=hours(2), previous=first.status))
    assert later.status == first.status


def test_conditions_keep_the_time_of_their_last_transition() -> None:
    first = decide(a_snapshot())
    later = decide(a_snapshot(now=hours(5), started=hours(5), run=WORKING, previous=first.status))
    suspended = decide(
        a_snapshot(
            now=hours(8), started=hours(5), plan=a_plan(9, 10), run=a_run(), previous=later.status
        )
    )
    times = {c.type: c.last_transition_time for c in suspended.status.conditions}
    assert times[ConditionType.ACCEPTED] == hours(1)
    assert times[ConditionType.SUSPENDED] == hours(8)


def test_missing_data_and_silence_are_conditions() -> None:
    plan = a_plan(1, 3, PlanReason.INTENSITY_UNKNOWN)
    decision = decide(
        a_snapshot(
            plan=plan,
            intensity_known=False,
            run=WORKING,
            started=hours(1),
            progress_problem="the pod does not answer",
        )
    )
    assert condition(decision.status, ConditionType.INTENSITY_AVAILABLE)[0] == ConditionStatus.FALSE
    assert condition(decision.status, ConditionType.PROGRESS_AVAILABLE) == (
        "False",
        "NoUsableAnswer",
    )
    at_risk = decide(a_snapshot(plan=a_plan(1, 3, PlanReason.DEADLINE_AT_RISK)))
    assert condition(at_risk.status, ConditionType.DEADLINE_AT_RISK) == ("True", "DoesNotFit")


def test_the_status_stays_small() -> None:
    windows = tuple(Window(hours(2 * i), hours(2 * i + 1)) for i in range(5, 500))
    progress = Progress(percentage=3, phase="x" * 512)
    crowded = a_snapshot(plan=replace(a_plan(5, 7), windows=windows), progress=progress)
    status = decide(crowded).status
    assert status.plan is not None
    assert len(status.plan.windows) == 48
    assert len(status.model_dump_json(by_alias=True)) < 8192
    assert status.planned_start == hours(10)


def test_an_end_stays_as_it_was_told_though_pod_and_provider_go() -> None:
    run = a_run(end=RunEnd.COMPLETE, summary=done("0" * 64))
    ended = decide(a_snapshot(run=run, started=hours(0))).status
    later = decide(a_snapshot(now=hours(99), plan=None, intensity_known=False, previous=ended))
    assert later.status == ended


def test_a_pod_of_an_earlier_run_keeps_the_next_one_waiting() -> None:
    left = Obstacle("PodEnding", "waits until pod x of an earlier run has ended")
    decision = decide(a_snapshot(now=hours(5), started=hours(1), next_run=2, leftover=left))
    assert decision.run == DesiredRun(2, suspend=True, zone="gb")
    assert condition(decision.status, ConditionType.RUNNING) == ("False", "PodEnding")


def test_a_run_that_the_server_refuses_is_told() -> None:
    held = Obstacle("RunRefused", "the API server refuses the run's Job: exceeded quota")
    decision = decide(a_snapshot(held=held))
    assert decision.status.state is State.PLANNED
    assert condition(decision.status, ConditionType.RUNNING) == ("False", "RunRefused")
    assert "quota" in decision.status.message


def test_a_pause_names_the_pod_that_does_not_end() -> None:
    held = Obstacle("PodNotEnding", "pod x does not end: node y may be down")
    run = a_run(suspend=True, active=1, obstacle=held)
    decision = decide(a_snapshot(run=run, started=hours(1)))
    assert decision.status.state is State.SUSPENDED
    assert condition(decision.status, ConditionType.SUSPENDED) == ("True", "Plan")
    assert condition(decision.status, ConditionType.RUNNING) == ("False", "PodNotEnding")


@pytest.mark.parametrize("now", [hours(5), hours(8)], ids=["in its window", "after it"])
def test_a_pod_that_does_not_end_is_told_whoever_deleted_it(now: datetime) -> None:
    lost = Obstacle("PodNotEnding", "pod x does not end: node y may be down")
    run = a_run(suspend=False, active=1, obstacle=lost)
    decision = decide(a_snapshot(now=now, run=run, started=hours(1)))
    assert decision.status.state is State.SUSPENDED
    assert condition(decision.status, ConditionType.RUNNING) == ("False", "PodNotEnding")
    assert decision.run is not None
    assert decision.run.number == run.number


def test_a_job_ended_when_its_attempt_did_not_when_that_was_seen() -> None:
    run = a_run(end=RunEnd.FAILED, reason="BackoffLimitExceeded")
    ended = decide(a_snapshot(now=hours(9), run=run, started=hours(0), ended=hours(2)))
    assert ended.status.completion_time == hours(2)


def test_a_pods_words_cannot_move_the_readers_cursor() -> None:
    run = a_run(end=RunEnd.FAILED, reason="InvalidTask", message="gone\x1b[2J\nwrong\u202e")
    status = decide(a_snapshot(run=run, started=hours(0))).status
    assert status.message == "gone [2J wrong "
    progress = Progress(percentage=3, phase="epoch\r9")
    working = decide(a_snapshot(run=WORKING, started=hours(0), progress=progress)).status
    assert working.progress is not None
    assert working.progress.phase == "epoch 9"


def test_silence_is_told_only_of_a_pod_that_runs() -> None:
    silent = decide(a_snapshot(run=WORKING, started=hours(0), progress_problem="silent")).status
    assert condition(silent, ConditionType.PROGRESS_AVAILABLE)[0] == "False"
    paused = decide(a_snapshot(run=a_run(), started=hours(0), previous=silent)).status
    assert ConditionType.PROGRESS_AVAILABLE not in {c.type for c in paused.conditions}
