"""What a worker tells its supervisor: one small file, always whole, always the latest state.

Levels, not events: the supervisor may look at any rate and misses nothing that matters.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Self

from green_api.base import Model
from green_api.contract import Metrics, Result, RoundsProgress, ShortText
from pydantic import Field, JsonValue, ValidationError

from green_jobs.files import write_atomically


class WorkerState(Model):
    """The latest word of a worker."""

    percentage: Annotated[float, Field(ge=0, le=100)] | None = None
    """Share of the whole work that is done."""
    phase: ShortText = ""
    """What is being done, for people."""
    metrics: Metrics = {}
    """Figures of the task, such as loss and accuracy."""
    rounds: RoundsProgress | None = None
    """Of a federated training's server."""
    working: bool = False
    """Start-up and restore are over."""
    saved: Annotated[int, Field(ge=0)] = 0
    """How many checkpoints this attempt has committed; a step up means that one now stands."""
    discarded: Annotated[int, Field(ge=0)] = 0
    """How many times it was in vain what had been done since the last checkpoint."""
    done: bool = False
    """The work is complete, whatever signal arrived meanwhile."""
    message: ShortText = ""
    """Why the worker failed, for people."""
    result: Result | None = None
    """What came out."""
    details: dict[str, JsonValue] = {}
    """What the full report adds."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """The state; an absent file is a worker that has said nothing yet.

        Raises:
            pydantic.ValidationError: the file is not such a state.

        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return cls()

    def write(self, path: Path) -> None:
        """Replace the state; it need not survive the machine, only the writer."""
        write_atomically(path, self.model_dump_json(by_alias=True).encode(), durable=False)


class StateReader:
    """The supervisor's end of the state file: cheap to ask, and always a sound state.

    A file that is gone, or is no state, leaves the last word standing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state = WorkerState()
        self._stamp = (0, 0)

    def read(self) -> WorkerState:
        """The latest state."""
        with contextlib.suppress(OSError, ValidationError):
            status = self._path.stat()
            stamp = (status.st_ino, status.st_mtime_ns)
            if stamp != self._stamp:
                self._stamp = stamp
                self._state = WorkerState.read(self._path)
        return self._state
