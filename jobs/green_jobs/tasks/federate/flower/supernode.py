"""A SuperNode's process: ``python -m green_jobs.tasks.federate.flower.supernode ARGUMENTS``.

Between two looks for a message Flower's node sleeps 3 s. Each look costs its SuperLink some 20 ms
of CPU time, so that looking much more often than twice a second makes rounds longer, not shorter.

An order whose server was killed is never whole, or never confirmed. Flower's node notices that when
the run is over, but by an exception that is no ``Exception``: it goes past what would forget the
order and its task. Its trainer then waits for the rest for ever, or answers it and not the next.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import Any, Final, ParamSpec, TypeVar

from flwr.common.logger import update_console_handler
from flwr.supercore.run import RunNotRunningException
from flwr.supernode import start_client_internal
from flwr.supernode.cli import flower_supernode
from flwr.supernode.fleet_http_connection import http_request_response

from green_jobs.tasks.federate.flower.pulls import hurry

_IDLE_SECONDS: Final = 0.5

P = ParamSpec("P")
T = TypeVar("T")


def main() -> None:
    """Be a SuperNode until the process ends."""
    hurried = {**vars(time), "sleep": lambda seconds: time.sleep(min(seconds, _IDLE_SECONDS))}
    vars(start_client_internal)["time"] = SimpleNamespace(**hurried)
    vars(start_client_internal)["http_request_response"] = gives_up_orders(http_request_response)
    hurry()
    update_console_handler(colored=False)
    flower_supernode()


def gives_up_orders(
    connect: Callable[P, AbstractContextManager[tuple[Any, ...]]],
) -> Callable[P, AbstractContextManager[tuple[Any, ...]]]:
    """Flower's connection; an order that cannot be taken, for its run is over, is forgotten."""

    @contextmanager
    def connection(*args: P.args, **kwargs: P.kwargs) -> Iterator[tuple[Any, ...]]:
        with connect(*args, **kwargs) as functions:
            *others, pull_object, push_object, confirm = functions
            yield (*others, _failing(pull_object), push_object, _failing(confirm))

    return connection


def _failing(ask: Callable[P, T]) -> Callable[P, T]:
    def asking(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return ask(*args, **kwargs)
        except RunNotRunningException as error:
            msg = "its run is over"
            raise RuntimeError(msg) from error

    return asking


if __name__ == "__main__":
    sys.argv[0] = "flower-supernode"
    main()
