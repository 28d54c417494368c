"""The command line of the wrapper; see the usage below."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Final

from green_jobs.signals import Signals, die_with_parent

# Handlers stand before anything heavy is imported, hence the imports inside functions.

USAGE: Final = """usage: python -m green_jobs COMMAND

  run                   run the builtin task of the document in $GREEN_TASK_FILE
  exec -- PROGRAM ...   run a training program of your own as a task
  fetch fashion-mnist   download a data set to the claim, or without one to the cache
"""
EX_USAGE: Final = 64


def main(arguments: Sequence[str]) -> int:
    """Run one command and return the exit code."""
    match arguments:
        case ["run"]:
            return _launch(None)
        case ["exec", "--", _, *_]:
            return _launch(arguments[2:])
        case ["fetch", "fashion-mnist"]:
            return _fetch()
        case ["-h" | "--help"]:
            sys.stdout.write(USAGE)
            return 0
        case _:
            sys.stderr.write(f"green_jobs: cannot make sense of {list(arguments)}\n\n{USAGE}")
            return EX_USAGE


def _launch(user_command: Sequence[str] | None) -> int:
    signals = Signals()
    # A local runner that is killed ends its job in order; process 1 has no parent that matters.
    die_with_parent(signal.SIGTERM)
    from green_jobs.launch import launch

    return launch(user_command, signals)


def _fetch() -> int:
    from green_api.errors import GreenError

    from green_jobs.data.fashion_mnist import fetch

    try:
        fetch()
    except (GreenError, OSError) as error:
        sys.stderr.write(f"green_jobs: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
