"""The lock on a job's folder: the newest attempt holds it.

The operator starts an attempt only when none is active, so the newest is the rightful one; an older
one that still runs (a node that came back) finds the lock taken before its next write and stops.
The lock fences writes, it does not wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from green_api.errors import GreenError

from green_jobs.files import write_atomically


class LockLostError(GreenError):
    """Another attempt has taken the job's folder; this one must stop without writing."""


@dataclass(frozen=True)
class Lock:
    """The lock of one attempt on a job's folder."""

    folder: Path
    attempt: str

    @property
    def _path(self) -> Path:
        return self.folder / "lock"

    def take(self) -> None:
        """Become the holder, whoever was it before."""
        write_atomically(self._path, self.attempt.encode())

    def ensure(self) -> None:
        """Check before every write to the job's folder.

        Raises:
            LockLostError: another attempt holds the lock.

        """
        holder = self._path.read_text()
        if holder != self.attempt:
            msg = f"attempt {holder} has taken over the folder from attempt {self.attempt}"
            raise LockLostError(msg)
