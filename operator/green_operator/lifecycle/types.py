"""What a decision is made of, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from green_api.contract import Progress, Summary
from green_api.job import GreenTrainingJob
from green_api.status import AccountStatus, JobStatus, RoleAccountStatus

from green_operator.account.statement import Statement
from green_operator.plan.types import Plan


class RunEnd(StrEnum):
    """How a run ended, as batch/v1 calls it."""

    COMPLETE = "Complete"
    """An attempt exited 0."""
    FAILED = "Failed"
    """No more attempts are made."""


POD_NOT_ENDING: Final = "PodNotEnding"
"""Reason of a pod that is still there long after its grace period."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps a run's pod from working, or from going."""

    reason: str
    """CamelCase, for programs."""
    message: str
    """For people; it names the pod and, where there is one, the node."""


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as it was seen."""

    number: int
    suspend: bool
    active: int
    """Attempts that wait, run or terminate."""
    running: int
    """Attempts that work."""
    failed_attempts: int
    end: RunEnd | None
    reason: str
    """Why it failed, CamelCase; empty unless it did."""
    message: str
    summary: Summary | None
    """The last termination message of the run."""
    name: str | None = None
    """Its Job; None on one machine."""
    uid: str | None = None
    """The Job's UID."""
    obstacle: Obstacle | None = None
    """What keeps its pod from working."""
    closing: RunEnd | None = None
    """How its server ended, while sites are still active; only with several roles."""
    lost: str = ""
    """Which sites have failed for good, and why; only with several roles."""


@dataclass(frozen=True, slots=True)
class RoleView:
    """A role of a federated job as it is shown."""

    name: str
    run: RunView | None
    """Its part of the run; None before the first."""
    zone: str | None
    """The grid zone that it runs in."""
    statement: Statement | None
    """What it has used; None before its first attempt."""


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
    progress_problem: str
    """Why the running attempt's answer cannot be used; empty where it can."""
    statement: Statement | None
    previous: JobStatus | None
    account: AccountStatus | None = None
    """The books behind the statement, where the status has to carry them."""
    next_run: int = 1
    """The number of the next run, where there is none."""
    leftover: Obstacle | None = None
    """A pod of an earlier run is still there."""
    held: Obstacle | None = None
    """Why the run is kept suspended, whatever its plan says."""
    claim: Obstacle | None = None
    """What is wrong with the claim, if anything is known to be."""
    ended: datetime | None = None
    """When the last attempt that has ended did so."""
    accounts: tuple[RoleAccountStatus, ...] | None = None
    """The books of each role, where there are several and the status has to carry them."""
    roles: tuple[RoleView, ...] = ()
    """Each role, where there are several."""
    closing_late: bool = False
    """The server ended long enough ago: sites that are still active are not waited for."""


@dataclass(frozen=True, slots=True)
class DesiredRun:
    """The run that ought to exist; it is made suspended, and only `suspend` changes later."""

    number: int
    suspend: bool
    zone: str | None = None
    """Where it is to run."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from a snapshot."""

    status: JobStatus
    run: DesiredRun | None
    """None leaves everything as it is."""
    expires: datetime | None = None
    """When the job is to be deleted, as its author asked."""
