"""The cluster's zones: what is said of them, and which one a node draws from."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from green_api.base import Signal
from green_api.status import ConditionStatus
from green_operator.cluster.api import CONFIG_MAPS, NODES, Resource
from green_operator.cluster.zones import News, Zones
from green_operator.feeds.providers import Endpoints
from green_operator.metrics import Metrics, OperatorMetrics
from green_operator.objects.zone_status import zone_status
from green_operator.sources.history import History
from green_operator.sources.zones import Resolution

from tests.unit.factories import HOUR, T0, hours, outlook

STATIC = {"static": {"gramsPerKilowattHour": 200, "signal": "AverageLifecycle"}}
TRACE = {"trace": {"configMapKeyRef": {"name": "day", "key": "csv"}, "signal": "AverageLifecycle"}}


class Server:
    """Nodes by name; keeps the statuses that are written."""

    def __init__(self, **nodes: dict[str, str]) -> None:
        self.nodes = nodes
        self.said: list[dict[str, Any]] = []
        self.stored: dict[str, Any] = {}

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        if resource is CONFIG_MAPS:
            return self.stored or None
        if resource is not NODES or name not in self.nodes:
            return None
        return {"metadata": {"labels": self.nodes[name]}}

    async def create(self, resource: Resource, body: dict[str, Any]) -> None:
        assert resource is CONFIG_MAPS
        self.stored = body

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: dict[str, Any]
    ) -> None:
        assert resource is CONFIG_MAPS
        self.stored = {**self.stored, **body}

    async def apply_status(
        self, resource: Resource, namespace: str, name: str, body: dict[str, Any]
    ) -> None:
        self.said.append(body)


def zones_of(server: Server, clock: Callable[[], datetime] = lambda: T0) -> Zones:
    metrics = Metrics()
    return Zones(
        server, "green", None, Endpoints(), (metrics, OperatorMetrics(metrics.registry)),  # type: ignore[arg-type]
        clock,
    )  # fmt: skip


def a_zone(name: str, *sources: object, status: object = None, **spec: object) -> dict[str, Any]:
    body = {
        "apiVersion": "greentraining.io/v1alpha1",
        "kind": "GridZone",
        "metadata": {"name": name, "generation": 3},
        "spec": {"sources": list(sources) or [STATIC], **spec},
    }
    return body | ({"status": status} if status else {})


def condition(body: dict[str, Any]) -> dict[str, Any]:
    (found,) = body["status"]["conditions"]
    return dict(found)


# What is said.


@pytest.mark.parametrize(
    ("resolution", "status", "reason"),
    [
        (Resolution(outlook([1]), None, "ukNeso", None, 0, "ukNeso"), "True", "FirstSource"),
        (Resolution(outlook([1]), None, "static", None, 1, "static"), "True", "Fallback"),
        (Resolution(None, None, "no source is usable"), "False", "NoUsableSource"),
    ],
)
def test_a_condition_says_which_source_is_in_use(
    resolution: Resolution, status: str, reason: str
) -> None:
    said = zone_status(resolution, "", None, 1, T0)
    (ready,) = said.conditions
    assert (ready.status, ready.reason, ready.message) == (status, reason, resolution.description)
    assert said.source == (resolution.source or None)


def test_the_time_of_a_condition_is_that_of_its_last_change() -> None:
    good = Resolution(outlook([1]), None, "ukNeso", None, 0, "ukNeso")
    fallback = Resolution(outlook([1]), None, "static", None, 1, "static")
    first = zone_status(good, "", None, 1, T0)
    assert zone_status(good, "", first, 1, hours(1)) == first
    second = zone_status(fallback, "", first, 1, hours(1))
    assert second.conditions[0].last_transition_time == T0
    third = zone_status(Resolution(None, None, "none"), "", second, 1, hours(2))
    assert third.conditions[0].status is ConditionStatus.FALSE
    assert third.conditions[0].last_transition_time == T0 + 2 * HOUR


def test_a_status_is_written_where_it_is_new_and_only_there() -> None:
    server = Server()
    zones = zones_of(server)

    async def scene() -> None:
        zones.put(a_zone("gb"))
        for _ in range(3):
            await zones.refresh()
            await zones._tell()
        # As the watch brings it back, and as a new process finds it.
        (said,) = server.said
        zones.put(a_zone("gb", status=said["status"]))
        other = zones_of(server, lambda: hours(5))
        other.put(a_zone("gb", status=said["status"]))
        for each in (zones, other):
            await each.refresh()
            await each._tell()

    asyncio.run(scene())
    (said,) = server.said
    assert said["status"]["source"] == "static 200 g/kWh"
    assert condition(said)["observedGeneration"] == 3
    assert condition(said)["status"] == "True"


def test_two_releases_that_see_a_zone_otherwise_do_not_answer_each_other() -> None:
    server = Server()
    zones = zones_of(server)

    async def scene() -> None:
        zones.put(a_zone("gb"))
        for _ in range(3):
            await zones.refresh()
            await zones._tell()
            other = {"source": "another", "conditions": []}
            zones.put(a_zone("gb", status=other))

    asyncio.run(scene())
    assert len(server.said) == 1


def test_a_zone_that_was_made_anew_is_told_of_again() -> None:
    server = Server()
    zones = zones_of(server)

    async def scene() -> None:
        for _ in range(2):
            zones.put(a_zone("gb"))
            await zones.refresh()
            await zones._tell()

    asyncio.run(scene())
    assert len(server.said) == 2


def test_a_fallback_is_told_once_in_the_status_and_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server()
    zones = zones_of(server)

    async def scene() -> None:
        zones.put(a_zone("gb", TRACE, STATIC))
        for _ in range(2):
            await zones.refresh()
            await zones._tell()

    asyncio.run(scene())
    (said,) = server.said
    assert condition(said)["reason"] == "Fallback"
    assert "trace day/csv: its ConfigMap, or the key in it" in condition(said)["message"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "zone gb: static 200 g/kWh; passed over" in record.getMessage()


def test_several_default_zones_are_told(caplog: pytest.LogCaptureFixture) -> None:
    zones = zones_of(Server())

    async def scene() -> None:
        zones.put(a_zone("gb", default=True))
        assert await zones.refresh() is News.PLACES
        assert caplog.records == []
        zones.put(a_zone("de", default=True))
        for _ in range(2):
            await zones.refresh()

    asyncio.run(scene())
    (record,) = caplog.records
    assert "several zones (de, gb): de counts" in record.getMessage()


def test_a_zone_that_a_newer_version_wrote_is_told_and_mended() -> None:
    server = Server()
    zones = zones_of(server)
    newer = a_zone("gb", {"tide": {"port": "Dover"}})

    async def look(body: dict[str, Any]) -> str:
        zones.put(body)
        await zones.refresh()
        await zones._tell()
        said = condition(server.said[-1])
        assert said["observedGeneration"] == 3
        return f"{said['status']} {said['reason']} {said['message']}"

    async def scene() -> None:
        said = await look(newer)
        assert said.startswith("False NotReadable cannot be read by this version: spec.sources[0]")
        assert "tide" in said
        # Its jobs say the same of it.
        assert "tide" in zones.describe("gb")
        assert not zones.is_known("gb")
        assert await look(a_zone("gb")) == "True FirstSource static 200 g/kWh"
        # What was read goes on to count: its jobs need not all start now.
        said = await look(newer)
        assert said.startswith("False NotReadable")
        assert said.endswith("counts until a restart: static 200 g/kWh")
        assert zones.is_known("gb")
        zones.drop("gb")
        assert zones.names == frozenset()
        await zones.refresh()
        assert "there is no GridZone" in zones.describe("gb")

    asyncio.run(scene())
    assert len(server.said) == 3


# What is kept of it.


def test_a_history_is_stored_once_an_hour_and_only_where_it_has_something_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, observed = T0, [100.0]
    server = Server()
    zones = zones_of(server, lambda: now)
    zones.put(a_zone("gb"))
    monkeypatch.setattr(
        zones._feeds, "history",
        lambda _: History({Signal.AVERAGE_LIFECYCLE: outlook(observed).slots}),
    )  # fmt: skip

    async def scene() -> list[int]:
        nonlocal now
        minutes = []
        for minute in range(5 * 60):
            now = T0 + timedelta(minutes=minute)
            if minute < 150:
                observed.append(100.0 + minute)
            before = server.stored
            await zones.refresh()
            await zones._keep_history()
            if server.stored != before:
                minutes.append(minute)
        return minutes

    assert asyncio.run(scene()) == [0, 60, 120, 180]


# Nodes.


def test_a_node_draws_from_the_zone_that_selects_it_and_one_that_is_gone_from_its_runs() -> None:
    zones = zones_of(Server(near={"region": "fr"}, far={"region": "xx"}))
    zones.put(a_zone("gb", default=True))
    zones.put(a_zone("fr", nodeSelector={"region": "fr"}))

    async def scene() -> None:
        assert await zones.of_node("near", "gb") == "fr"
        assert await zones.of_node("far", "fr") == "gb"
        assert await zones.of_node("gone", "fr") == "fr"
        # Nobody knows where it was.
        assert await zones.of_node("gone", None) == "gb"
        assert await zones.of_node("", "fr") == "fr"

    asyncio.run(scene())
