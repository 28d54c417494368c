"""The books of one role of a job: readings are entered one by one, and the sums stand after each.

A job's energy is the sum over its attempts of the most that was seen of each. What was not seen
between the last reading and an attempt's end is one tail, estimated from the reserved power; it
gives way to readings that come later. Emissions are location-based: each interval's energy times
the intensity of its time (GHG Protocol Scope 2 Guidance, 2015, with hourly or finer factors).

The counterfactual is the job's useful work, uninterrupted, from its earliest feasible start, in the
same place and with the same overheads. The first attempt's start-up would be needed without
interruptions too, a later one's only repeats it. Of an attempt that ended early the work up to its
last checkpoint was kept. What a task says was in vain (a federated round that failed, waiting for
sites) is dropped back to its last checkpoint, or to where it began to work. A task that never says
when it begins to work or saves is taken to start over each time.

The books fit into a status (``to_status``, ``from_status``), so that an operator that was killed
goes on with them: whole milligrams are never lost to rounding, for a counter is rounded once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from green_api.base import Provenance, Signal
from green_api.contract import Component, Mark, Method
from green_api.status import (
    AccountStatus,
    AmountStatus,
    AttemptStatus,
    CounterStatus,
    UsefulStatus,
)
from green_api.units import Energy, Power

from green_operator.account.readings import Sample
from green_operator.plan.types import Outlook, Slot, Window
from green_operator.plan.windows import overlap

KEPT_ATTEMPTS: Final = 3
"""Latest attempts whose readings may still come."""
# What a status has room for; no honest job comes near.
_MOST_COUNTERS: Final = 8
_MOST_AMOUNTS: Final = 24
_MICROSECOND: Final = timedelta(microseconds=1)
_CounterKey = tuple[Component, Provenance, Method]
AmountKey = tuple[str | None, Signal | None, Provenance]
"""Zone, kind of intensity and provenance."""


@dataclass(slots=True)
class Amount:
    """Energy and emissions as whole millijoules and nanograms."""

    millijoules: int = 0
    nanograms: int = 0
    unaccounted_millijoules: int = 0

    def add(self, other: Amount) -> None:
        """Add another amount to this one."""
        self.millijoules += other.millijoules
        self.nanograms += other.nanograms
        self.unaccounted_millijoules += other.unaccounted_millijoules


@dataclass(slots=True)
class Useful:
    """Useful work: how long it took and what it would have emitted without pauses."""

    duration: timedelta = timedelta(0)
    nanograms: int = 0
    unknown: bool = False

    def plus(self, other: Useful) -> Useful:
        """The sum of both."""
        return Useful(
            self.duration + other.duration,
            self.nanograms + other.nanograms,
            self.unknown or other.unknown,
        )


@dataclass(slots=True)
class AttemptBook:
    """One attempt as far as it is accounted for."""

    uid: str
    zone: str | None
    start: datetime
    last: datetime
    end: datetime | None = None
    succeeded: bool = False
    told_end: bool = False
    counters: dict[_CounterKey, int] = field(default_factory=dict)
    pending: Useful = field(default_factory=Useful)
    tail: tuple[Signal | None, Amount] | None = None

    @property
    def counts(self) -> bool:
        """Its pending work stands: it runs, or it ended well."""
        return self.end is None or self.succeeded


class Book:
    """The books of one role of a job; most jobs have one role.

    Args:
        reserved: what the reservation can draw, for unseen tails.
        earliest: when the job could have started.
        kept_attempts: how many of the latest stay open for readings that come later; two at least.

    """

    def __init__(
        self, reserved: Power, earliest: datetime, kept_attempts: int = KEPT_ATTEMPTS
    ) -> None:
        self.sequence = 0
        self.attempts = 0
        self.amounts: dict[AmountKey, Amount] = {}
        self.kept = Useful()
        self.latest: list[AttemptBook] = []
        self.closed_until: datetime | None = None
        """When the newest attempt began that nothing more is entered for."""
        self.reserved = reserved
        self.earliest = earliest
        self._kept_attempts = kept_attempts
        self._closed_active = timedelta(0)

    def attempt(self, uid: str) -> AttemptBook | None:
        """One of the latest attempts."""
        return next((a for a in self.latest if a.uid == uid), None)

    def begin(self, uid: str, start: datetime, zone: str | None) -> AttemptBook | None:
        """Open an attempt, or find it again; None for an old one that is closed for good."""
        known = self.attempt(uid)
        if known is not None:
            known.zone = known.zone or zone
            return known
        if self._is_closed(start):
            return None
        return self._open(AttemptBook(uid, zone, start, start), len(self.latest))

    def insert_before_last(self, uid: str, start: datetime, zone: str | None) -> AttemptBook | None:
        """Open an attempt that nobody saw: the newest one tells of it."""
        if self._is_closed(start):
            return None
        return self._open(AttemptBook(uid, zone, start, start), max(len(self.latest) - 1, 0))

    def enter(self, attempt: AttemptBook, sample: Sample, intensity: Outlook | None) -> None:
        """Enter one reading of an attempt's meters.

        A counter that fell or was sent twice adds nothing; its interval still has its place in the
        counterfactual, for idle time takes time too.
        """
        interval = Window(attempt.last, max(sample.time, attempt.last))
        rises: dict[Provenance, int] = {}
        for counter in sample.counters:
            key = (counter.component, counter.provenance, counter.method)
            if key not in attempt.counters and len(attempt.counters) == _MOST_COUNTERS:
                continue
            seen = round(counter.joules * 1000)
            rise = max(seen - attempt.counters.get(key, 0), 0)
            attempt.counters[key] = max(seen, attempt.counters.get(key, 0))
            rises[counter.provenance] = rises.get(counter.provenance, 0) + rise
        for provenance, rise in rises.items():
            amount = amount_in(rise, interval, intensity)
            signal = intensity.signal if intensity else None
            self._amount(attempt.zone, signal, provenance).add(amount)
        self._enter_useful(attempt, sample.mark, interval, sum(rises.values()), intensity)
        attempt.last = interval.end
        attempt.told_end = attempt.told_end or sample.mark is Mark.ENDED
        if attempt.end is not None:
            self._estimate_tail(attempt, intensity)

    def end(
        self, attempt: AttemptBook, end: datetime, *, succeeded: bool, intensity: Outlook | None
    ) -> None:
        """Close an attempt; what was not seen of it is estimated."""
        attempt.end = max(end, attempt.start)
        attempt.succeeded = succeeded
        if succeeded:
            self._keep(attempt)
        self._estimate_tail(attempt, intensity)

    def active_time(self, now: datetime) -> timedelta:
        """Run time of all attempts, pauses not counted."""
        spans = ((a.end or max(now, a.start)) - a.start for a in self.latest)
        return sum(spans, self._closed_active)

    def all_amounts(self) -> dict[AmountKey, Amount]:
        """Energy and emissions by zone, signal and provenance, tails included."""
        whole: dict[AmountKey, Amount] = {}
        for key, amount in [*self.amounts.items(), *self.tails()]:
            whole.setdefault(key, Amount()).add(amount)
        return whole

    def counterfactual(self) -> Useful:
        """The useful work so far: what was kept, and what running attempts have done since."""
        useful = self.kept
        for attempt in self.latest:
            if attempt.counts:
                useful = useful.plus(attempt.pending)
        return useful

    def to_status(self) -> AccountStatus:
        """The books as a status carries them."""
        return AccountStatus(
            sequence=self.sequence,
            attempts=self.attempts,
            active_microseconds=self._closed_active // _MICROSECOND,
            amounts=[_amount_status(key, amount) for key, amount in self.amounts.items()],
            kept=_useful_status(self.kept),
            closed_until=self.closed_until,
            latest=[_attempt_status(a) for a in self.latest],
        )

    @classmethod
    def from_status(
        cls,
        status: AccountStatus | None,
        reserved: Power,
        earliest: datetime,
        kept_attempts: int = KEPT_ATTEMPTS,
    ) -> Book:
        """The books that a status carries; new ones where there are none."""
        book = cls(reserved, earliest, kept_attempts)
        if status is None:
            return book
        book.sequence, book.attempts = status.sequence, status.attempts
        book.amounts = {(a.zone, a.signal, a.provenance): _amount(a) for a in status.amounts}
        book.kept = _useful(status.kept)
        book.closed_until = status.closed_until
        book.latest = [_attempt(a) for a in status.latest]
        book._closed_active = status.active_microseconds * _MICROSECOND
        return book

    def _is_closed(self, start: datetime) -> bool:
        return self.closed_until is not None and start <= self.closed_until

    def _open(self, opened: AttemptBook, place: int) -> AttemptBook:
        self.attempts += 1
        self.latest = [*self.latest[:place], opened, *self.latest[place:]]
        for old in self.latest[: -self._kept_attempts]:
            self._close(old)
        self.latest = self.latest[-self._kept_attempts :]
        return opened

    def _enter_useful(
        self,
        attempt: AttemptBook,
        mark: Mark,
        interval: Window,
        millijoules: int,
        intensity: Outlook | None,
    ) -> None:
        placed = self.earliest + self.kept.duration + attempt.pending.duration
        length = interval.end - interval.start
        amount = amount_in(millijoules, Window(placed, placed + length), intensity)
        unknown = amount.unaccounted_millijoules > 0
        attempt.pending = attempt.pending.plus(Useful(length, amount.nanograms, unknown))
        is_first = self.attempts == len(self.latest) and attempt is self.latest[0]
        if mark is Mark.SAVED or (mark is Mark.WORKING and is_first):
            self._keep(attempt)
        elif mark in {Mark.WORKING, Mark.DISCARDED}:
            attempt.pending = Useful()

    def _keep(self, attempt: AttemptBook) -> None:
        self.kept = self.kept.plus(attempt.pending)
        attempt.pending = Useful()

    def _estimate_tail(self, attempt: AttemptBook, intensity: Outlook | None) -> None:
        attempt.tail = None
        if attempt.end is None or attempt.told_end or attempt.end <= attempt.last:
            return
        unseen = Window(attempt.last, attempt.end)
        energy = self.reserved * (unseen.end - unseen.start)
        amount = amount_in(round(energy.joules * 1000), unseen, intensity)
        attempt.tail = (intensity.signal if intensity else None, amount)

    def _close(self, attempt: AttemptBook) -> None:
        """Nothing more is expected of an old attempt."""
        for (zone, signal, provenance), amount in self._tails_of(attempt):
            self._amount(zone, signal, provenance).add(amount)
        self.closed_until = max(attempt.start, self.closed_until or attempt.start)
        self._closed_active += (attempt.end or attempt.last) - attempt.start

    def _amount(self, zone: str | None, signal: Signal | None, provenance: Provenance) -> Amount:
        key = (zone, signal, provenance)
        if key not in self.amounts and len(self.amounts) >= _MOST_AMOUNTS:
            # The newest places of a job that has seen too many are told with an earlier one.
            key = next((k for k in self.amounts if k[2] is provenance), next(iter(self.amounts)))
        return self.amounts.setdefault(key, Amount())

    def tails(self) -> Iterable[tuple[AmountKey, Amount]]:
        """Estimates of what was not seen of the latest attempts."""
        for attempt in self.latest:
            yield from self._tails_of(attempt)

    @staticmethod
    def _tails_of(attempt: AttemptBook) -> Iterable[tuple[AmountKey, Amount]]:
        if attempt.tail is not None:
            signal, amount = attempt.tail
            yield (attempt.zone, signal, Provenance.ESTIMATED), amount


def amount_in(millijoules: int, interval: Window, intensity: Outlook | None) -> Amount:
    """Energy spread evenly over an interval, and what it emitted there."""
    slots = intensity.slots if intensity else ()
    grams, covered = 0.0, 0.0
    for share, slot in _shares(interval, slots):
        grams += (Energy(millijoules / 1000 * share) * slot.intensity).grams
        covered += share
    # What is left of a fully covered interval is rounding.
    left = 1.0 - covered if covered < 1.0 - 1e-6 else 0.0
    return Amount(millijoules, round(grams * 1e9), round(millijoules * left))


def _shares(interval: Window, slots: Sequence[Slot]) -> Iterable[tuple[float, Slot]]:
    duration = interval.end - interval.start
    if not duration:
        at = [s for s in slots if s.start <= interval.start < s.end]
        yield from ((1.0, slot) for slot in at)
        return
    for slot in overlap(slots, interval):
        yield slot.duration / duration, slot


def _amount_status(key: AmountKey, amount: Amount) -> AmountStatus:
    zone, signal, provenance = key
    return AmountStatus(
        zone=zone,
        signal=signal,
        provenance=provenance,
        millijoules=amount.millijoules,
        nanograms=amount.nanograms,
        unaccounted_millijoules=amount.unaccounted_millijoules,
    )


def _amount(status: AmountStatus) -> Amount:
    return Amount(status.millijoules, status.nanograms, status.unaccounted_millijoules)


def _useful_status(useful: Useful) -> UsefulStatus:
    return UsefulStatus(
        microseconds=useful.duration // _MICROSECOND,
        nanograms=useful.nanograms,
        unknown=useful.unknown,
    )


def _useful(status: UsefulStatus) -> Useful:
    return Useful(status.microseconds * _MICROSECOND, status.nanograms, status.unknown)


def _attempt_status(attempt: AttemptBook) -> AttemptStatus:
    tail = None
    if attempt.tail is not None:
        signal, amount = attempt.tail
        tail = _amount_status((attempt.zone, signal, Provenance.ESTIMATED), amount)
    return AttemptStatus(
        uid=attempt.uid,
        zone=attempt.zone,
        start_time=attempt.start,
        end_time=attempt.end,
        last_time=attempt.last,
        succeeded=attempt.succeeded,
        told_end=attempt.told_end,
        counters=[
            CounterStatus(component=c, provenance=p, method=m, millijoules=value)
            for (c, p, m), value in attempt.counters.items()
        ],
        pending=_useful_status(attempt.pending),
        tail=tail,
    )


def _attempt(status: AttemptStatus) -> AttemptBook:
    return AttemptBook(
        uid=status.uid,
        zone=status.zone,
        start=status.start_time,
        last=status.last_time,
        end=status.end_time,
        succeeded=status.succeeded,
        told_end=status.told_end,
        counters={(c.component, c.provenance, c.method): c.millijoules for c in status.counters},
        pending=_useful(status.pending),
        tail=None if status.tail is None else (status.tail.signal, _amount(status.tail)),
    )
