"""Requests to the Kubernetes API: plain objects, time-outs, kindness and a fence before each write.

The official client's typed models cost several times what these calls do (measured at 1,000 jobs:
5 against 3 ms of CPU a job), so objects are dictionaries here and only the transport is the
package's.
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

import aiohttp
from green_api import API_VERSION
from green_api.config import RequestLimits
from kubernetes.aio.client import ApiClient, Configuration

from green_operator.metrics import OperatorMetrics

Object = dict[str, Any]

FIELD_MANAGER: Final = "green-training"
_TIMEOUT_SECONDS: Final = 15.0
_ATTEMPTS: Final = 4
_LONGEST_WAIT_SECONDS: Final = 60.0
# Plans and deadlines are told by this clock, pods' times by others.
_MOST_OFFSET_SECONDS: Final = 30.0
_PAGE: Final = 200
UNCOMPRESSED: Final = {"Accept-Encoding": "identity"}
"""To unpack what a server beside us has packed was a tenth of the CPU time of a start."""
_WHOLE: Final = "application/json"
_METADATA: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object and where the API has it."""

    prefix: str
    """Such as /apis/batch/v1."""
    plural: str
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The path of a collection, an object or a part of it."""
        parts = [self.prefix]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace)]
        parts.append(self.plural)
        parts += [quote(part) for part in (name, subresource) if part]
        return "/".join(parts)


JOBS: Final = Resource(f"/apis/{API_VERSION}", "greentrainingjobs")
ZONES: Final = Resource(f"/apis/{API_VERSION}", "gridzones", namespaced=False)
RUNS: Final = Resource("/apis/batch/v1", "jobs")
PODS: Final = Resource("/api/v1", "pods")
NODES: Final = Resource("/api/v1", "nodes", namespaced=False)
CLAIMS: Final = Resource("/api/v1", "persistentvolumeclaims")
EVENTS: Final = Resource("/apis/events.k8s.io/v1", "events")
CONFIG_MAPS: Final = Resource("/api/v1", "configmaps")
SECRETS: Final = Resource("/api/v1", "secrets")
SERVICES: Final = Resource("/api/v1", "services")
LEASES: Final = Resource("/apis/coordination.k8s.io/v1", "leases")


class ApiError(Exception):
    """The API server refused, or could not be asked.

    Args:
        status: the HTTP status; 0 where there was no answer.
        message: the server's words.

    """

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class NameTakenError(ApiError):
    """What is there under a name that we need is somebody else's.

    Args:
        what: its kind and name.

    """

    def __init__(self, what: str) -> None:
        super().__init__(409, f"the {what} exists and is not this job's: delete or rename it")


class Throttle:
    """A token bucket: so many requests a second on average, so many at once."""

    def __init__(self, limits: RequestLimits) -> None:
        self._interval = 1.0 / limits.per_second
        self._ahead = limits.burst * self._interval
        self._next = 0.0

    async def pass_one(self) -> None:
        """Wait for this request's turn; turns are given in order."""
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now - self._ahead) + self._interval
        if self._next > now:
            await asyncio.sleep(self._next - now)


