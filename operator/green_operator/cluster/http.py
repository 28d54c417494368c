"""Probes and scrapes."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from green_operator.cluster.operator import Operator

# Prometheus says it, and those who scrape in its way.
_SCRAPES: Final = "X-Prometheus-Scrape-Timeout-Seconds"


async def serve(operator: Operator, port: int) -> None:
    """Answer ``/metrics``, ``/livez`` and ``/readyz`` until cancelled."""
    one_at_a_time = asyncio.Lock()

    async def metrics(request: web.Request) -> web.Response:
        async with one_at_a_time:
            operator.collect()
            operator.metrics.answer(prometheus=_SCRAPES in request.headers)
            # In a thread: with thousands of jobs it takes longer than a lease may wait.
            body = await asyncio.to_thread(generate_latest, operator.metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def livez(_: web.Request) -> web.Response:
        return _verdict(operator.is_alive(), "no job was finished for too long")

    async def readyz(_: web.Request) -> web.Response:
        return _verdict(
            operator.is_ready(),
            "the CRDs or the cluster were not listed yet",
        )

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, None, port).start()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def _verdict(holds: bool, otherwise: str) -> web.Response:
    return web.Response(text="ok" if holds else otherwise, status=200 if holds else 503)
