"""What an attempt's end means. Pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Final

from green_api.contract import MAX_TEXT_LENGTH, ExitCode, Outcome

from green_jobs.state import WorkerState

_DEFINITE: Final = (ExitCode.USAGE, ExitCode.CONFIG, ExitCode.LIMIT)
"""Codes that say the same whether the attempt was to stop or not."""
_OUTCOMES: Final[dict[int, Outcome]] = {
    ExitCode.SUCCEEDED: Outcome.SUCCEEDED,
    ExitCode.INTERRUPTED: Outcome.INTERRUPTED,
}


@dataclass(frozen=True)
class Ending:
    """How an attempt ended.

    Args:
        code: the exit code.
        message: one sentence for people, short enough for the contract.

    """

    code: int
    message: str

    @property
    def outcome(self) -> Outcome:
        """What the code means."""
        return _OUTCOMES.get(self.code, Outcome.FAILED)


def conclude(returncode: int, state: WorkerState, last_line: str, *, stopped: bool) -> Ending:
    """The end of an attempt whose worker has ended by itself or was stopped.

    Args:
        returncode: as in subprocess, negative for a signal.
        state: the worker's last word.
        last_line: the last line of its stderr.
        stopped: it was told to stop before.

    """
    code = exit_code(returncode, stopped=stopped, done=state.done)
    return Ending(code, short(state.message or _explain(code, returncode, last_line)))


def exit_code(returncode: int, *, stopped: bool, done: bool) -> int:
    """The attempt's exit code.

    A worker that was told to stop has not done its work unless it says so: many programs end
    with 0, 143 or a stack trace then.
    """
    if returncode in _DEFINITE:
        return returncode
    if stopped and not (done and returncode == ExitCode.SUCCEEDED):
        return ExitCode.INTERRUPTED
    return returncode if returncode >= 0 else 128 - returncode


def _explain(code: int, returncode: int, last_line: str) -> str:
    if code == ExitCode.SUCCEEDED:
        return "the task is complete"
    if code == ExitCode.INTERRUPTED:
        return "stopped before the end; what was saved is kept"
    if returncode < 0:
        hint = " (out of memory?)" if returncode == -signal.SIGKILL else ""
        return f"killed by signal {-returncode}{hint}"
    return last_line or f"the command ended with exit code {code}"


def short(message: str) -> str:
    """A message as the contract takes it: valid text of bounded length."""
    return message.encode(errors="replace").decode()[:MAX_TEXT_LENGTH]
