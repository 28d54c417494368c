"""What a live source is known to say: the last good answers of a provider, and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from green_api.zone import Source

from green_operator.plan.types import Slot
from green_operator.sources.overlay import overlay

# A forecast of half a day ago is still better than a yearly mean, but what the chain calls fresh
# has to notice an outage within a working day; six hours bear a failed night's run of polls.
USABLE_FOR: Final = timedelta(hours=6)
"""A source whose newest answer is older is passed over."""
_LATE_AFTER: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one poll of a provider brought."""

    observed: tuple[Slot, ...]
    """The past and, where the provider states it, the present."""
    forecast: tuple[Slot, ...]
    remark: str = ""
    """What the source never gives, for people, such as a forecast without the plan for it."""


@dataclass(frozen=True, slots=True)
class Part:
    """Slots, and when they were fetched."""

    slots: tuple[Slot, ...]
    fetched: datetime


@dataclass(frozen=True, slots=True)
class Live:
    """The last good answers of a live source. Its parts can be of different polls."""

    observed: Part | None = None
    forecast: Part | None = None
    remark: str = ""
    problem: str = ""
    """Why the last poll brought not all; "" where it did."""

    def after(self, answer: Answer, now: datetime, problem: str = "") -> Live:
        """What is known after a poll; a part that did not come stays as it was."""
        # A forecast that the source does not give any more is no failure, and gone.
        kept = None if answer.remark else self.forecast
        return Live(
            observed=Part(answer.observed, now) if answer.observed else self.observed,
            forecast=Part(answer.forecast, now) if answer.forecast else kept,
            remark=answer.remark,
            problem=problem,
        )

    def failed(self, problem: str) -> Live:
        """What is known after a poll that brought nothing."""
        return replace(self, problem=problem)

    @property
    def fetched(self) -> datetime | None:
        """When the newest part came; None before the first."""
        return max(self._times(), default=None)

    def slots(self, now: datetime) -> tuple[Slot, ...]:
        """What was observed, and beyond it the forecast, while that is usable."""
        observed = self.observed.slots if self.observed else ()
        if self.forecast is None or now - self.forecast.fetched > USABLE_FOR:
            return observed
        return overlay(observed, self.forecast.slots)

    def why_not(self, now: datetime) -> str:
        """Why it cannot be used, or "": the same words while the cause is the same."""
        if self.fetched is None:
            return self.problem or "it has not answered yet"
        if now - self.fetched > USABLE_FOR:
            return f"its last answer is more than 6 h old ({self.problem or 'it was not asked'})"
        return ""

    def remarks(self, now: datetime) -> str:
        """What to know of it while it is in use: the class of its age, not the age itself."""
        said = [self.remark] if self.remark else []
        if any(now - time > _LATE_AFTER for time in self._times()):
            said.append(f"not fresh for more than 1 h: {self.problem or 'it was not asked'}")
        return "; ".join(said)

    def _times(self) -> list[datetime]:
        return [part.fetched for part in (self.observed, self.forecast) if part is not None]


def live_name(source: Source) -> str:
    """What to call a live source."""
    if source.uk_neso is not None:
        region = source.uk_neso.region
        return "ukNeso" if region is None else f"ukNeso region {region}"
    assert source.electricity_maps is not None  # noqa: S101 - it is live
    return f"electricityMaps {source.electricity_maps.zone}"
