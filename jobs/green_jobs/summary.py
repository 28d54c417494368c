"""The termination message: the summary of an attempt, made to fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from green_api.contract import MAX_SUMMARY_BYTES, Result, Summary

from green_jobs.console import warn

_SHORT_MESSAGE: Final = 120


def fit(summary: Summary) -> bytes:
    """The summary as JSON of at most MAX_SUMMARY_BYTES.

    What has to go stands in the report too, or is prose: first most of the message, then what is
    told of earlier attempts, then metrics, then rounds by site, then the whole result.
    """
    candidates = (s.model_dump_json(by_alias=True, exclude_none=True) for s in _shorter(summary))
    return next(data for text in candidates if len(data := text.encode()) <= MAX_SUMMARY_BYTES)


def _shorter(summary: Summary) -> Iterator[Summary]:
    yield summary
    summary = summary.model_copy(update={"message": _shorten(summary.message)})
    yield summary
    own = [entry for entry in summary.kept if entry.attempt == summary.attempt]
    summary = summary.model_copy(update={"kept": own})
    yield summary
    result = (summary.result or Result()).model_copy(update={"metrics": {}})
    yield summary.model_copy(update={"result": result})
    yield summary.model_copy(update={"result": result.model_copy(update={"rounds": None})})
    yield summary.model_copy(update={"result": None})


def _shorten(message: str) -> str:
    return message if len(message) <= _SHORT_MESSAGE else message[: _SHORT_MESSAGE - 1] + "…"


def tell(summary: Summary, file: Path) -> None:
    """Write the termination message; a kubelet's file is a mount and cannot be replaced."""
    try:
        file.write_bytes(fit(summary))
    except OSError as error:
        warn(f"the termination message cannot be written: {error}")
