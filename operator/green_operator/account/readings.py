"""What was seen of attempts, from outside."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from green_api.contract import Counter, Mark


@dataclass(frozen=True, slots=True)
class Sample:
    """The meters of an attempt at one moment."""

    time: datetime
    mark: Mark
    counters: tuple[Counter, ...]


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt as it was seen from outside."""

    uid: str
    start: datetime
    end: datetime | None
    """None while it runs."""
    succeeded: bool
    samples: tuple[Sample, ...]
    """In the order of the journal."""
