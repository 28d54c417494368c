"""The worker of a federated role: one attempt, from its environment to its exit code."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Final

from green_api.contract import ExitCode
from green_api.errors import TaskConfigError

from green_jobs import outcome
from green_jobs.lock import LockLostError
from green_jobs.signals import Signals
from green_jobs.tasks.federate.errors import (
    NoRoomError,
    RefusedError,
    RoundAbandonedError,
    StalledError,
)
from green_jobs.tasks.federate.flower.switches import SWITCHES

if TYPE_CHECKING:
    from collections.abc import Callable

    from green_jobs.tasks.federate.attempt import Attempt
    from green_jobs.tasks.federate.link import ServerFiles
    from green_jobs.tasks.federate.processes import Companion

_LOG: Final = logging.getLogger("green_jobs.federate")


def main() -> int:
    """Run the attempt; the exit code."""
    signals = Signals()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("green_jobs").setLevel(logging.INFO)
    # Flower reads them when it is imported.
    os.environ.update(SWITCHES)
    # Heavy, and a SIGTERM may come at any time: after the handler is set.
    from green_jobs.tasks.federate.attempt import Attempt

    attempt = Attempt.from_environment()
    sys.path.append(str(attempt.claim / "code"))
    return _run(attempt, signals)


def _run(attempt: Attempt, signals: Signals) -> int:
    if not attempt.is_server:
        return _do(attempt, lambda: _work(attempt, signals))
    from green_jobs.tasks.federate.link import server_files, superlink

    files = server_files(attempt)
    with superlink(files) as link:
        return _do(attempt, lambda: _serve(attempt, files, link, signals))


def _serve(attempt: Attempt, files: ServerFiles, link: Companion, signals: Signals) -> None:
    from green_jobs.tasks.federate.serve import serve

    _quieten()
    serve(attempt, files, link, signals)


def _work(attempt: Attempt, signals: Signals) -> None:
    from green_jobs.tasks.federate.work import work

    _quieten()
    work(attempt, signals)


def _quieten() -> None:
    """Flower sets its own level when it is imported; each of its lines would be told twice here."""
    from flwr.common.logger import update_console_handler

    logging.getLogger("flwr").setLevel(logging.WARNING)
    update_console_handler(colored=False)


def _do(attempt: Attempt, work: Callable[[], None]) -> int:
    """Do the work; the exit code that its end stands for."""
    try:
        work()
    except TaskConfigError as error:
        return _failed(error, ExitCode.CONFIG)
    except StalledError as error:
        return _failed(error, ExitCode.LIMIT)
    except (RefusedError, NoRoomError) as error:
        return _failed(error, ExitCode.FAILED)
    except (RoundAbandonedError, LockLostError) as error:
        _LOG.warning("%s: %s", attempt.role, error)
        return ExitCode.INTERRUPTED
    return ExitCode.SUCCEEDED


def _failed(error: Exception, code: ExitCode) -> int:
    _LOG.error("%s", error)
    outcome.fail(str(error))
    return code


if __name__ == "__main__":
    sys.exit(main())
