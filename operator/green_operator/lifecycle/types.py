"""What a decision is made of, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from green_api.contract import Progress, Summary
from green_api.job import GreenTrainingJob
from green_api.status import JobStatus

from green_operator.account.statement import Statement
from green_operator.plan.types import Plan


class RunEnd(StrEnum):
    """How a run ended, as batch/v1 calls it."""

    COMPLETE = "Complete"
    """An attempt exited 0."""
    FAILED = "Failed"
    """No more attempts are made."""


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as it was seen."""

    number: int
    suspend: bool
    active: int
    """Attempts that run or terminate."""
    failed_attempts: int
    end: RunEnd | None
    reason: str
    """Why it failed, CamelCase; empty unless it did."""
    message: str
    summary: Summary | None
    """The last termination message of the run."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a decision depends on, seen at one moment."""

    job: GreenTrainingJob
    now: datetime
    deadline: datetime | None
    plan: Plan | None
    """None once the job has ended."""
    intensity_known: bool
    intensity_source: str
    run: RunView | None
    started: datetime | None
    """When the first attempt started."""
    attempts: int
    active_time: timedelta
    progress: Progress | None
    progress_available: bool
    """The running attempt answers."""
    statement: Statement | None
    previous: JobStatus | None


@dataclass(frozen=True, slots=True)
class DesiredRun:
    """The run that ought to exist; it is made suspended, and only `suspend` changes later."""

    number: int
    suspend: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from a snapshot."""

    status: JobStatus
    run: DesiredRun | None
    """None leaves everything as it is."""
