"""From the command line to an attempt, and from errors to exit codes."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from green_api.contract import ATTEMPT_ENV, TERMINATION_FILE_ENV, ExitCode, Outcome, Summary
from green_api.errors import ContractError, GreenError, TaskConfigError
from green_api.task import Task

from green_jobs.attempt import TERMINATION_FILE, UsageError, read_attempt
from green_jobs.console import warn
from green_jobs.ending import short
from green_jobs.signals import Signals
from green_jobs.summary import tell
from green_jobs.supervisor import supervise

_CODES: Final[tuple[tuple[type[Exception], ExitCode], ...]] = (
    (UsageError, ExitCode.USAGE),
    (TaskConfigError, ExitCode.CONFIG),
    (ContractError, ExitCode.CONFIG),
)


def launch(user_command: Sequence[str] | None, signals: Signals) -> int:
    """Run one attempt as the environment describes it and return its exit code.

    Args:
        user_command: what `exec` was given; None where a builtin task is run.
        signals: of this process.

    """
    with tempfile.TemporaryDirectory(prefix="green-", ignore_cleanup_errors=True) as scratch:
        try:
            attempt = read_attempt(os.environ, Path(scratch))
            command = choose_command(attempt.document.task, user_command)
            return supervise(attempt, command, signals)
        except (GreenError, OSError) as error:
            warn(str(error))
            _tell_failure(os.environ, str(error))
            return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)


def choose_command(task: Task, user_command: Sequence[str] | None) -> Sequence[str]:
    """The worker of a task.

    Raises:
        UsageError: the task is not run this way.

    """
    if task.train is not None:
        if user_command is None:
            msg = "a train task is run with `exec -- COMMAND`"
            raise UsageError(msg)
        return user_command
    if user_command is not None:
        msg = f"a {task.kind} task is run with `run`; it takes no command"
        raise UsageError(msg)
    return [sys.executable, "-m", f"green_jobs.tasks.{task.kind}"]


def _tell_failure(environment: Mapping[str, str], message: str) -> None:
    summary = Summary(
        attempt=short(environment.get(ATTEMPT_ENV, "")),
        outcome=Outcome.FAILED,
        message=short(message),
    )
    tell(summary, Path(environment.get(TERMINATION_FILE_ENV) or TERMINATION_FILE))
