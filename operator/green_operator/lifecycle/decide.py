"""From what was seen to what follows: ordered checks, the first that speaks decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from green_api.job import OnDeadlineMissed
from green_api.status import JobStatus, State

from green_operator.lifecycle.status import PERSON, PLAN, STARTING, build_status
from green_operator.lifecycle.types import Decision, DesiredRun, RunEnd, Snapshot
from green_operator.plan.explain import explain


@dataclass(frozen=True, slots=True)
class Verdict:
    """A state with its reason, and the run that ought to exist."""

    state: State
    reason: str
    message: str
    run: DesiredRun | None = None


def decide(snapshot: Snapshot) -> Decision:
    """Decide what state a job is in and which run it ought to have."""
    if snapshot.previous is not None and snapshot.previous.state.is_final:
        # A final state stays as it was told, whatever becomes of pods and providers.
        generation = {"observed_generation": snapshot.job.metadata.generation}
        status = snapshot.previous.model_copy(update=generation)
        return Decision(status, None, _expires(snapshot, status))
    verdict = next(v for check in _CHECKS if (v := check(snapshot)) is not None)
    status = build_status(snapshot, verdict.state, verdict.reason, verdict.message)
    return Decision(status, verdict.run, _expires(snapshot, status))


def _expires(snapshot: Snapshot, status: JobStatus) -> datetime | None:
    ttl = snapshot.job.spec.ttl_seconds_after_finished
    if ttl is None or status.completion_time is None:
        return None
    return status.completion_time + timedelta(seconds=ttl)


def _closing(snapshot: Snapshot) -> Verdict | None:
    """The server has ended; sites that hear of it end by themselves, the others are told to."""
    run = snapshot.run
    if run is None or run.closing is None:
        return None
    message = "the training is over; waits until its sites have ended"
    is_told = run.closing is RunEnd.FAILED or snapshot.closing_late
    return Verdict(State.RUNNING, "Closing", message, _same_run(snapshot, is_told))


def _complete(snapshot: Snapshot) -> Verdict | None:
    """Success needs exit 0 and the done-marker; without it another run follows, up to retries."""
    run = snapshot.run
    if run is None or run.end is not RunEnd.COMPLETE:
        return None
    if run.summary is not None and run.summary.report_sha256 is not None:
        return Verdict(State.SUCCEEDED, "Completed", run.summary.message)
    if run.number <= snapshot.job.spec.retries:
        message = f"run {run.number} ended without its done-marker; another one follows"
        return Verdict(State.ACCEPTED, "NoDoneMarker", message, DesiredRun(run.number + 1, True))
    message = f"{run.number} runs exited 0 without their done-marker"
    return Verdict(State.FAILED, "NoDoneMarker", message)


def _failed(snapshot: Snapshot) -> Verdict | None:
    run = snapshot.run
    if run is None or run.end is not RunEnd.FAILED:
        return None
    return Verdict(State.FAILED, run.reason, run.message)


def _deadline_missed(snapshot: Snapshot) -> Verdict | None:
    fails = snapshot.job.spec.schedule.on_deadline_missed is OnDeadlineMissed.FAIL
    if not fails or snapshot.deadline is None or snapshot.now < snapshot.deadline:
        return None
    message = "the deadline has passed; its checkpoints stay on the claim"
    if snapshot.run is not None and snapshot.run.active:
        # It fails once its last attempt is gone, so that no figure is missing.
        return Verdict(State.RUNNING, "DeadlineExceeded", message, _same_run(snapshot, True))
    return Verdict(State.FAILED, "DeadlineExceeded", message)


def _paused_by_person(snapshot: Snapshot) -> Verdict | None:
    if not snapshot.job.spec.suspend:
        return None
    message = "paused by spec.suspend; set it to false to go on"
    return Verdict(_waiting_state(snapshot), PERSON, message, _same_run(snapshot, True))


def _held(snapshot: Snapshot) -> Verdict | None:
    """The API server does not take the run as it is, or whoever runs jobs here stops."""
    held = snapshot.held
    if held is None:
        return None
    run = _same_run(snapshot, True)
    return Verdict(_waiting_state(snapshot), held.reason, held.message, run)


def _in_window(snapshot: Snapshot) -> Verdict | None:
    """Its plan says now, or it has begun and cannot be interrupted."""
    plan = snapshot.plan
    begun = snapshot.started is not None and not snapshot.job.spec.schedule.interruptible
    if plan is None or not (begun or plan.runs_at(snapshot.now)):
        return None
    message = explain(plan, snapshot.now) if not begun else "Runs to its end without a pause."
    run = snapshot.run
    if run is not None and run.lost:
        message = f"{message} {run.lost}"
    if run is not None and run.running and not run.suspend:
        return Verdict(State.RUNNING, plan.reason.value, message, _same_run(snapshot, False))
    # Resume only when nothing is active or terminating: two pods would write to one claim.
    leftover = snapshot.leftover
    wait = (run is not None and run.suspend and run.active > 0) or leftover is not None
    obstacle = leftover or (run.obstacle if run is not None else None)
    if obstacle is not None:
        return Verdict(
            _waiting_state(snapshot), obstacle.reason, obstacle.message, _same_run(snapshot, wait)
        )
    message = f"Starting. {message}"
    return Verdict(_waiting_state(snapshot), STARTING, message, _same_run(snapshot, wait))


def _waiting(snapshot: Snapshot) -> Verdict | None:
    plan = snapshot.plan
    if plan is None:
        return None
    message = explain(plan, snapshot.now)
    return Verdict(_waiting_state(snapshot), PLAN, message, _same_run(snapshot, True))


def _not_planned(snapshot: Snapshot) -> Verdict | None:
    del snapshot
    return Verdict(State.ACCEPTED, "NotPlanned", "it is not planned yet")


def _waiting_state(snapshot: Snapshot) -> State:
    return State.SUSPENDED if snapshot.started else State.PLANNED


def _same_run(snapshot: Snapshot, suspend: bool) -> DesiredRun:
    number = snapshot.run.number if snapshot.run else snapshot.next_run
    return DesiredRun(number, suspend, snapshot.plan.zone if snapshot.plan else None)


_CHECKS: Final[tuple[Callable[[Snapshot], Verdict | None], ...]] = (
    _closing,
    _complete,
    _failed,
    _deadline_missed,
    _paused_by_person,
    _held,
    _in_window,
    _waiting,
    _not_planned,
)
