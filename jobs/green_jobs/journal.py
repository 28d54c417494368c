"""The journal of a job's energy: one file of JSON lines per attempt, on the claim."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from green_api.contract import Counter, JournalEntry, Mark
from pydantic import ValidationError

from green_jobs.console import warn
from green_jobs.lock import Lock


def read_journals(folder: Path) -> list[JournalEntry]:
    """The entries of all attempts in their order.

    A line that is no entry is left out: the last one of an attempt that was killed while it wrote.

    Raises:
        OSError: a file cannot be read.

    """
    entries = (entry for file in folder.glob("*.jsonl") for entry in _read(file))
    return sorted(entries, key=lambda entry: entry.sequence)


def _read(file: Path) -> Iterator[JournalEntry]:
    for line in file.read_bytes().splitlines():
        with contextlib.suppress(ValidationError):
            yield JournalEntry.model_validate_json(line)


class Journal:
    """The entries of all attempts; those of this one are written as they come.

    Whatever the disk says, the job goes on: what could not be written is kept and tried again.

    Args:
        folder: where the journals of all attempts lie.
        attempt: this attempt's UID.
        lock: held already, so that no other attempt adds entries while the old ones are read.

    """

    def __init__(self, folder: Path, attempt: str, lock: Lock) -> None:
        self.entries = read_journals(folder)
        self._attempt = attempt
        self._lock = lock
        self._file = folder / f"{attempt}.jsonl"
        self._written = self._file.stat().st_size if self._file.exists() else 0
        self._pending: list[bytes] = [b"\n"] if self._written else []
        self._has_warned = False

    @property
    def newest_sequence(self) -> int:
        """The sequence of the newest entry; 0 before the first."""
        return self.entries[-1].sequence if self.entries else 0

    def append(self, mark: Mark, time: datetime, counters: list[Counter]) -> JournalEntry:
        """Add an entry and write it if the disk lets us.

        Raises:
            LockLostError: another attempt has taken the folder; nothing was written.

        """
        entry = JournalEntry(
            # By the clock, so that numbers told over HTTP but never written are not given again.
            sequence=max(self.newest_sequence + 1, int(time.timestamp() * 1000)),
            attempt=self._attempt,
            time=time,
            mark=mark,
            counters=counters,
        )
        self.entries.append(entry)
        self._pending.append(entry.model_dump_json(by_alias=True).encode() + b"\n")
        self.flush()
        return entry

    def flush(self) -> None:
        """Write what is still to be written.

        Raises:
            LockLostError: another attempt has taken the folder; nothing was written.

        """
        if not self._pending:
            return
        data = b"".join(self._pending)
        try:
            self._lock.ensure()
            self._write(data)
        except OSError as error:
            self._warn_once(error)
            return
        self._written += len(data)
        self._pending.clear()

    def _write(self, data: bytes) -> None:
        with self._file.open("ab") as file:
            file.truncate(self._written)  # a disk that filled up may have taken half a line
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def _warn_once(self, error: OSError) -> None:
        if not self._has_warned:
            self._has_warned = True
            warn(f"the journal cannot be written and is kept in memory: {error}")
