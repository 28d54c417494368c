"""The progress endpoint of a pod, sound or hostile, on the pod's own address."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from green_api.contract import PROGRESS_PATH, ProgressReply
from green_jobs.recorder import Moment
from green_jobs.server import serve
from green_jobs.supervisor import now

from tests.cluster.harness.container import (
    Container,
    lie_about_uid,
    lie_absurd,
    lie_falling,
)
from tests.cluster.harness.script import Answers

_HUGE_BYTES: Final = 100 * 1024 * 1024
_LIES: Final[dict[Answers, Callable[[ProgressReply], ProgressReply]]] = {
    Answers.OTHER_UID: lie_about_uid,
    Answers.FALLING: lie_falling,
    Answers.ABSURD: lie_absurd,
}
_RAW: Final = (Answers.DRIPS, Answers.HUGE, Answers.REDIRECTS, Answers.NONSENSE)


@dataclass
class Endpoint:
    """Answers for one container until it is closed."""

    container: Container
    address: str
    port: int
    asked: list[tuple[datetime, int]] = field(default_factory=list)
    """When it was asked, and after which sequence."""
    redirected: list[str] = field(default_factory=list)
    """Paths that a client followed a redirect to."""
    sent: int = 0
    """Bytes of a raw answer that were taken."""

    def __post_init__(self) -> None:
        self._closed = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    def open(self) -> bool:
        """Listen; False where the address is taken."""
        answers = self.container.script.answers
        if answers is Answers.REFUSES:
            return True
        self._server = self._serve_raw() if answers in _RAW else self._serve_real()
        return self._server is not None

    def close(self) -> None:
        """Stop, without waiting for the server's own thread to notice."""
        self._closed.set()
        if (server := self._server) is not None:
            self._server = None
            threading.Thread(target=_shut, args=(server,), daemon=True).start()

    def _serve_real(self) -> ThreadingHTTPServer | None:
        return serve(self.port, self._answer, self.address)

    def _answer(self, after: int) -> ProgressReply:
        moment = now()
        self.asked.append((moment.time, after))
        answers = self.container.script.answers
        if answers is Answers.HANGS:
            self._closed.wait()
        if self._closed.is_set():
            raise ConnectionAbortedError
        return _LIES.get(answers, lambda reply: reply)(self._reply(after, moment))

    def _reply(self, after: int, moment: Moment) -> ProgressReply:
        return self.container.reply(after, moment)

    def _serve_raw(self) -> ThreadingHTTPServer | None:
        handler = type("Handler", (_RawHandler,), {"endpoint": self})
        try:
            server = _RawServer((self.address, self.port), handler)
        except OSError:
            return None
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        return server


def _shut(server: ThreadingHTTPServer) -> None:
    with suppress(OSError, ValueError):
        server.shutdown()
        server.server_close()


class _RawServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_arguments: object) -> None:
        """A client that hangs up is what these answers are for."""


class _RawHandler(BaseHTTPRequestHandler):
    endpoint: Endpoint

    def do_GET(self) -> None:
        endpoint = self.endpoint
        if not self.path.startswith(PROGRESS_PATH):
            endpoint.redirected.append(self.path)
        else:
            endpoint.asked.append((now().time, -1))
        answers = endpoint.container.script.answers
        if answers is Answers.REDIRECTS and self.path.startswith(PROGRESS_PATH):
            self.send_response(302)
            self.send_header("Location", f"http://{endpoint.address}:{endpoint.port}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif answers is Answers.HUGE:
            self._send(b" " * 65536, _HUGE_BYTES, pause=0)
        elif answers is Answers.DRIPS:
            self._send(b" ", _HUGE_BYTES, pause=1)
        else:
            body = b'{"attempt": 7, "entries": "none"}'
            self._send(body, len(body), pause=0)

    def _send(self, piece: bytes, length: int, pause: float) -> None:
        # What waits in this buffer was not taken by anyone, and it grows to megabytes by itself.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length))
        self.end_headers()
        while self.endpoint.sent < length and not self.endpoint._closed.wait(pause):
            self.wfile.write(piece)
            self.endpoint.sent += len(piece)

    def log_message(self, *_arguments: object) -> None:
        pass
