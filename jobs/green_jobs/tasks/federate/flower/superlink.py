"""The SuperLink's process: ``python -m green_jobs.tasks.federate.flower.superlink ARGUMENTS``.

Flower 1.41 serves its Control, Runtime and Fleet APIs on one port, and the Control API knows no
callers. Here everyone but loopback is answered on the Fleet's paths only, where each node shows
that it has its key.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from flwr.common.logger import update_console_handler
from flwr.superlink import extensions
from flwr.superlink.cli import flower_superlink
from starlette.middleware import Middleware

_FLEET: Final = "/v1/fleet/"
_HEALTH: Final = "/health"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class FleetOnly:
    """Refuses whoever is not on this machine all but the Fleet API and the health check."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        if scope["type"] == "lifespan" or _is_allowed(scope):
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 403, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def _is_allowed(scope: Mapping[str, Any]) -> bool:
    path = str(scope["path"])
    if path == _HEALTH or (path.startswith(_FLEET) and ".." not in path):
        return bool(scope["type"] == "http")
    try:
        return ipaddress.ip_address((scope.get("client") or ("",))[0]).is_loopback
    except ValueError:
        return False


def main() -> None:
    """Be a SuperLink until the process ends."""
    theirs = extensions.get_middleware
    extensions.get_middleware = lambda: (Middleware(FleetOnly), *theirs())
    update_console_handler(colored=False)
    flower_superlink()


if __name__ == "__main__":
    sys.argv[0] = "flower-superlink"
    main()
