"""Watching with kopf: events only fill the index and touch a key. The only importer of kopf.

kopf is kept lean: it stores nothing on objects, posts no events, watches neither definitions nor
namespaces, and reads the first list in pages. With 10,000 jobs that is 118 MB instead of 665.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import kopf
from green_api import GROUP, VERSION
from kopf import DiffBaseStorage, ProgressStorage, RawBody

# What kopf.operator takes as `insights` and `memories` has no public name.
from kopf._cogs.structs.references import Insights, NamespaceName
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory
from kubernetes.aio.client import Configuration

from green_operator.cluster.api import UNCOMPRESSED
from green_operator.cluster.index import Index, Key
from green_operator.cluster.namespaces import Namespaces
from green_operator.cluster.zones import Zones
from green_operator.objects.names import JOB_LABEL


class _NoDiffBase(DiffBaseStorage):
    """kopf's last-seen state: nothing is stored, for nothing is decided by differences."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:  # noqa: ANN401 - kopf's types
        del body, extra_fields
        return {}

    def fetch(self, *, body: Any) -> Any:  # noqa: ANN401
        del body
        return {}

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:  # noqa: ANN401
        del body, patch, essence


class _NoProgress(ProgressStorage):
    """kopf's handler progress: nothing is stored, for handlers cannot fail halfway."""

    def fetch(self, *, key: Any, body: Any) -> None:  # noqa: ANN401
        del key, body

    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:  # noqa: ANN401
        del key, record, body, patch

    def purge(self, *, key: Any, body: Any, patch: Any) -> None:  # noqa: ANN401
        del key, body, patch

    def touch(self, *, body: Any, patch: Any, value: Any) -> None:  # noqa: ANN401
        del body, patch, value

    def clear(self, *, essence: Any) -> Any:  # noqa: ANN401
        return copy.deepcopy(essence)


class _NoMemories(ResourceMemories):
    """What kopf remembers of each object for handlers that are tried again: 1.5 kB, for nothing."""

    async def recall(self, raw_body: RawBody, **options: Any) -> ResourceMemory:  # noqa: ANN401
        return await super().recall(raw_body, **{**options, "ephemeral": True})


def settings() -> kopf.OperatorSettings:
    """Kopf as this operator uses it."""
    lean = kopf.OperatorSettings()
    lean.persistence.diffbase_storage = _NoDiffBase()
    lean.persistence.progress_storage = _NoProgress()
    lean.posting.enabled = False
    lean.scanning.disabled = True
    lean.watching.chunk_size = 200
    lean.watching.label_selectors["batch", "v1", "jobs"] = JOB_LABEL
    lean.watching.label_selectors["", "v1", "pods"] = JOB_LABEL
    lean.queueing.idle_timeout = 0.05
    lean.networking.connect_timeout = 10
    lean.networking.request_timeout = 60
    lean.process.ultimate_exiting_timeout = 30
    return lean


async def connection(configuration: Configuration) -> kopf.AiohttpSession:
    """The server and credentials of our own requests, as fresh as they are; asked again on 401."""
    info = await _credentials(configuration)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
        headers={**info.as_http_headers(), **UNCOMPRESSED},
    )
    return kopf.AiohttpSession(server=info.server, aiohttp_session=session)


async def _credentials(configuration: Configuration) -> kopf.ConnectionInfo:
    header = await configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
    scheme, _, token = (header or "").rpartition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme=scheme or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
    )


def registry(
    configuration: Configuration, index: Index, zones: Zones, touch: Callable[[Key], None]
) -> kopf.OperatorRegistry:
    """Handlers that note what is seen."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    async def login(**_: Any) -> kopf.AiohttpSession:  # noqa: ANN401
        return await connection(configuration)

    @kopf.on.event(GROUP, VERSION, "greentrainingjobs", registry=handlers)
    async def job(event: Mapping[str, Any], **_: Any) -> None:  # noqa: ANN401
        body = event["object"]
        meta = body["metadata"]
        if event["type"] == "DELETED":
            key = (meta["namespace"], meta["name"])
            is_news = index.drop_job(key, meta["uid"])
        else:
            key, is_news = index.put_job(body)
        if is_news:
            touch(key)

    @kopf.on.event("batch", "v1", "jobs", registry=handlers)
    async def run(event: Mapping[str, Any], **_: Any) -> None:  # noqa: ANN401
        key, is_news = index.put_run(event["object"])
        if event["type"] == "DELETED":
            index.drop_run(key, event["object"]["metadata"]["uid"])
        if is_news or event["type"] == "DELETED":
            touch(key)

    @kopf.on.event("", "v1", "pods", registry=handlers)
    async def pod(event: Mapping[str, Any], **_: Any) -> None:  # noqa: ANN401
        key, is_news = index.put_pod(event["object"])
        if event["type"] == "DELETED":
            index.pod_gone(key, event["object"]["metadata"]["uid"])
        if is_news or event["type"] == "DELETED":
            touch(key)

    @kopf.on.event(GROUP, VERSION, "gridzones", registry=handlers)
    async def zone(event: Mapping[str, Any], **_: Any) -> None:  # noqa: ANN401
        if event["type"] == "DELETED":
            zones.drop(event["object"]["metadata"]["name"])
        else:
            zones.put(event["object"])

    return handlers


async def watch(handlers: kopf.OperatorRegistry, namespaces: Namespaces) -> None:
    """Watch until SIGTERM or SIGINT.

    kopf ends where a watch that it (re)connects is refused, so a namespace that is away is taken
    from it. One whose watch breaks off before that was seen ends the process, which begins anew
    with the others.
    """
    insights = Insights()
    # Begun before kopf: it ends what was begun after it.
    following = asyncio.create_task(_follow(namespaces, insights))
    try:
        await kopf.operator(
            registry=handlers,
            settings=settings(),
            memories=_NoMemories(),
            standalone=True,
            clusterwide=not namespaces.available,
            namespaces=namespaces.available,
            insights=insights,
        )
    finally:
        following.cancel()


async def _follow(namespaces: Namespaces, insights: Insights) -> None:
    """Let kopf watch in the namespaces that are there, as its own scan of them would."""
    while True:
        await namespaces.changed.wait()
        namespaces.changed.clear()
        async with insights.revised:
            insights.namespaces.clear()
            insights.namespaces.update(map(NamespaceName, namespaces.available))
            insights.revised.notify_all()
