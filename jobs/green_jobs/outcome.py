"""What the builtin tasks tell their supervisor beside their progress."""

from __future__ import annotations

from green_api.contract import MAX_TEXT_LENGTH, Result
from pydantic import JsonValue

from green_jobs.reporter import REPORTER


def finish(result: Result, details: dict[str, JsonValue], message: str = "") -> None:
    """Hand over what came out; called last, with every file of the output in its place.

    Args:
        result: what came out.
        details: what the full report adds.
        message: why the work is complete, where that is not plain.

    """
    REPORTER.update(
        urgent=True,
        working=True,
        done=True,
        percentage=100.0,
        result=result,
        details=details,
        message=message[:MAX_TEXT_LENGTH],
    )


def fail(message: str, result: Result | None = None, **details: JsonValue) -> None:
    """Say in one sentence why the task fails; the exit code follows.

    Args:
        message: what is wrong and how to mend it.
        result: what came out all the same, where a limit was broken.
        details: what the full report adds in that case.

    """
    REPORTER.update(urgent=True, message=message[:MAX_TEXT_LENGTH], result=result, details=details)
