"""From what was seen of attempts to intervals of energy with their provenance.

A job's energy is the sum over its attempts of the most that was seen of each. What was not seen
between the last sample and an attempt's end is estimated from the reserved power.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from green_api.base import Provenance
from green_api.contract import Component, Counter, Mark, Method
from green_api.units import ZERO_ENERGY, Energy, Power

_Key = tuple[Component, Provenance, Method]


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


@dataclass(frozen=True, slots=True)
class Reading:
    """Energy over an interval, never without its provenance."""

    attempt: str
    start: datetime
    end: datetime
    energy: Energy
    component: Component | None
    """None for a tail: the whole reservation."""
    provenance: Provenance
    method: Method
    useful: bool
    """The work of this interval was needed once; restarts, restores and repeated work are not."""


def readings_of(attempts: Sequence[AttemptRecord], reserved: Power) -> list[Reading]:
    """The intervals of all attempts, in order.

    Args:
        attempts: in the order of their start.
        reserved: what the reservation can draw, for unseen tails.

    """
    readings: list[Reading] = []
    for index, attempt in enumerate(attempts):
        readings += _seen(attempt, is_first=index == 0)
        readings += _tail(attempt, reserved)
    return readings


def _seen(attempt: AttemptRecord, *, is_first: bool) -> Iterable[Reading]:
    begin, end = _useful_span(attempt, is_first=is_first)
    previous = attempt.start
    most: dict[_Key, float] = {}
    for sample in attempt.samples:
        for counter in sample.counters:
            key = (counter.component, counter.provenance, counter.method)
            # A counter that fell or was sent twice adds nothing: the most that was seen counts.
            # Its reading stays, for idle time has its place in the counterfactual too.
            rise = max(counter.joules - most.get(key, 0.0), 0.0)
            most[key] = most.get(key, 0.0) + rise
            yield Reading(
                attempt.uid, previous, sample.time, Energy(rise), *key,
                useful=begin <= previous and sample.time <= end,
            )  # fmt: skip
        previous = max(previous, sample.time)


def _useful_span(attempt: AttemptRecord, *, is_first: bool) -> tuple[datetime, datetime]:
    """The time of an attempt whose work was needed and kept.

    The first attempt's start-up would be needed without interruptions too, a later one's only
    repeats it. Of an attempt that ended early the work up to its last checkpoint was kept. A task
    that never says when it begins to work or saves is taken to start over each time.
    """
    working = [s.time for s in attempt.samples if s.mark is Mark.WORKING]
    begin = attempt.start if is_first or not working else working[0]
    if attempt.succeeded or attempt.end is None:
        return begin, max([begin, *(s.time for s in attempt.samples)])
    saved = [s.time for s in attempt.samples if s.mark is Mark.SAVED]
    return begin, max([begin, *saved])


def _tail(attempt: AttemptRecord, reserved: Power) -> Iterable[Reading]:
    if attempt.end is None or any(s.mark is Mark.ENDED for s in attempt.samples):
        return
    seen = max([attempt.start, *(s.time for s in attempt.samples)])
    if attempt.end > seen:
        yield Reading(
            attempt.uid, seen, attempt.end, reserved * (attempt.end - seen),
            None, Provenance.ESTIMATED, Method.RESERVED, useful=False,
        )  # fmt: skip


def total(readings: Iterable[Reading]) -> Energy:
    """The sum of the readings' energy."""
    return sum((r.energy for r in readings), ZERO_ENERGY)
