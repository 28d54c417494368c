"""What is said of a grid zone in its status."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from green_api.status import ConditionStatus
from green_api.zone import ZoneCondition, ZoneConditionType, ZoneStatus

from green_operator.sources.zones import Resolution

_LONGEST: Final = 1024


def zone_status(
    resolution: Resolution,
    problem: str,
    known: ZoneStatus | None,
    generation: int,
    now: datetime,
) -> ZoneStatus:
    """The zone's status; equal to the known one where that says the same.

    Args:
        resolution: what its sources gave.
        problem: why its spec cannot be read; empty where it can.
        known: the status so far.
        generation: of its spec.
        now: when it is said.

    """
    is_in_use = resolution.position is not None
    is_ready = is_in_use and not problem
    status = ConditionStatus.TRUE if is_ready else ConditionStatus.FALSE
    before = next(iter(known.conditions), None) if known is not None else None
    is_same = before is not None and before.status is status
    message = resolution.description
    if problem and is_in_use:
        message = f"{problem}; what was read of it before counts until a restart: {message}"
    ready = ZoneCondition(
        type=ZoneConditionType.READY,
        status=status,
        reason="NotReadable" if problem else _reason(resolution.position),
        message=message[:_LONGEST],
        observed_generation=generation,
        last_transition_time=before.last_transition_time if before and is_same else now,
    )
    return ZoneStatus(source=resolution.source[:_LONGEST] or None, conditions=[ready])


def _reason(position: int | None) -> str:
    if position is None:
        return "NoUsableSource"
    return "FirstSource" if position == 0 else "Fallback"