class Api:
    """The Kubernetes API as the operator uses it.

    Args:
        configuration: server and credentials.
        metrics: requests are counted there.
        limits: kindness to a shared server; None for requests that must not wait (the Lease).
        fence: called right before each write; it does not return where this process may not write.

    """

    def __init__(
        self,
        configuration: Configuration,
        metrics: OperatorMetrics,
        limits: RequestLimits | None,
        fence: Callable[[], None],
        timeout: float = _TIMEOUT_SECONDS,
        attempts: int = _ATTEMPTS,
    ) -> None:
        self._configuration = copy.copy(configuration)
        self._configuration.trace_configs = [_fenced(fence)]
        self._client = ApiClient(self._configuration)
        self._metrics = metrics
        self._throttle = Throttle(limits) if limits is not None else None
        self._total = aiohttp.ClientTimeout(total=timeout)
        self._attempts = attempts
        self._is_off = False

    async def close(self) -> None:
        """Close the connections."""
        await self._client.rest_client.close()

    async def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """An object, or None where there is none."""
        try:
            return await self._call("GET", resource, resource.path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list(
        self, resource: Resource, namespace: str = "", selector: str = ""
    ) -> AsyncIterator[Object]:
        """All objects of a kind, in pages, so that ten thousand do not stand in memory at once."""
        async for _, body in self.list_news(resource, namespace, selector, lambda _: False):
            if body is not None:
                yield body

    async def list_news(
        self,
        resource: Resource,
        namespace: str,
        selector: str,
        is_known: Callable[[Object], bool],
    ) -> AsyncIterator[tuple[str, Object | None]]:
        """The UID of each object of a kind, with the object itself where it may be news.

        A page is first asked for without spec and status, unless the page before had news: where
        nothing has changed, a list costs a fraction.

        Args:
            resource: the kind.
            namespace: where; everywhere if empty.
            selector: of labels.
            is_known: whether the object with these metadata is known in this version.

        """
        query = {"limit": str(_PAGE)} | ({"labelSelector": selector} if selector else {})
        path, accept = resource.path(namespace), _WHOLE
        while True:
            page = await self._call("GET", resource, path, query, verb="LIST", accept=accept)
            has_news = not all(is_known(item["metadata"]) for item in page["items"])
            if has_news and accept == _METADATA:
                accept = _WHOLE
                continue
            for item in page["items"]:
                yield item["metadata"]["uid"], item if accept == _WHOLE else None
            following = page["metadata"].get("continue")
            if not following:
                return
            query["continue"] = following
            accept = _WHOLE if has_news else _METADATA

    async def probe(self, resource: Resource, namespace: str = "") -> None:
        """Ask whether a kind is served and may be read.

        Raises:
            ApiError: it is not.

        """
        await self._call("GET", resource, resource.path(namespace), {"limit": "1"}, verb="LIST")

    async def create(self, resource: Resource, body: Object) -> Object:
        """Make an object.

        Raises:
            ApiError: 409 where there is one of that name.

        """
        path = resource.path(body["metadata"].get("namespace", ""))
        return await self._call("POST", resource, path, body=body)

    async def patch(self, resource: Resource, namespace: str, name: str, body: Object) -> Object:
        """Change fields (a JSON merge patch); 409 where metadata.resourceVersion is an old one."""
        path = resource.path(namespace, name)
        return await self._call(
            "PATCH", resource, path, body=body, content="application/merge-patch+json"
        )

    async def apply_status(
        self, resource: Resource, namespace: str, name: str, body: Object
    ) -> Object:
        """Server-side apply of a whole status.

        With metadata.resourceVersion: 409 where the object has changed since.
        """
        path = resource.path(namespace, name, "status")
        return await self._call(
            "PATCH", resource, path, {"fieldManager": FIELD_MANAGER, "force": "true"}, body,
            content="application/apply-patch+yaml",
        )  # fmt: skip

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """Delete just this object and, in the background, what it owns; gone is fine."""
        body = {
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        try:
            await self._call("DELETE", resource, resource.path(namespace, name), body=body)
        except ApiError as error:
            if error.status not in {404, 409}:
                raise

    async def replace(self, resource: Resource, body: Object) -> Object:
        """Replace an object; 409 where it has changed since it was read."""
        meta = body["metadata"]
        path = resource.path(meta.get("namespace", ""), meta["name"])
        return await self._call("PUT", resource, path, body=body)

    async def _call(
        self,
        method: str,
        resource: Resource,
        path: str,
        query: dict[str, str] | None = None,
        body: Object | None = None,
        *,
        content: str = "application/json",
        accept: str = _WHOLE,
        verb: str = "",
    ) -> Object:
        for attempt in range(1, self._attempts + 1):
            if self._throttle is not None:
                await self._throttle.pass_one()
            status, payload, wait = await self._ask(method, path, query, body, content, accept)
            self._metrics.requests.labels(verb or method, resource.plural, str(status)).inc()
            if 200 <= status < 300:
                return payload
            # A write that got no answer may have been done: the caller looks again instead.
            is_safe = method == "GET" and (status == 0 or status >= 500)
            if attempt == self._attempts or not (status == 429 or is_safe):
                raise ApiError(status, str(payload.get("message", ""))[:300])
            await asyncio.sleep(min(wait or 0.2 * 2**attempt, _LONGEST_WAIT_SECONDS))
        raise AssertionError("the last attempt returns or raises")

    async def _ask(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None,
        body: Object | None,
        content: str,
        accept: str,
    ) -> tuple[int, Object, float | None]:
        url = self._configuration.host + path + (f"?{urlencode(query)}" if query else "")
        headers = {**UNCOMPRESSED, "Accept": accept, "Content-Type": content}
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        try:
            response = await self._client.call_api(
                method, url, headers, body, _request_timeout=self._total
            )
            raw: bytes = await response.response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return 0, {"message": f"no answer: {type(error).__name__}"}, None
        self._compare_clocks(response.headers.get("Date"))
        wait = response.headers.get("Retry-After", "")
        return response.status, _decoded(raw), float(wait) if wait.isdigit() else None

    def _compare_clocks(self, date: str | None) -> None:
        try:
            server = parsedate_to_datetime(date or "").timestamp()
        except ValueError:
            return
        offset = time.time() - server
        self._metrics.clock_offset.set(offset)
        is_off = abs(offset) > _MOST_OFFSET_SECONDS
        if is_off and not self._is_off:
            _logger.warning(
                "the clock here and the API server's are %.0f s apart: keep both with NTP", offset
            )
        self._is_off = is_off


def _fenced(fence: Callable[[], None]) -> aiohttp.TraceConfig:
    """Calls the fence when the body of a write is about to go out; every write has a body.

    aiohttp calls this hook before it hands headers and body to the socket and waits for nothing in
    between, so that a process that was stopped meanwhile sends nothing when it goes on.
    """
    trace = aiohttp.TraceConfig()

    async def sending(_: Any, __: Any, part: aiohttp.TraceRequestChunkSentParams) -> None:  # noqa: ANN401
        if part.method != "GET":
            fence()

    trace.on_request_chunk_sent.append(sending)
    return trace


def _decoded(raw: bytes) -> Object:
    try:
        decoded = json.loads(raw)
    except ValueError:
        return {"message": raw[:200].decode(errors="replace")}
    return decoded if isinstance(decoded, dict) else {}
