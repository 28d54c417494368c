"""From what was seen to what follows: ordered checks, the first that speaks decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from green_api.job import OnDeadlineMissed
from green_api.status import ConditionType, State

from green_operator.lifecycle.status import build_status
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
    verdict = next(v for check in _CHECKS if (v := check(snapshot)) is not None)
    status = build_status(snapshot, verdict.state, verdict.reason, verdict.message)
    return Decision(status, verdict.run)


def _ended_before(snapshot: Snapshot) -> Verdict | None:
    """A final state stays."""
    previous = snapshot.previous
    if previous is None or not previous.state.is_final:
        return None
    ended = ConditionType(previous.state.value)
    reason = next(c.reason for c in previous.conditions if c.type is ended)
    return Verdict(previous.state, reason, previous.message)


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
    state = State.SUSPENDED if snapshot.started else State.PLANNED
    message = "paused by spec.suspend; set it to false to go on"
    return Verdict(state, "Person", message, _same_run(snapshot, True))


def _in_window(snapshot: Snapshot) -> Verdict | None:
    """Its plan says now, or it has begun and cannot be interrupted."""
    plan = snapshot.plan
    begun = snapshot.started is not None and not snapshot.job.spec.schedule.interruptible
    if plan is None or not (begun or plan.runs_at(snapshot.now)):
        return None
    active = snapshot.run is not None and snapshot.run.active > 0
    state = State.RUNNING if active else State.PLANNED
    message = explain(plan, snapshot.now) if not begun else "Runs to its end without a pause."
    return Verdict(state, plan.reason.value, message, _same_run(snapshot, False))


def _waiting(snapshot: Snapshot) -> Verdict | None:
    plan = snapshot.plan
    if plan is None:
        return None
    state = State.SUSPENDED if snapshot.started else State.PLANNED
    return Verdict(state, "Plan", explain(plan, snapshot.now), _same_run(snapshot, True))


def _not_planned(snapshot: Snapshot) -> Verdict | None:
    del snapshot
    return Verdict(State.ACCEPTED, "NotPlanned", "it is not planned yet")


def _same_run(snapshot: Snapshot, suspend: bool) -> DesiredRun:
    return DesiredRun(snapshot.run.number if snapshot.run else 1, suspend)


_CHECKS: Final[tuple[Callable[[Snapshot], Verdict | None], ...]] = (
    _ended_before,
    _complete,
    _failed,
    _deadline_missed,
    _paused_by_person,
    _in_window,
    _waiting,
    _not_planned,
)
