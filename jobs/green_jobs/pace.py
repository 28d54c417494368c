"""How long the rest will take, from the pace of this attempt. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_LEAST_POINTS: Final = 1.0
"""Percentage points to be made before a pace says anything."""


@dataclass(frozen=True)
class Pace:
    """Where work began in this attempt.

    Args:
        seconds: when, on a monotonic clock.
        percentage: how much was done by then.

    """

    seconds: float
    percentage: float

    def remaining(self, seconds: float, percentage: float) -> float | None:
        """Seconds of work left, or None while too little has been done to tell.

        Args:
            seconds: now, on the same clock.
            percentage: how much is done.

        """
        made = percentage - self.percentage
        if made < _LEAST_POINTS:
            return None
        return (100.0 - percentage) * (seconds - self.seconds) / made
