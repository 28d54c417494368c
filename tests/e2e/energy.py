"""Whether what is told of a role's energy is what its injected meter said, through any kill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from green_api.contract import Component, JournalEntry, Mark
from green_api.units import Power
from green_operator.account.book import Book
from green_operator.account.readings import AttemptRecord
from green_operator.local.clock import PlanClock
from green_operator.local.state import AttemptState, RoleState
from green_operator.local.views import attempt_records


def check_meter(role: RoleState, folder: Path, meter: Path) -> float:
    """What was journalled and reported is what the injected meter said, for every attempt.

    Args:
        role: what the runner remembers.
        folder: the role's own.
        meter: folder with one log of the meter for each attempt.

    Returns:
        Joules of all attempts: of each the most that was seen.

    """
    for attempt in role.attempts:
        log = meter / f"{attempt.uid}.log"
        told = [int(line.split()[1]) for line in log.read_text().split("\n")[:-1]] if log.exists() else []  # fmt: skip
        deltas = [(value - told[0]) / 1000 for value in told]
        reported = _gpu_joules([e for e in role.entries if e.attempt == attempt.uid])
        journal = folder / "journal" / f"{attempt.uid}.jsonl"
        journalled = _gpu_joules(_read(journal))
        if attempt is role.attempts[-1]:
            # Of its last second only the end was heard, from the summary.
            assert set(reported) <= set(journalled)
            assert reported[-1] == journalled[-1]
        else:
            assert reported == journalled
        assert set(reported) <= set(deltas)
        if any(e.mark is Mark.ENDED for e in role.entries if e.attempt == attempt.uid):
            assert reported[-1] == deltas[-1]
    return sum(_most(role, attempt) for attempt in role.attempts)


def _read(journal: Path) -> list[JournalEntry]:
    """Whole lines only: a kill may have torn the last."""
    if not journal.exists():
        return []
    lines = journal.read_bytes().split(b"\n")[:-1]
    return [JournalEntry.model_validate_json(line) for line in lines if line]


def _gpu_joules(entries: Sequence[JournalEntry]) -> list[float]:
    return [c.joules for e in entries for c in e.counters if c.component is Component.GPU]


def _most(role: RoleState, attempt: AttemptState) -> float:
    entries = [e for e in role.entries if e.attempt == attempt.uid]
    if attempt.current is not None:
        entries.append(attempt.current)
    return max(_gpu_joules(entries), default=0.0)


def check_tails(role: RoleState, clock: PlanClock, watts: Power) -> None:
    """One tail for each attempt that ended without a word, and none for any other."""
    records = attempt_records(role, clock)
    reserved = Power(watts.watts / clock.speed)
    tails = {r.uid: tail for r in records if (tail := _tail(r, reserved)) is not None}
    silent = [r for r in records if r.samples and all(s.mark is not Mark.ENDED for s in r.samples)]
    never_seen = [r for r in records if not r.samples and r.end is not None and r.end > r.start]
    assert list(tails) == [r.uid for r in records if r in silent or r in never_seen]
    for tail in tails.values():
        unseen = (tail.end - tail.start) / clock.speed
        assert tail.joules == pytest.approx((watts * unseen).joules, abs=1e-3)
        # At most the time in which nobody looked, an interval and the restart.
        assert unseen < timedelta(seconds=30)


@dataclass(frozen=True)
class Tail:
    start: datetime
    end: datetime
    joules: float


def _tail(record: AttemptRecord, reserved: Power) -> Tail | None:
    """What the books estimate of an attempt that nobody saw to its end."""
    book = Book(reserved, record.start)
    attempt = book.begin(record.uid, record.start, None)
    for sample in record.samples:
        book.enter(attempt, sample, None)
    if record.end is None:
        return None
    book.end(attempt, record.end, succeeded=record.succeeded, intensity=None)
    if attempt.tail is None:
        return None
    return Tail(attempt.last, record.end, attempt.tail[1].millijoules / 1000)
