"""A provider of carbon intensity on loopback: real HTTP, answers as scripted."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

HALF_HOUR = timedelta(minutes=30)
HOUR = timedelta(hours=1)
ZERO_MIX = {"wind": 60.3, "nuclear": 39.7}
USUAL_MIX = {
    "gas": 40.0,
    "wind": 30.0,
    "solar": 5.0,
    "hydro": 5.0,
    "biomass": 10.0,
    "imports": 10.0,
}


@dataclass(frozen=True)
class Reply:
    body: object = None
    """Bytes as they are, anything else as JSON."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0


@dataclass(frozen=True)
class Question:
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    time: float


class Provider:
    """Answers by the newest script for a part of the path; the last reply of a script stays."""

    def __init__(self) -> None:
        self.url = ""
        self.questions: list[Question] = []
        self._scripts: list[tuple[str, list[Reply]]] = []

    def script(self, part: str, *replies: Reply) -> None:
        self._scripts = [(p, r) for p, r in self._scripts if p != part]
        self._scripts.insert(0, (part, list(replies)))

    def asked(self, part: str) -> list[Question]:
        return [q for q in self.questions if part in q.path]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.questions.append(
            Question(request.path, dict(request.query), dict(request.headers), time.monotonic())
        )
        replies = next(
            (r for part, r in self._scripts if part in request.path), [Reply(status=404)]
        )
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        await asyncio.sleep(reply.delay)
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        return web.Response(body=body, status=reply.status, headers=dict(reply.headers))


@contextmanager
def serving() -> Iterator[Provider]:
    """A provider in a thread of its own, so that a subprocess can ask it too."""
    provider, started, loop = Provider(), threading.Event(), asyncio.new_event_loop()
    ended = asyncio.Event()

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", provider.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        started.set()
        await ended.wait()
        await runner.cleanup()

    def work() -> None:
        # The runner cancels what a slow reply has left.
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert started.wait(30)
    try:
        yield provider
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(30)


def mix(shares: Mapping[str, float]) -> list[dict[str, Any]]:
    return [{"fuel": fuel, "perc": perc} for fuel, perc in shares.items()]


def neso_point(
    start: datetime, forecast: object, actual: object = None, **fields: Any
) -> dict[str, Any]:
    return {
        "from": f"{start.astimezone(UTC):%Y-%m-%dT%H:%MZ}",
        "to": f"{start.astimezone(UTC) + HALF_HOUR:%Y-%m-%dT%H:%MZ}",
        "intensity": {"forecast": forecast, "actual": actual, "index": "moderate"},
        **fields,
    }


def neso(
    start: datetime, count: int, grams: Callable[[int], float] = lambda _: 200
) -> dict[str, Any]:
    """National half-hours."""
    return {"data": [neso_point(start + i * HALF_HOUR, grams(i)) for i in range(count)]}


def neso_region(region: int, *points: dict[str, Any]) -> dict[str, Any]:
    return {"data": {"regionid": region, "shortname": "Somewhere", "data": list(points)}}


def maps_point(time: datetime | str, grams: object, **fields: Any) -> dict[str, Any]:
    text = time if isinstance(time, str) else time.isoformat(timespec="milliseconds")
    return {
        "datetime": text.replace("+00:00", "Z"),
        "carbonIntensity": grams,
        "updatedAt": "2026-06-01T00:00:00.000Z",
        "emissionFactorType": "lifecycle",
        "isEstimated": False,
        "estimationMethod": None,
        **fields,
    }


def maps_series(
    name: str, start: datetime, count: int, grams: Callable[[int], float] = lambda _: 300
) -> dict[str, Any]:
    points = [maps_point(start + i * HOUR, grams(i)) for i in range(count)]
    return {"zone": "DE", name: points}


def maps_latest(time: datetime, grams: object) -> dict[str, Any]:
    return {"zone": "DE", **maps_point(time, grams)}
