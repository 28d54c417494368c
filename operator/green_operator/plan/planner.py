"""The planner's rule: run when it emits least and the deadline is still met.

An interruptible job takes the cleanest slots before the deadline less the outage margin, any other
the cleanest uninterrupted stretch that begins by the latest start (the two strategies of Wiesner et
al., "Let's Wait Awhile", Middleware 2021, with exact lengths). Jobs are planned one at a time; the
interface is the fleet's, so that shared capacity has its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from green_operator.plan.types import (
    Expectation,
    Fleet,
    JobRequest,
    Outlook,
    Plan,
    PlanReason,
    Slot,
    Window,
)
from green_operator.plan.windows import (
    cheapest_block,
    cheapest_slots,
    cover,
    mean_intensity,
    overlap,
    weighted_mean,
)

_FARTHEST: Final = timedelta(days=28)
"""Nobody knows intensity beyond: work is planned so far ahead at most."""


def plan_fleet(fleet: Fleet, now: datetime) -> dict[str, Plan]:
    """Plan every job of the fleet.

    Args:
        fleet: the jobs and what is known of the zones.
        now: the moment of the decision; no window begins before it.

    Returns:
        One plan per job, by its key.

    """
    return {request.key: _plan(request, fleet, now) for request in fleet.requests}


def _plan(request: JobRequest, fleet: Fleet, now: datetime) -> Plan:
    limit = None if request.deadline is None else request.deadline - fleet.outage_margin
    known = [fleet.outlooks[zone] for zone in request.zones if zone in fleet.outlooks]
    # Two signals cannot be compared: the preferred zone's decides which zones take part.
    plans = [
        _plan_in(request, outlook, limit, now)
        for outlook in known
        if outlook.signal is known[0].signal
    ] or [_plan_in(request, None, limit, now)]
    return min(plans, key=_grams)


def _grams(plan: Plan) -> float:
    return plan.expected.emissions.grams if plan.expected.emissions else 0.0


def _plan_in(
    request: JobRequest, outlook: Outlook | None, limit: datetime | None, now: datetime
) -> Plan:
    at_once = [Window(now, now + request.remaining)]
    horizon = min(max(limit or now, now + request.remaining), now + _FARTHEST)
    slots, assumed = cover(outlook.slots, now, horizon) if outlook else ([], timedelta(0))
    reason, windows = _choose(request, slots, limit, at_once)
    return Plan(
        key=request.key,
        reason=reason,
        zone=outlook.zone if outlook else (request.zones[0] if request.zones else None),
        signal=outlook.signal if slots and outlook else None,
        windows=tuple(windows),
        expected=_expect(request, slots, windows),
        run_now=_expect(request, slots, at_once),
        deadline=request.deadline,
        latest_start=None if limit is None else limit - request.remaining,
        assumed=assumed,
    )


def _choose(
    request: JobRequest, slots: Sequence[Slot], limit: datetime | None, at_once: list[Window]
) -> tuple[PlanReason, list[Window]]:
    """The first reason that holds decides."""
    if request.immediately or limit is None:
        return PlanReason.STARTS_IMMEDIATELY, at_once
    slack = limit - at_once[0].end
    if slack < timedelta(0):
        return PlanReason.DEADLINE_AT_RISK, at_once
    if not slots:
        return PlanReason.INTENSITY_UNKNOWN, at_once
    if slack == timedelta(0):
        return PlanReason.LATEST_START_REACHED, at_once
    if at_once[0].end > slots[-1].end:
        # It lasts longer than anything can be planned: no time is cleaner than another.
        return PlanReason.CLEANEST_NOW, at_once
    if request.interruptible:
        windows = cheapest_slots(slots, request.remaining)
    else:
        windows = [cheapest_block(slots, request.remaining)]
    now_is_best = windows == at_once
    return (PlanReason.CLEANEST_NOW if now_is_best else PlanReason.LOWEST_EMISSIONS), windows


def _expect(request: JobRequest, slots: Sequence[Slot], windows: Sequence[Window]) -> Expectation:
    parts = [part for window in windows for part in overlap(slots, window)]
    energy = request.power * request.remaining
    if not parts:
        return Expectation(energy, None, None, None)
    intensity = mean_intensity(parts)
    shares_known = all(part.renewable_share is not None for part in parts)
    renewable = weighted_mean(parts, lambda s: s.renewable_share or 0.0) if shares_known else None
    return Expectation(energy, energy * intensity, intensity, renewable)
