"""Progress and energy over HTTP, for the operator."""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from green_api.contract import PROGRESS_PATH, ProgressReply

from green_jobs.console import warn

Answer = Callable[[int], ProgressReply]
"""The reply with the journal entries above a sequence."""


def serve(port: int, answer: Answer, address: str = "") -> ThreadingHTTPServer | None:
    """Answer in threads of their own until this process ends; a port in use is only a warning.

    Args:
        port: where.
        answer: the reply.
        address: the one IPv4 address to answer on; all addresses of either family where empty.

    """
    handler = type("Handler", (_Handler,), {"answer": staticmethod(answer)})
    try:
        server = (_Server4 if address else _Server)((address, port), handler)
    except OSError as error:
        warn(f"progress cannot be asked for: port {port}: {error}")
        return None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class _Server(ThreadingHTTPServer):
    # A pod has an address of either family or of both.
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    daemon_threads = True
    allow_reuse_port = False  # two attempts on one machine must not share a port unnoticed

    def server_bind(self) -> None:
        """Bind without http.server's look-up of a host name, which may wait for a DNS server."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - its types
        """Keep clients that hang up or stall out of the worker's log."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Server4(_Server):
    address_family = socket.AF_INET


class _Handler(BaseHTTPRequestHandler):
    answer: Answer
    timeout = 5  # seconds for a client that says nothing

    def do_GET(self) -> None:
        """Answer the one path that there is."""
        url = urlsplit(self.path)
        if url.path != PROGRESS_PATH:
            self.send_error(HTTPStatus.NOT_FOUND)
        elif (after := _parse_after(url.query)) is None:
            self.send_error(HTTPStatus.BAD_REQUEST, "after is no sequence")
        else:
            self._send(self.answer(after))

    def _refuse(self) -> None:
        self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)

    # The names are http.server's.
    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse  # noqa: N815

    def _send(self, reply: ProgressReply) -> None:
        body = reply.model_dump_json(by_alias=True, exclude_none=True).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Keep the worker's log free of requests."""


def _parse_after(query: str) -> int | None:
    text = parse_qs(query).get("after", ["0"])[-1]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
