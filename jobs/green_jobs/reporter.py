"""The worker's end of the state file: what was told last, written seldom enough to be cheap."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from green_api.contract import PROGRESS_FILE_ENV

from green_jobs.state import WorkerState

SECONDS_BETWEEN_WRITES: Final = 0.5


class Reporter:
    """Keeps a worker's state and writes it, at once where it is urgent and else now and then.

    Args:
        path: the state file; None outside a job, where nothing is written.
        clock: seconds, monotonic.

    """

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.state = WorkerState()
        self._path = path
        self._clock = clock
        self._next_write = float("-inf")
        self._pending = False

    def update(self, *, urgent: bool, **changes: Any) -> None:  # noqa: ANN401 - WorkerState's fields
        """Change fields of the state; the values must be valid already."""
        if self._path is None:
            return
        self.state = self.state.model_copy(update=changes)
        self._pending = True
        if urgent or self._clock() >= self._next_write:
            self.flush()

    def discard(self) -> None:
        """Say that what was done since the last save was in vain, and no useful work."""
        self.update(urgent=True, discarded=self.state.discarded + 1)

    def flush(self) -> None:
        """Write what has not been written; a disk that refuses never stops the work."""
        if self._path is None or not self._pending:
            return
        self._next_write = self._clock() + SECONDS_BETWEEN_WRITES
        try:
            self.state.write(self._path)
        except (OSError, ValueError):  # a full disk, or text that is no text
            return
        self._pending = False


def _from_environment() -> Reporter:
    path = os.environ.get(PROGRESS_FILE_ENV)
    return Reporter(Path(path) if path else None)


REPORTER: Final = _from_environment()
"""This process's own."""
atexit.register(REPORTER.flush)
