"""New forecasts: only jobs whose plan says something else are looked at, and none is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from green_api.units import Power
from green_operator.cluster import fleet
from green_operator.cluster.index import Key
from green_operator.metrics import Metrics, OperatorMetrics
from green_operator.plan.types import JobRequest

from tests.unit.factories import T0, hours, outlook

KEY = ("team-a", "shrink")
FIRST = (400, 100, 400, 400, 400, 400)
REQUEST = JobRequest("shrink", ("gb",), timedelta(hours=1), Power(1), hours(6), interruptible=True)


def changed_by(grams: Sequence[float], monkeypatch: pytest.MonkeyPatch | None = None) -> list[Key]:
    """The jobs that a new forecast concerns; with a planner that fails where it may be patched."""
    known = {"gb": outlook(FIRST)}
    metrics = OperatorMetrics(Metrics().registry)
    planner = fleet.FleetPlanner(timedelta(0), lambda: known, lambda: T0, metrics)

    async def run() -> list[Key]:
        planning = asyncio.create_task(planner.run())
        await planner.plan(KEY, REQUEST, running=False)
        known["gb"] = outlook(grams)
        if monkeypatch is not None:
            monkeypatch.setattr(fleet, "plan_fleet", lambda *_: 1 / 0)
        changed = await planner.replan()
        planning.cancel()
        return changed

    return asyncio.run(run())


def test_a_forecast_that_moves_a_little_concerns_nobody() -> None:
    assert changed_by((400, 101, 400, 400, 400, 400)) == []


def test_a_forecast_that_moves_the_plan_concerns_the_job() -> None:
    assert changed_by((400, 400, 100, 400, 400, 400)) == [KEY]


def test_a_defect_of_the_planner_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert changed_by(FIRST, monkeypatch) == [KEY]
