"""Tell how far your training is. Two functions; outside a job they do nothing.

    from green_jobs import progress

    for epoch in range(epochs):
        ...
        progress.report(100 * (epoch + 1) / epochs, phase="training", loss=loss)
    progress.done()

Call them from one process only: rank 0 of a distributed training. A call costs microseconds, so
every batch may report; a disk that refuses never stops the training.
"""

from __future__ import annotations

import math
from typing import Final, SupportsFloat

from green_api.contract import MAX_TEXT_LENGTH

from green_jobs.reporter import REPORTER

_MOST_METRICS: Final = 32
_LONGEST_NAME: Final = 63


def report(
    percentage: SupportsFloat | None = None,
    *,
    phase: str | None = None,
    saved: bool = False,
    **metrics: SupportsFloat,
) -> None:
    """Report progress; what is left out keeps its last value.

    The first call also says that start-up and restore are over and work begins.

    Args:
        percentage: share of the whole work that is done, 0 to 100, over all attempts.
        phase: what is being done, for people.
        saved: a checkpoint with everything done so far has just been written.
        metrics: figures such as loss and accuracy; at most 32 names, those that are no finite
            number are left out.

    """
    state = REPORTER.state
    shown = state.percentage if percentage is None else _percentage(percentage)
    REPORTER.update(
        urgent=saved or not state.working,
        working=True,
        saved=state.saved + saved,
        phase=state.phase if phase is None else phase[:MAX_TEXT_LENGTH],
        percentage=shown,
        metrics=_merge(state.metrics, metrics),
    )


def done() -> None:
    """Say that the work is complete, so that exit 0 counts even after a SIGTERM."""
    REPORTER.update(urgent=True, working=True, done=True, percentage=100.0)


def _percentage(value: SupportsFloat) -> float | None:
    number = float(value)
    return min(max(number, 0.0), 100.0) if math.isfinite(number) else None


def _merge(old: dict[str, float], new: dict[str, SupportsFloat]) -> dict[str, float]:
    finite = {
        name[:_LONGEST_NAME]: number
        for name, value in new.items()
        if math.isfinite(number := float(value))
    }
    return dict(list({**old, **finite}.items())[:_MOST_METRICS])
