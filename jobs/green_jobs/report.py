"""The full report on the claim, and the done-marker that is written after it."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from green_api.contract import (
    Artifact,
    JournalEntry,
    Report,
    Result,
    Summary,
    digest,
)
from pydantic import ValidationError

from green_jobs.attempt import Attempt
from green_jobs.console import warn
from green_jobs.ending import Ending
from green_jobs.files import write_atomically
from green_jobs.lock import Lock
from green_jobs.state import WorkerState


def find_done(attempt: Attempt) -> Summary | None:
    """The summary in the done-marker, if there is one and it fits the report."""
    with contextlib.suppress(OSError, ValidationError):
        summary = Summary.model_validate_json(attempt.done_marker.read_bytes())
        if summary.report_sha256 == digest(attempt.report.read_bytes()):
            return summary
    return None


def write_report(
    attempt: Attempt,
    lock: Lock,
    ending: Ending,
    state: WorkerState,
    journal: Sequence[JournalEntry],
) -> Summary:
    """Write the report and return the summary that carries its digest.

    Raises:
        LockLostError: another attempt has taken the folder; nothing was written.
        OSError: the claim cannot be read or written.

    """
    document = attempt.document
    report = Report(
        namespace=document.namespace,
        name=document.name,
        task=document.task,
        outcome=ending.outcome,
        message=ending.message,
        result=state.result or Result(metrics=state.metrics),
        details=state.details,
        artifacts=list(_artifacts(attempt)),
        journal=last_entries(journal),
    )
    data = report.model_dump_json(by_alias=True, exclude_none=True, indent=2).encode()
    lock.ensure()
    write_atomically(attempt.report, data)
    return Summary(
        attempt=attempt.uid,
        outcome=ending.outcome,
        message=ending.message,
        final=journal[-1],
        result=report.result,
        report_path=str(attempt.report.relative_to(attempt.claim)) if attempt.has_claim else None,
        report_sha256=digest(data),
    )


def mark_done(attempt: Attempt, lock: Lock, summary: Summary) -> None:
    """Write the done-marker, after everything that it stands for.

    Raises:
        LockLostError: another attempt has taken the folder; nothing was written.
        OSError: the claim cannot be written.

    """
    lock.ensure()
    write_atomically(attempt.done_marker, summary.model_dump_json(by_alias=True).encode())


def last_entries(journal: Sequence[JournalEntry]) -> list[JournalEntry]:
    """The last entry of each attempt, oldest first."""
    last = {entry.attempt: entry for entry in journal}
    return sorted(last.values(), key=lambda entry: entry.sequence)


def _artifacts(attempt: Attempt) -> Iterator[Artifact]:
    """All regular files of the output; links are not followed, they may lead off the claim."""
    for file in sorted(_files(attempt.output)):
        try:
            yield Artifact(
                path=str(file.relative_to(attempt.claim)),
                bytes=file.stat().st_size,
                sha256=_digest_of(file),
            )
        except ValidationError:
            warn(f"{os.fsencode(file)!r} is not in the report: its path is too long or no text")


def _files(folder: Path) -> Iterator[Path]:
    for parent, _folders, names in os.walk(folder):
        yield from (
            file
            for name in names
            if (file := Path(parent, name)).is_file() and not file.is_symlink()
        )


def _digest_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
