"""A SuperNode's process: ``python -m green_jobs.tasks.federate.flower.supernode ARGUMENTS``.

Between two looks for a message Flower's node sleeps 3 s. Each look costs its SuperLink some 20 ms
of CPU time, so that looking much more often than twice a second makes rounds longer, not shorter.

An order whose server is killed amid it is never taken whole. Flower's node notices that when the
run is over, but by an exception that is no ``Exception``: it goes past what would forget the order
and its task. Its trainer then waits for the rest for ever, or its answer is taken for that of the
next order, and from then on each answer is passed on one order late.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final, ParamSpec, TypeVar

from flwr.common.logger import update_console_handler
from flwr.supercore.object_store import ObjectStore
from flwr.supercore.run import RunNotRunningException
from flwr.supernode import start_client_internal
from flwr.supernode.cli import flower_supernode
from flwr.supernode.nodestate import NodeState

from green_jobs.tasks.federate.flower.pulls import hurry

_IDLE_SECONDS: Final = 0.5

P = ParamSpec("P")
T = TypeVar("T")


def main() -> None:
    """Be a SuperNode until the process ends."""
    hurried = {**vars(time), "sleep": lambda seconds: time.sleep(min(seconds, _IDLE_SECONDS))}
    replaced = vars(start_client_internal)
    replaced["time"] = SimpleNamespace(**hurried)
    replaced["_pull_and_store_message"] = takes_whole(replaced["_pull_and_store_message"])
    hurry()
    update_console_handler(colored=False)
    flower_supernode()


def takes_whole(take: Callable[..., int | None]) -> Callable[..., int | None]:
    """Flower's function that takes an order, so that it takes it whole or forgets it."""

    def taking(
        *,
        state: NodeState,
        object_store: ObjectStore,
        pull_object: Callable[..., Any],
        confirm_message_received: Callable[..., Any],
        **others: Any,  # noqa: ANN401 - Flower's
    ) -> int | None:
        # The node takes one order at a time: an answer that is there now is nobody's.
        for answer in state.get_messages_legacy(is_reply=True):
            told = answer.metadata
            state.delete_messages(message_ids=[told.message_id, told.reply_to_message_id])
            object_store.delete(told.message_id)
        return take(
            state=state,
            object_store=object_store,
            pull_object=_failing(pull_object),
            confirm_message_received=_failing(confirm_message_received),
            **others,
        )

    return taking


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
