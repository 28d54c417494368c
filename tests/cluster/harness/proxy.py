"""A proxy between operator and API server that records writes and injects faults.

It speaks plain HTTP to the operator and TLS to the server, forwards headers and bodies as they are
and streams what is streamed. One thread with its own event loop.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import ssl
import threading
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.cluster.harness.processes import free_port

_WRITES: Final = ("POST", "PUT", "PATCH", "DELETE")
_REASONS: Final = {
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}
_MAX_HEAD: Final = 256 * 1024


@dataclass(frozen=True)
class Request:
    """What the operator asked for; ``number`` counts its writes from 1, 0 is one not counted."""

    method: str
    path: str
    query: str
    number: int = 0

    @property
    def is_write(self) -> bool:
        return self.method in _WRITES

    @property
    def is_watch(self) -> bool:
        return self.method == "GET" and "watch=" in self.query

    @property
    def shape(self) -> str:
        """Method and path, with the names of objects and namespaces as stars."""
        return f"{self.method} {_normalised(self.path)}"


def _normalised(path: str) -> str:
    """``/apis/batch/v1/namespaces/*/jobs/*/status``."""
    match = re.fullmatch(
        r"(/api/v1|/apis/[^/]+/[^/]+)(/namespaces/[^/]+)?(/[^/]+)?(/[^/]+)?(/.+)?", path
    )
    if match is None:
        return path
    root, namespace, plural, name, rest = match.groups(default="")
    if namespace and not plural:  # the namespace itself
        return f"{root}/namespaces/*"
    return root + ("/namespaces/*" if namespace else "") + plural + ("/*" if name else "") + rest


class Action(Enum):
    """What happens to a request."""

    KILL_BEFORE = auto()
    """SIGKILL to the process; the server never sees the request."""
    KILL_AFTER = auto()
    """The server has done it, then SIGKILL; the answer is lost."""
    ANSWER = auto()
    """Answered with a status of our own; the server never sees it."""
    ANSWER_AFTER = auto()
    """The server has done it; what comes back is a status of our own."""
    HANG = auto()
    """Taken and never answered; the server never sees it."""
    HANG_AFTER = auto()
    """The server has done it; no answer ever comes."""
    DROP = auto()
    """The connection is closed; the server never sees it."""
    DROP_AFTER = auto()
    """The server has done it; the connection is closed without an answer."""
    SILENT_WATCH = auto()
    """The watch is accepted, and nothing is ever sent."""
    BROKEN_WATCH = auto()
    """The watch is accepted, tells an error and ends, as an API server ends one that is too old."""


@dataclass
class Fault:
    """One fault: for which requests, how often, and what.

    Args:
        action: what happens.
        when: which requests.
        times: for so many of them; -1 is all.
        skip: let so many of them through first.
        status: the HTTP status of ANSWER.
        retry_after: seconds, as a header of it.
        pid: whom to kill; asked when it is time.

    """

    action: Action
    when: Callable[[Request], bool] = lambda request: request.number > 0
    times: int = 1
    skip: int = 0
    status: int = 500
    retry_after: int | None = None
    pid: Callable[[], int] | None = None
    hits: list[Request] = field(default_factory=list)
    """The requests that it met."""

    def takes(self, request: Request) -> bool:
        if self.times == 0 or not self.when(request):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= self.times > 0
        self.hits.append(request)
        return True


def is_about_work(request: Request) -> bool:
    """Writes but those that come by the clock: leases, and events for people."""
    return request.is_write and not re.search("/(leases|events)(/|$)", request.path)


class ApiProxy:
    """Stands between one client and the API server.

    Args:
        server: the API server's address.
        authority: the certificate that it is trusted by.
        counts: which requests are numbered.

    """

    def __init__(
        self,
        server: str,
        authority: Path,
        counts: Callable[[Request], bool] = is_about_work,
    ) -> None:
        self.counts = counts
        self.requests: list[Request] = []
        """All of them in their order; ``clear`` begins anew."""
        self.faults: list[Fault] = []
        """The first that takes a request meets it."""
        self._host, self._port = urlsplit(server).hostname, urlsplit(server).port
        self._context = ssl.create_default_context(cafile=str(authority))
        self.url = f"http://127.0.0.1:{free_port()}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="api-proxy", daemon=True)
        self._ready = threading.Event()
        self._counted = 0
        self._watches: set[asyncio.StreamWriter] = set()
        self._hanging: set[asyncio.StreamWriter] = set()

    # -- for tests

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10), "the proxy does not start"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def writes(self) -> list[Request]:
        """All writes, counted or not."""
        return [request for request in self.requests if request.is_write]

    @property
    def counted(self) -> list[Request]:
        """Those that have a number, in their order."""
        return [request for request in self.requests if request.number]

    def clear(self) -> None:
        """Forget requests and faults, and count from 1 again."""
        self.requests, self.faults, self._counted = [], [], 0

    def inject(self, action: Action, **options: object) -> Fault:
        """Add a fault; options are those of ``Fault``."""
        fault = Fault(action, **options)  # type: ignore[arg-type]
        self.faults.append(fault)
        return fault

    def kill_at(self, number: int, pid: Callable[[], int], *, after: bool) -> Fault:
        """SIGKILL a process at its write of this number, before or after the server has it."""
        action = Action.KILL_AFTER if after else Action.KILL_BEFORE
        return self.inject(action, when=lambda request: request.number == number, pid=pid)

    def drop_watches(self) -> int:
        """Close the connections of all watches; how many there were."""
        return self._drop(self._watches)

    def drop_hanging(self) -> int:
        """Close the connections of all requests that hang; how many there were."""
        return self._drop(self._hanging)

    def _drop(self, writers: Collection[asyncio.StreamWriter]) -> int:
        async def drop() -> int:
            dropped = list(writers)
            for writer in dropped:
                writer.transport.abort()
            return len(dropped)

        return asyncio.run_coroutine_threadsafe(drop(), self._loop).result(10)

    # -- the loop

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        port = urlsplit(self.url).port
        server = self._loop.run_until_complete(
            asyncio.start_server(self._accept, "127.0.0.1", port, limit=_MAX_HEAD)
        )
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in (tasks := asyncio.all_tasks(self._loop)):
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of the client, with one of its own to the server behind it."""
        upstream = _Upstream(self._host or "", self._port or 443, self._context)
        try:
            while (head := await _read_head(reader)) is not None:
                body = await _read_body(reader, head)
                request = self._record(head)
                answer = self._answer(request, head, body, writer, upstream)
                # Whoever watches or is kept waiting says no more, except that it hangs up.
                if not await _unless_hung_up(reader, answer):
                    break
        except (OSError, EOFError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # either end hung up, or the proxy stops
        finally:
            self._watches.discard(writer)
            self._hanging.discard(writer)
            upstream.close()
            writer.close()

    async def _answer(
        self,
        request: Request,
        head: _Head,
        body: bytes,
        writer: asyncio.StreamWriter,
        upstream: _Upstream,
    ) -> bool:
        """Answer one request; False ends the connection."""
        fault = next((fault for fault in self.faults if fault.takes(request)), None)
        if fault is not None:
            return await self._misbehave(fault, request, head, body, writer, upstream)
        if request.is_watch:
            self._watches.add(writer)
        await upstream.send(head, body)
        goes_on = await upstream.relay(writer, is_head=head.method == "HEAD")
        self._watches.discard(writer)
        return goes_on

    def _record(self, head: _Head) -> Request:
        url = urlsplit(head.target)
        request = Request(head.method, url.path, url.query)
        if self.counts(request):
            self._counted += 1
            request = replace(request, number=self._counted)
        self.requests.append(request)
        return request

    async def _misbehave(
        self,
        fault: Fault,
        request: Request,
        head: _Head,
        body: bytes,
        writer: asyncio.StreamWriter,
        upstream: _Upstream,
    ) -> bool:
        action = fault.action
        if action.name.endswith("_AFTER"):
            await upstream.send(head, body)
            await upstream.relay(None, is_head=head.method == "HEAD")
        if action in (Action.KILL_BEFORE, Action.KILL_AFTER):
            assert fault.pid is not None, "a kill needs a pid"
            with suppress(ProcessLookupError):
                os.kill(fault.pid(), signal.SIGKILL)
        if action in (Action.ANSWER, Action.ANSWER_AFTER):
            writer.write(_answer(fault, request))
            await writer.drain()
            return True
        if action in (Action.SILENT_WATCH, Action.BROKEN_WATCH):
            self._watches.add(writer)
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            if action is Action.BROKEN_WATCH:
                event = b'{"type":"ERROR","object":%s}\n' % _status(fault, request)
                writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(event), event))
            await writer.drain()
        if action in (Action.HANG, Action.HANG_AFTER):
            self._hanging.add(writer)
        if action in (Action.HANG, Action.HANG_AFTER, Action.SILENT_WATCH):
            await asyncio.Event().wait()
        return False


