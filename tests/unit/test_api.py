"""Requests to an API server: in turn, as late as it asks, and with an eye on its clock."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate

import pytest
from aiohttp import web
from green_api.config import RequestLimits
from green_operator.cluster.api import JOBS, Api, ApiError, Throttle
from green_operator.metrics import Metrics, OperatorMetrics
from kubernetes.aio.client import Configuration

Answer = Callable[[], web.Response]


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was waited for, which takes no time here."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        if seconds:  # the server beside us lets others have their turn
            slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return slept


def ask(
    answers: list[Answer],
    what: Callable[[Api], Awaitable[object]],
    fence: Callable[[], None] = lambda: None,
) -> OperatorMetrics:
    """Ask a server that gives these answers one after the other."""
    metrics = OperatorMetrics(Metrics().registry)

    async def serve(_: web.Request) -> web.Response:
        return answers.pop(0)()

    async def go() -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", serve)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        configuration = Configuration(host=f"http://127.0.0.1:{port}")
        api = Api(configuration, metrics, None, fence)
        try:
            await what(api)
        finally:
            await api.close()
            await runner.cleanup()

    asyncio.run(go())
    return metrics


def listed(**headers: str) -> Answer:
    return lambda: web.json_response({"items": [], "metadata": {}}, headers=headers)


def busy(seconds: int) -> Answer:
    return lambda: web.json_response({}, status=429, headers={"Retry-After": str(seconds)})


def test_a_burst_passes_and_what_follows_waits_its_turn(sleeps: list[float]) -> None:
    async def go() -> None:
        throttle = Throttle(RequestLimits(per_second=10, burst=2))
        for _ in range(5):
            await throttle.pass_one()

    asyncio.run(go())
    assert sleeps == pytest.approx([0.1, 0.2, 0.3], abs=0.02)


def test_a_busy_server_is_left_alone_as_long_as_it_asks(sleeps: list[float]) -> None:
    ask([busy(7), busy(45), listed()], lambda api: api.probe(JOBS))
    assert sleeps == [7, 45]


def test_one_that_stays_busy_is_left_to_the_queues_patience(sleeps: list[float]) -> None:
    with pytest.raises(ApiError) as caught:
        ask([busy(1)] * 4, lambda api: api.probe(JOBS))
    assert caught.value.status == 429
    assert sleeps == [1, 1, 1]


@pytest.mark.parametrize(("ahead", "warns"), [(0, False), (20, False), (95, True), (-95, True)])
def test_a_clock_that_is_off_is_told(
    ahead: float, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    date = formatdate(time.time() - ahead, usegmt=True)
    with caplog.at_level(logging.WARNING, logger="green_operator"):
        metrics = ask([listed(Date=date)] * 3, _three)
    assert metrics.clock_offset._value.get() == pytest.approx(ahead, abs=3)
    told = [r.message for r in caplog.records if "NTP" in r.message]
    assert len(told) == (1 if warns else 0), "once, not at each request"


async def _three(api: Api) -> None:
    for _ in range(3):
        await api.probe(JOBS)


OBJECT = {"metadata": {"name": "shrink", "namespace": "team-a", "resourceVersion": "7"}}
WRITES: dict[str, Callable[[Api], Awaitable[object]]] = {
    "create": lambda api: api.create(JOBS, OBJECT),
    "patch": lambda api: api.patch(JOBS, "team-a", "shrink", OBJECT),
    "apply_status": lambda api: api.apply_status(JOBS, "team-a", "shrink", OBJECT),
    "delete": lambda api: api.delete(JOBS, "team-a", "shrink", "uid"),
    "replace": lambda api: api.replace(JOBS, OBJECT),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_who_may_not_write_sends_nothing_and_may_look(
    write: Callable[[Api], Awaitable[object]],
) -> None:
    def fence() -> None:
        raise RuntimeError("the lease may be another's")

    answers = [listed(), listed()]

    async def look_and_write(api: Api) -> None:
        await api.probe(JOBS)
        await write(api)

    with pytest.raises(ApiError, match="no answer"):
        ask(answers, look_and_write, fence)
    assert len(answers) == 1, "the write reached the server"
    ask(answers, write)
    assert answers == [], "who may write does"
