"""What is left of a job's work, and what it draws meanwhile."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from green_api.contract import Progress
from green_api.units import Energy, Power

# Below so much progress, its pace says little.
_TELLING_PERCENTAGE: Final = 5.0
# A job that has outrun its estimate is taken to need this share of it again.
_OVERRUN_SHARE: Final = 0.1
# A job that has not ended is never taken to be through: closing a report takes time too.
_LEAST_SHARE: Final = 0.01
# A pod's word beyond it is taken as this.
_LONGEST: Final = timedelta(days=365)


def remaining_time(
    expected: timedelta, active: timedelta, progress: Progress | None, speed: float = 1.0
) -> timedelta:
    """Run time that is left: by the pod's own word, by its progress, or by the author's estimate.

    Args:
        expected: the author's estimate of the whole run time.
        active: run time so far, pauses not counted.
        progress: what a pod last said.
        speed: planning seconds per second of the pod's clock (a replay is faster).

    """
    least = max(expected * _LEAST_SHARE, timedelta(seconds=1))
    if progress is not None and progress.estimated_remaining_seconds is not None:
        told = min(progress.estimated_remaining_seconds * speed, _LONGEST.total_seconds())
        return max(timedelta(seconds=told), least)
    done = progress.percentage if progress is not None else None
    if done is not None and done >= _TELLING_PERCENTAGE:
        return max(active * ((100.0 - done) / done), least)
    return max(expected - active, expected * _OVERRUN_SHARE)


def expected_power(reserved: Power, used: Energy, active: timedelta) -> Power:
    """What the job will draw: what it drew so far, or the reservation before it has run."""
    if not active or not used.joules:
        return reserved
    return Power(used.joules / active.total_seconds())
