"""A SuperNode's process: ``python -m green_jobs.tasks.federate.flower.supernode ARGUMENTS``.

Between two looks for a message Flower's node sleeps 3 s, and 1 s before it pulls a message's first
part; with trainers that are warm these were most of a round.
"""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import Final

from flwr.supercore.inflatable import inflatable_utils
from flwr.supernode import start_client_internal
from flwr.supernode.cli import flower_supernode

_IDLE_SECONDS: Final = 0.2


def main() -> None:
    """Be a SuperNode until the process ends."""
    hurried = {**vars(time), "sleep": lambda seconds: time.sleep(min(seconds, _IDLE_SECONDS))}
    vars(start_client_internal)["time"] = SimpleNamespace(**hurried)
    vars(inflatable_utils)["PULL_INITIAL_BACKOFF"] = _IDLE_SECONDS
    flower_supernode()


if __name__ == "__main__":
    sys.argv[0] = "flower-supernode"
    main()
