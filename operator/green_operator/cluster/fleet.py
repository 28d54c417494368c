"""One planner for the whole fleet, run when something changed and for what changed.

Requests that arrive together are planned together. A plan stays until its inputs change or one of
its edges is reached: as long as jobs do not share capacity, planning the changed ones alone is
planning the fleet.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from green_operator.cluster.index import Key
from green_operator.metrics import OperatorMetrics
from green_operator.plan.planner import plan_fleet
from green_operator.plan.types import Fleet, JobRequest, Outlook, Plan

_logger = logging.getLogger(__name__)

# The event loop is given back so often: the lease has to be renewed while ten thousand are planned.
_BATCH: Final = 25
_REPLAN_AFTER: Final = timedelta(minutes=5)
"""A job that runs is planned anew so often, for what is left of it is only estimated."""


@dataclass(slots=True)
class _Planned:
    request: JobRequest
    outlooks: tuple[Outlook | None, ...]
    plan: Plan
    until: datetime


class FleetPlanner:
    """Plans for all jobs, each as fresh as its inputs."""

    def __init__(
        self,
        outage_margin: timedelta,
        outlooks: Callable[[], Mapping[str, Outlook]],
        clock: Callable[[], datetime],
        metrics: OperatorMetrics,
    ) -> None:
        self._margin = outage_margin
        self._outlooks = outlooks
        self._clock = clock
        self._metrics = metrics
        self._planned: dict[Key, _Planned] = {}
        self._asked: dict[Key, tuple[JobRequest, asyncio.Future[Plan]]] = {}
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Plan what is asked for, together."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._plan_asked()

    async def plan(self, key: Key, request: JobRequest, *, running: bool) -> Plan:
        """The job's plan; a new one only where its inputs changed or an edge was passed."""
        known = self._planned.get(key)
        if known is not None and self._holds(known, request, running=running):
            return known.plan
        if key in self._asked:
            return await asyncio.shield(self._asked[key][1])
        future: asyncio.Future[Plan] = asyncio.get_running_loop().create_future()
        self._asked[key] = (request, future)
        self._wake.set()
        return await future

    async def replan(self) -> list[Key]:
        """Plan anew what new outlooks concern; the jobs whose plan says something else now.

        All others keep their plan, so that a forecast that moves a little moves nothing here.
        """
        now = self._clock()
        stale = [(k, p) for k, p in self._planned.items() if not self._is_current(p)]
        changed = []
        for begin in range(0, len(stale), _BATCH):
            batch = stale[begin : begin + _BATCH]
            try:
                plans = self._plan_together([planned.request for _, planned in batch], now)
            except Exception:
                # As when they ask by themselves, which they do next: the others' planner goes on.
                _logger.exception("a defect of the planner")
                plans = {}
            for key, planned in batch:
                if self._planned.get(key) is not planned:
                    continue  # it was planned or forgotten meanwhile
                plan = plans.get(planned.request.key)
                # What is left of a job that runs is not what it was when it was planned.
                if plan is None or planned.plan.runs_at(now) or plan.differs_from(planned.plan):
                    del self._planned[key]
                    changed.append(key)
                else:
                    planned.outlooks = self._known(planned.request)
            await asyncio.sleep(0)
        return changed

    def forget(self, key: Key) -> None:
        """The job is gone or has ended."""
        self._planned.pop(key, None)

    def next_edge(self, key: Key) -> datetime | None:
        """When the job's plan has to be looked at again."""
        known = self._planned.get(key)
        return known.until if known is not None else None

    def _holds(self, known: _Planned, request: JobRequest, *, running: bool) -> bool:
        if self._clock() >= known.until or not self._is_current(known):
            return False
        if running:
            # What is left shrinks by the second; the edges bring a new plan soon enough.
            return _steady(known.request) == _steady(request)
        return known.request == request

    def _is_current(self, planned: _Planned) -> bool:
        """By identity: to compare two outlooks slot by slot takes longer than to plan."""
        outlooks = self._known(planned.request)
        return all(a is b for a, b in zip(outlooks, planned.outlooks, strict=True))

    def _known(self, request: JobRequest) -> tuple[Outlook | None, ...]:
        outlooks = self._outlooks()
        return tuple(outlooks.get(zone) for zone in request.zones)

    async def _plan_asked(self) -> None:
        asked, self._asked = self._asked, {}
        items = list(asked.items())
        for begin in range(0, len(items), _BATCH):
            batch = items[begin : begin + _BATCH]
            now = self._clock()
            try:
                plans = self._plan_together([request for _, (request, _) in batch], now)
            except Exception as error:
                # One job that cannot be planned must not end the others' planner.
                _logger.exception("a defect of the planner")
                for _, (_, future) in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for key, (request, future) in batch:
                plan = plans[request.key]
                self._planned[key] = _Planned(
                    request, self._known(request), plan, _next_edge(plan, now)
                )
                if not future.done():
                    future.set_result(plan)
            await asyncio.sleep(0)

    def _plan_together(self, requests: Sequence[JobRequest], now: datetime) -> dict[str, Plan]:
        fleet = Fleet(tuple(requests), self._outlooks(), self._margin)
        with self._metrics.plan_seconds.time():
            return plan_fleet(fleet, now)


def _steady(request: JobRequest) -> object:
    """What of a running job's request does not change by running."""
    return (request.zones, request.deadline, request.interruptible, request.immediately)


def _next_edge(plan: Plan, now: datetime) -> datetime:
    edges = [edge for w in plan.windows for edge in (w.start, w.end) if edge > now]
    if plan.latest_start is not None and plan.latest_start > now:
        edges.append(plan.latest_start)
    soon = now + _REPLAN_AFTER
    return min([*edges, soon]) if plan.runs_at(now) else min(edges, default=soon)
