"""What the runner remembers in the output folder, so that it can be killed at any moment.

It stands for the API server: objects and their statuses, and of each attempt what was seen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from green_api.base import Model
from green_api.contract import JournalEntry, Progress, Summary
from green_api.status import JobStatus, PlanStatus
from pydantic import AwareDatetime, JsonValue

from green_operator.local.clock import PlanClock
from green_operator.local.files import replace_file


class AttemptState(Model):
    """One attempt: a subprocess in the place of a pod. Times are of the wall clock."""

    uid: str
    """Stands for the pod's UID."""
    run: int
    """The run that it belongs to."""
    port: int
    """Where it answers."""
    started: AwareDatetime
    """When it was started."""
    last_seen: AwareDatetime
    """When it was last known to be alive."""
    stopping: bool = False
    """It was asked to stop; how it ends then is no failure."""
    disrupted: bool = False
    """The runner was away when it ended; that is no failure."""
    ended: AwareDatetime | None = None
    """When it ended."""
    exit_code: int | None = None
    """How it ended; absent where nobody saw it."""
    summary: Summary | None = None
    """Its termination message."""
    last_words: str = ""
    """The last line that it printed, where it left no summary."""
    current: JournalEntry | None = None
    """Its meters as it last told them, beyond the journal."""

    @property
    def counts_as_failure(self) -> bool:
        """It ended badly by itself; a suspension or a disruption is none of its doing."""
        return self.ended is not None and self.exit_code != 0 and not self.was_stopped

    @property
    def was_stopped(self) -> bool:
        """Somebody else ended it."""
        return self.stopping or self.disrupted


class RoleState(Model):
    """One role of a job: its attempts, and what they said; most jobs have one role."""

    attempts: list[AttemptState] = []
    """In the order of their start."""
    entries: list[JournalEntry] = []
    """Journal entries of all its attempts, by sequence."""
    heard: int = 0
    """Journal entries up to this sequence were heard over HTTP; a summary brings later ones."""
    progress: Progress | None = None
    """What an attempt last said."""

    @property
    def active(self) -> AttemptState | None:
        """The attempt that runs or terminates."""
        last = self.attempts[-1] if self.attempts else None
        return last if last is not None and last.ended is None else None

    def with_changes(self, **changes: Any) -> Self:  # noqa: ANN401 - fields of the model
        """A copy with other values in some fields."""
        return self.model_copy(update=changes)


class JobState(Model):
    """One job and its runs."""

    uid: str
    """Stands for the object's UID."""
    created: AwareDatetime
    """The job's creation on the planner's clock."""
    spec: dict[str, JsonValue]
    """The manifest's spec as it was first seen, to refuse a changed task."""
    run: int = 0
    """The current run; 0 before the first."""
    suspend: bool = True
    """What the run's Job says."""
    roles: dict[str, RoleState]
    """By role, the first one's end being the run's."""
    address: str = ""
    """Where the server of a federated job listens, while any of its roles is active."""
    status: JobStatus | None = None
    """The job's status."""
    first_plan: PlanStatus | None = None
    """What was planned at first: why the job waited."""

    @property
    def lead(self) -> RoleState:
        """The role whose end is the run's."""
        return next(iter(self.roles.values()))

    @property
    def attempts(self) -> list[AttemptState]:
        """Of all roles, in the order of their start."""
        every = (a for role in self.roles.values() for a in role.attempts)
        return sorted(every, key=lambda attempt: attempt.started)

    def with_changes(self, **changes: Any) -> Self:  # noqa: ANN401 - fields of the model
        """A copy with other values in some fields."""
        return self.model_copy(update=changes)


class RunnerState(Model):
    """Everything that the runner remembers."""

    clock: PlanClock
    """The planner's clock."""
    last_planned: AwareDatetime
    """The latest time on it that was seen."""
    jobs: dict[str, JobState]
    """By name."""


class StateFile:
    """The runner's memory on disk; always whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "state.json"

    def load(self) -> RunnerState | None:
        """The state of an earlier start, or None.

        Raises:
            pydantic.ValidationError: the file is not such a state.

        """
        try:
            return RunnerState.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None

    def save(self, state: RunnerState) -> None:
        """Replace the file's content; durable when this returns."""
        replace_file(self._path, state.model_dump_json(by_alias=True, exclude_none=True).encode())
