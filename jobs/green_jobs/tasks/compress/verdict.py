"""What came out, and whether it is good enough."""

from __future__ import annotations

from dataclasses import dataclass

from green_api.contract import ModelFigures, Result
from green_api.task import Compress
from pydantic import JsonValue

from green_jobs.tasks.compress.attempt import FIELD


@dataclass(frozen=True)
class Outcome:
    """What came out.

    Args:
        result: the figures.
        details: what the full report adds.
        problem: how the accuracy limit is broken; empty where it holds.

    """

    result: Result
    details: dict[str, JsonValue]
    problem: str


def broken_limit(task: Compress, before: ModelFigures, after: ModelFigures) -> str:
    """How the accuracy limit is broken; empty where it holds."""
    limit = task.max_accuracy_drop_points
    # Rounded, because 0.90 - 0.895 is a little more than half a point in binary.
    drop = round(100 * (before.accuracy - after.accuracy), 6)
    if limit is None or drop <= limit:
        return ""
    return (
        f"{FIELD}.maxAccuracyDropPoints: {limit:g}: test accuracy fell by {drop:.2f} points, from "
        f"{100 * before.accuracy:.2f} to {100 * after.accuracy:.2f} %; prune less, train the "
        "steps longer or allow more"
    )
