"""What the planner takes and returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from green_api.base import Signal
from green_api.units import Emissions, Energy, Intensity, Power

NOTICEABLE_SHARE: Final = 0.05
"""What is expected of a plan moves with each forecast; for less nobody decides otherwise."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A stretch of time with one intensity; the end is not part of it."""

    start: datetime
    end: datetime
    intensity: Intensity
    renewable_share: float | None = None
    """Share of renewable generation, 0 to 1, where the source states it."""

    @property
    def duration(self) -> timedelta:
        """Its length."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known of a zone's intensity: slots in order, apart from each other.

    Of the time between them nothing is known. The planner takes it at the mean of what is known
    ahead; the accounting sets its energy apart.
    """

    zone: str
    signal: Signal
    slots: tuple[Slot, ...]

    def at(self, moment: datetime) -> Slot | None:
        """The slot of a moment, where it is known."""
        return next((s for s in self.slots if s.start <= moment < s.end), None)


@dataclass(frozen=True, slots=True)
class JobRequest:
    """One job as the planner sees it."""

    key: str
    """Names the job in the fleet and in the answer."""
    zones: tuple[str, ...]
    """Zones that it may run in, by preference."""
    remaining: timedelta
    """Run time that is left."""
    power: Power
    """Expected draw while it runs."""
    deadline: datetime | None
    """When it must have ended; None only where it starts at once."""
    interruptible: bool
    """Its run time may be split over several windows."""
    immediately: bool = False
    """Its author asks to start now."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """All jobs that want to run, and what is known of the zones."""

    requests: tuple[JobRequest, ...]
    outlooks: Mapping[str, Outlook]
    """By zone; a zone without usable data is absent."""
    outage_margin: timedelta
    """A deadline is met although the operator is away for so long."""


class PlanReason(StrEnum):
    """Why a plan is as it is."""

    LOWEST_EMISSIONS = "LowestEmissions"
    """The cleanest time before the deadline lies ahead."""
    CLEANEST_NOW = "CleanestNow"
    """No later time before the deadline is cleaner."""
    STARTS_IMMEDIATELY = "StartsImmediately"
    """The job's policy says so."""
    LATEST_START_REACHED = "LatestStartReached"
    """The work that is left fills the time before the deadline less the outage margin."""
    DEADLINE_AT_RISK = "DeadlineAtRisk"
    """The work that is left does not fit there any more."""
    INTENSITY_UNKNOWN = "IntensityUnknown"
    """Nothing is known of any zone of the job."""


@dataclass(frozen=True, slots=True)
class Window:
    """An uninterrupted stretch of planned run time."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a set of windows would use and emit."""

    energy: Energy
    emissions: Emissions | None
    """None where no intensity is known."""
    intensity: Intensity | None
    """Mean over the windows, weighted by time."""
    renewable_share: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """When and where a job is to run, and what that saves."""

    key: str
    reason: PlanReason
    zone: str | None
    signal: Signal | None
    windows: tuple[Window, ...]
    """In order, apart from each other, long enough for the work that remains; never empty."""
    expected: Expectation
    run_now: Expectation
    """The same work from now on without a pause, in the same zone."""
    deadline: datetime | None
    latest_start: datetime | None
    """Deadline less remaining time less outage margin."""
    assumed: timedelta = timedelta(0)
    """How much of the planned time has no known intensity and was taken at the mean of the rest."""

    def runs_at(self, moment: datetime) -> bool:
        """Whether the job is to run at this moment."""
        return any(window.start <= moment < window.end for window in self.windows)

    def differs_from(self, other: Plan) -> bool:
        """Whether it says something else that matters: when, where, why, or what is expected."""
        if (self.windows, self.zone, self.reason) != (other.windows, other.zone, other.reason):
            return True
        if (self.signal, self.latest_start) != (other.signal, other.latest_start):
            return True
        mine, its = (
            p.expected.emissions.grams if p.expected.emissions else 0.0 for p in (self, other)
        )
        return abs(mine - its) > NOTICEABLE_SHARE * its

    @property
    def saving(self) -> Emissions | None:
        """Expected difference to running now; negative never, zero where it runs now."""
        if self.expected.emissions is None or self.run_now.emissions is None:
            return None
        return self.run_now.emissions - self.expected.emissions
