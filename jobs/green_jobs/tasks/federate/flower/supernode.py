"""A SuperNode's process: ``python -m green_jobs.tasks.federate.flower.supernode ARGUMENTS``.

Between two looks for a message Flower's node sleeps 3 s. Each look costs its SuperLink some 20 ms
of CPU time, so that looking much more often than twice a second makes rounds longer, not shorter.

An order whose server was killed while it pushed it is never whole. Flower's node notices when the
run is over, but by an exception that is no ``Exception``: it goes past what would forget the order
and its task, and the trainer, which has taken the task, would wait for the parts for ever.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Final

from flwr.common.logger import update_console_handler
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supercore.run import RunNotRunningException
from flwr.supernode import start_client_internal
from flwr.supernode.cli import flower_supernode

from green_jobs.tasks.federate.flower.pulls import hurry

_IDLE_SECONDS: Final = 0.5


def main() -> None:
    """Be a SuperNode until the process ends."""
    hurried = {**vars(time), "sleep": lambda seconds: time.sleep(min(seconds, _IDLE_SECONDS))}
    vars(start_client_internal)["time"] = SimpleNamespace(**hurried)
    vars(start_client_internal)["pull_objects"] = _pull_objects
    hurry()
    update_console_handler(colored=False)
    flower_supernode()


def _pull_objects(ids: list[str], pull_object_fn: Callable[[str], bytes]) -> dict[str, bytes]:
    try:
        return pull_objects(ids, pull_object_fn)
    except RunNotRunningException as error:
        msg = "its run is over"
        raise RuntimeError(msg) from error


if __name__ == "__main__":
    sys.argv[0] = "flower-supernode"
    main()