def _status(fault: Fault, request: Request) -> bytes:
    reason = _REASONS.get(fault.status, "Unknown")
    text = f"injected by the tests into {request.method} {request.path}"
    return (
        f'{{"kind":"Status","apiVersion":"v1","status":"Failure","code":{fault.status},'
        f'"reason":"{reason}","message":"{text}"}}'
    ).encode()


def _answer(fault: Fault, request: Request) -> bytes:
    body = _status(fault, request)
    lines = [
        f"HTTP/1.1 {fault.status} {_REASONS.get(fault.status, 'Unknown')}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    if fault.retry_after is not None:
        lines.append(f"Retry-After: {fault.retry_after}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass(frozen=True)
class _Head:
    """Start line and headers, as they came."""

    raw: bytes
    start: str
    headers: dict[str, str]

    @property
    def method(self) -> str:
        return self.start.split(" ", 1)[0]

    @property
    def target(self) -> str:
        return self.start.split(" ")[1]

    @property
    def is_chunked(self) -> bool:
        return "chunked" in self.headers.get("transfer-encoding", "")

    @property
    def length(self) -> int | None:
        text = self.headers.get("content-length")
        return None if text is None else int(text)


async def _unless_hung_up(
    reader: asyncio.StreamReader, answer: Coroutine[None, None, bool]
) -> bool:
    """The answer's result; False where the client closes its connection first."""
    answering = asyncio.ensure_future(answer)
    hearing = asyncio.ensure_future(_wait_for_end(reader))
    try:
        await asyncio.wait({answering, hearing}, return_when=asyncio.FIRST_COMPLETED)
        return answering.done() and answering.result()
    finally:
        for task in (answering, hearing):
            task.cancel()


async def _wait_for_end(reader: asyncio.StreamReader) -> None:
    """Return at the end of what the client sends, without taking any of it away."""
    while not reader.at_eof():
        await asyncio.sleep(0.05)


async def _read_head(reader: asyncio.StreamReader) -> _Head | None:
    """None at the end of the connection."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    start, *lines = raw.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return _Head(raw, start, headers)


async def _read_body(reader: asyncio.StreamReader, head: _Head) -> bytes:
    """The body as it came, chunks and all."""
    if not head.is_chunked:
        return await reader.readexactly(head.length or 0)
    pieces = []
    while True:
        pieces.append(piece := await _read_chunk(reader))
        if piece.startswith(b"0\r\n"):
            return b"".join(pieces)


async def _read_chunk(reader: asyncio.StreamReader) -> bytes:
    size = await reader.readuntil(b"\r\n")
    return size + await reader.readexactly(int(size.split(b";")[0], 16) + 2)


class _Upstream:
    """The server's side of one connection, opened when it is needed."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        self._address = (host, port, context)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, head: _Head, body: bytes) -> None:
        if self._writer is None or self._reader is None or self._reader.at_eof():
            self.close()
            host, port, context = self._address
            self._reader, self._writer = await asyncio.open_connection(
                host, port, ssl=context, limit=_MAX_HEAD
            )
        self._writer.write(head.raw + body)
        await self._writer.drain()

    async def relay(self, writer: asyncio.StreamWriter | None, *, is_head: bool) -> bool:
        """Pass the answer on as it comes; False where the server ends the connection after it."""
        assert self._reader is not None
        head = await _read_head(self._reader)
        if head is None:
            raise EOFError
        await _pass(writer, head.raw)
        status = int(head.start.split(" ")[1])
        if is_head or status in (204, 304) or status < 200:
            pass
        elif head.is_chunked:
            while True:
                piece = await _read_chunk(self._reader)
                await _pass(writer, piece)
                if piece.startswith(b"0\r\n"):
                    break
        elif head.length is not None:
            await _pass(writer, await self._reader.readexactly(head.length))
        return head.headers.get("connection", "").lower() != "close"

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


async def _pass(writer: asyncio.StreamWriter | None, data: bytes) -> None:
    if writer is not None:
        writer.write(data)
        await writer.drain()
