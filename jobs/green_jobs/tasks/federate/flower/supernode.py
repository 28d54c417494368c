"""A SuperNode's process: ``python -m green_jobs.tasks.federate.flower.supernode ARGUMENTS``.

Between two looks for a message Flower's node sleeps 3 s. Each look costs its SuperLink some 20 ms
of CPU time, so that looking much more often than twice a second makes rounds longer, not shorter.
"""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import Final

from flwr.common.logger import update_console_handler
from flwr.supernode import start_client_internal
from flwr.supernode.cli import flower_supernode

from green_jobs.tasks.federate.flower.pulls import hurry

_IDLE_SECONDS: Final = 0.5


def main() -> None:
    """Be a SuperNode until the process ends."""
    hurried = {**vars(time), "sleep": lambda seconds: time.sleep(min(seconds, _IDLE_SECONDS))}
    vars(start_client_internal)["time"] = SimpleNamespace(**hurried)
    hurry()
    update_console_handler(colored=False)
    flower_supernode()


if __name__ == "__main__":
    sys.argv[0] = "flower-supernode"
    main()
