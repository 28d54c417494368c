"""Named namespaces: which of them can be listed; a sweep keeps what is known of the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from green_operator.cluster.api import JOBS, ApiError, Resource
from green_operator.cluster.index import Index
from green_operator.cluster.namespaces import EVERYWHERE, Namespaces
from green_operator.cluster.sweep import Sweeper
from green_operator.metrics import Metrics, OperatorMetrics


class Server:
    """Lists jobs by namespace; what is not in it is refused."""

    def __init__(self, **jobs: list[str]) -> None:
        self.jobs = jobs
        self.status = 403

    async def probe(self, resource: Resource, namespace: str = "") -> None:
        if namespace not in self.jobs:
            raise ApiError(self.status, "refused")

    async def list(self, resource: Resource) -> AsyncIterator[Any]:
        for none in ():
            yield none

    async def list_news(
        self, resource: Resource, namespace: str, selector: str, is_known: Callable[..., bool]
    ) -> AsyncIterator[tuple[str, Any]]:
        for name in self.jobs[namespace] if resource is JOBS else []:
            meta = {"namespace": namespace, "name": name, "uid": name, "resourceVersion": "1"}
            yield name, {"metadata": meta}


class NoZones:
    names: frozenset[str] = frozenset()


def made(server: Server, *names: str) -> tuple[Namespaces, OperatorMetrics]:
    metrics = OperatorMetrics(Metrics().registry)
    return Namespaces(server, names, metrics), metrics  # type: ignore[arg-type]


def shown(metrics: OperatorMetrics) -> dict[str, float]:
    (family,) = metrics.namespaces.collect()
    return {s.labels["namespace"]: s.value for s in family.samples}


def test_one_that_is_refused_is_away_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(a=[])
    namespaces, metrics = made(server, "a", "b")

    async def scene() -> None:
        assert await namespaces.look() == ["a"]
        assert await namespaces.look() == namespaces.available == ["a"]
        assert shown(metrics) == {"a": 1, "b": 0}
        assert namespaces.changed.is_set()
        server.jobs["b"] = []
        assert await namespaces.look() == ["a", "b"]

    with caplog.at_level(logging.INFO):
        asyncio.run(scene())
    assert [r.levelname for r in caplog.records] == ["WARNING", "INFO"]
    assert "watchNamespaces: b cannot be listed" in caplog.text


def test_a_server_that_does_not_answer_takes_no_namespace_away() -> None:
    server = Server()
    namespaces, _ = made(server, "a")
    server.status = 500
    with pytest.raises(ApiError):
        asyncio.run(namespaces.look())
    assert namespaces.available == ["a"]


def test_where_none_is_named_a_refusal_is_an_error() -> None:
    assert asyncio.run(made(Server(**{EVERYWHERE: []}))[0].look()) == [EVERYWHERE]
    with pytest.raises(ApiError):
        asyncio.run(made(Server())[0].look())


def test_a_sweep_keeps_what_it_knows_of_one_that_is_away() -> None:
    server = Server(a=["one", "two"], b=["three"])
    namespaces, _ = made(server, "a", "b")
    index = Index()
    sweeper = Sweeper(server, index, NoZones(), namespaces)  # type: ignore[arg-type]
    touched: list[tuple[str, str]] = []
    asyncio.run(sweeper.sweep(touched.append))
    assert len(touched) == len(index.jobs) == 3
    server.jobs = {"a": ["one"]}
    asyncio.run(sweeper.sweep(touched.append))
    assert set(index.jobs) == {("a", "one"), ("b", "three")}
    assert touched[3:] == [("a", "two")]
