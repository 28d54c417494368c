"""The planner's clock on one machine: the wall clock, or a trace replayed faster.

A replay begins at the trace's first time. While the runner is away the replay stands still: each
start of the runner sets an anchor at the last planning time that was seen.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from green_api.base import Model
from pydantic import AwareDatetime


class Anchor(Model):
    """A moment on both clocks."""

    wall: AwareDatetime
    """On the wall clock."""
    planned: AwareDatetime
    """On the planner's clock."""


class PlanClock(Model):
    """Turns times of the wall clock into times of the planner's."""

    speed: float
    """Planning seconds per second."""
    replay: bool
    """Whether the planner's clock is a trace's."""
    anchors: list[Anchor]
    """In the order of the wall clock, at least one."""

    def at(self, wall: datetime) -> datetime:
        """The planner's time at a moment of the wall clock."""
        anchor = next((a for a in reversed(self.anchors) if a.wall <= wall), self.anchors[0])
        return anchor.planned + (wall - anchor.wall) * self.speed

    def real(self, planned: timedelta) -> timedelta:
        """How long a stretch of planning time lasts on the wall clock."""
        return planned / self.speed

    def resumed(self, wall: datetime, last_planned: datetime) -> PlanClock:
        """The clock after a time away: a replay goes on where it stood, the real time went on."""
        if not self.replay:
            return self
        anchor = Anchor(wall=wall, planned=last_planned)
        return self.model_copy(update={"anchors": [*self.anchors, anchor]})

    @classmethod
    def live(cls, wall: datetime) -> PlanClock:
        """The wall clock itself."""
        return cls(speed=1.0, replay=False, anchors=[Anchor(wall=wall, planned=wall)])

    @classmethod
    def replaying(cls, wall: datetime, first: datetime, speed: float) -> PlanClock:
        """A trace from its first time, so many times faster."""
        return cls(speed=speed, replay=True, anchors=[Anchor(wall=wall, planned=first)])
