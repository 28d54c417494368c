"""Events: what a person wants to be told, once for each transition between two statuses."""

from __future__ import annotations

from dataclasses import dataclass

from green_api.status import Condition, ConditionStatus, ConditionType, JobStatus, State

from green_operator.lifecycle.types import POD_NOT_ENDING

_NORMAL, _WARNING = "Normal", "Warning"


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a job."""

    type: str
    """Normal or Warning."""
    reason: str
    message: str


def transitions(previous: JobStatus | None, status: JobStatus) -> list[Event]:
    """What became different; nothing for a status that says the same."""
    events = []
    if previous is None or previous.state is not status.state:
        events += _state(previous, status)
    before = {c.type: c for c in previous.conditions} if previous else {}
    for condition in status.conditions:
        old = before.get(condition.type)
        if old is None or (old.status, old.reason) != (condition.status, condition.reason):
            events += _condition(condition, old)
    return events


def _state(previous: JobStatus | None, status: JobStatus) -> list[Event]:
    match status.state:
        case State.PLANNED:
            return [Event(_NORMAL, "Planned", status.message)]
        case State.RUNNING:
            resumed = previous is not None and previous.state is State.SUSPENDED
            return [Event(_NORMAL, "Resumed" if resumed else "Started", status.message)]
        case State.SUSPENDED if _is_paused(status):
            return [Event(_NORMAL, "Suspended", status.message)]
        case State.SUCCEEDED:
            return [Event(_NORMAL, "Succeeded", status.message)]
        case State.FAILED:
            return [Event(_WARNING, "Failed", status.message)]
        case State.ACCEPTED | State.SUSPENDED:
            return []


def _is_paused(status: JobStatus) -> bool:
    """By the plan or by a person; not one whose pod is only on its way."""
    kind, holds = ConditionType.SUSPENDED, ConditionStatus.TRUE
    return any(c.type is kind and c.status is holds for c in status.conditions)


def _condition(condition: Condition, old: Condition | None) -> list[Event]:
    holds = condition.status is ConditionStatus.TRUE
    match condition.type:
        case ConditionType.DEADLINE_AT_RISK if holds:
            return [Event(_WARNING, "DeadlineAtRisk", condition.message)]
        case ConditionType.INTENSITY_AVAILABLE if not holds:
            return [Event(_WARNING, condition.reason, condition.message)]
        case ConditionType.INTENSITY_AVAILABLE if old is not None:
            return [Event(_NORMAL, condition.reason, condition.message)]
        case ConditionType.PROGRESS_AVAILABLE if not holds:
            return [Event(_WARNING, condition.reason, condition.message)]
        case ConditionType.ACCEPTED | ConditionType.ZONE_AS_PLANNED if not holds:
            return [Event(_WARNING, condition.reason, condition.message)]
        case ConditionType.CLAIM_BOUND | ConditionType.SIGNAL_CONSISTENT if not holds:
            return [Event(_WARNING, condition.reason, condition.message)]
        case ConditionType.STALLED if holds:
            return [Event(_WARNING, "Stalled", condition.message)]
        case ConditionType.STALLED if old is not None:
            return [Event(_NORMAL, "GoesOn", "there are enough sites for a round again")]
        case ConditionType.RUNNING if condition.reason in OBSTACLES:
            return [Event(_WARNING, condition.reason, condition.message)]
    return []


OBSTACLES = frozenset(
    {
        "Unschedulable",
        "ImagePullFailed",
        "ContainerNotStarted",
        "PodNotCreated",
        "RunRefused",
        POD_NOT_ENDING,
        "Retrying",
    }
)
"""Reasons of a pod that does not work although it should, or does not go."""
