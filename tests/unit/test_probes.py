"""The probes: ready is who could act, alive is whose workers finish what they begin."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest
from green_api.config import OperatorConfig
from green_operator.cluster import operator as module
from green_operator.cluster.index import Key
from green_operator.cluster.operator import Operator
from kubernetes.aio.client import Configuration

NOBODY = "http://127.0.0.1:9"


async def _nothing() -> None:
    await asyncio.Event().wait()


def in_a_process(scene: Callable[[Operator], Awaitable[None]]) -> None:
    """With an operator whose API server does not answer."""

    async def run() -> None:
        operator = Operator(Configuration(host=NOBODY), OperatorConfig(), "green", "one")
        running = asyncio.create_task(operator.run(_nothing, _nothing))
        try:
            await scene(operator)
        finally:
            running.cancel()
            await asyncio.wait([running])

    asyncio.run(run())


def test_a_replica_that_has_not_reached_the_api_server_is_not_ready() -> None:
    async def scene(operator: Operator) -> None:
        assert not operator.is_ready()
        await asyncio.sleep(0.1)
        assert not operator.is_ready()
        assert operator.is_alive()

    in_a_process(scene)


def test_a_worker_that_never_comes_back_ends_the_life_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))

    async def hang(key: Key) -> None:
        await asyncio.Event().wait()

    async def scene(operator: Operator) -> None:
        nonlocal now
        now += 3600
        # Idle for an hour is no reason to end.
        assert operator.is_alive()
        monkeypatch.setattr(operator, "_work_on", hang)
        worker = asyncio.create_task(operator._work())
        operator.queue.add(("team-a", "shrink"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(operator.queue) == 0
        now += 299
        assert operator.is_alive()
        now += 2
        assert not operator.is_alive()
        worker.cancel()

    in_a_process(scene)
