"""The worker: one attempt at a compression, from its environment to its exit code."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from green_api.contract import ExitCode
from green_api.errors import TaskConfigError

from green_jobs import outcome
from green_jobs.lock import LockLostError
from green_jobs.signals import Signals

if TYPE_CHECKING:
    from green_jobs.tasks.compress.attempt import Attempt

_LOG = logging.getLogger("green_jobs.compress")


def main() -> int:
    """Run the attempt; the exit code."""
    signals = Signals()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("green_jobs").setLevel(logging.INFO)
    # Heavy, and a SIGTERM may come at any time: after the handler is set.
    from green_jobs.tasks.compress.attempt import Attempt

    attempt = Attempt.from_environment()
    sys.path.append(str(attempt.claim / "code"))
    return _run(attempt, signals)


def _run(attempt: Attempt, signals: Signals) -> int:
    from green_jobs.tasks.compress.pipeline import run
    from green_jobs.tasks.compress.session import AttemptInterruptedError

    try:
        out = run(attempt, signals)
    except TaskConfigError as error:
        _LOG.error("%s", error)
        outcome.fail(str(error))
        return ExitCode.CONFIG
    except (AttemptInterruptedError, LockLostError) as error:
        _LOG.warning("%s", error)
        return ExitCode.INTERRUPTED
    if out.problem:
        _LOG.error("%s", out.problem)
        outcome.fail(out.problem, out.result, **out.details)
        return ExitCode.LIMIT
    outcome.finish(out.result, out.details)
    return ExitCode.SUCCEEDED


if __name__ == "__main__":
    sys.exit(main())
