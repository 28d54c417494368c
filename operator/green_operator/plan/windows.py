"""Choosing run time from slots: the two searches of the planner, exact for one job."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import accumulate, pairwise

from green_api.units import Intensity

from green_operator.plan.types import Slot, Window


def cover(slots: Sequence[Slot], start: datetime, end: datetime) -> tuple[list[Slot], timedelta]:
    """Slots that cover [start, end) exactly.

    Time of which nothing is known is filled in steps of the longest slot's length with the mean of
    the slots within; the second value says how long that is in all.
    """
    known = overlap(slots, Window(start, end))
    if not known:
        return [], timedelta(0)
    if _is_whole(known, start, end):
        return known, timedelta(0)
    mean, step = mean_intensity(known), max(slot.duration for slot in slots)
    covered: list[Slot] = []
    assumed = timedelta(0)
    position = start
    for slot in [*known, Slot(end, end, mean)]:
        assumed += slot.start - position
        while position < slot.start:
            until = min(position + step, slot.start)
            covered.append(Slot(position, until, mean))
            position = until
        if slot.duration:
            covered.append(slot)
        position = slot.end
    return covered, assumed


def _is_whole(slots: Sequence[Slot], start: datetime, end: datetime) -> bool:
    return (
        slots[0].start == start
        and slots[-1].end == end
        and all(one.end == other.start for one, other in pairwise(slots))
    )


def weighted_mean(slots: Sequence[Slot], value: Callable[[Slot], float]) -> float:
    """Mean of a figure of the slots, weighted by their length."""
    seconds = [s.duration.total_seconds() for s in slots]
    return sum(value(s) * t for s, t in zip(slots, seconds, strict=True)) / sum(seconds)


def mean_intensity(slots: Sequence[Slot]) -> Intensity:
    """Mean over the slots, weighted by their length."""
    return Intensity(weighted_mean(slots, lambda s: s.intensity.grams_per_kilowatt_hour))


def overlap(slots: Sequence[Slot], window: Window) -> list[Slot]:
    """The parts of the slots that lie in the window; the slots are in order, apart from each other.

    Found by bisection: an account looks up each of its thousands of readings.
    """
    first = bisect_right(slots, window.start, key=lambda s: s.end)
    behind = bisect_left(slots, window.end, key=lambda s: s.start)
    parts = list(slots[first:behind])
    if parts:  # only these may reach beyond
        parts[0] = _cut(parts[0], window)
        parts[-1] = _cut(parts[-1], window)
    return parts


def _cut(slot: Slot, window: Window) -> Slot:
    if window.start <= slot.start and slot.end <= window.end:
        return slot
    start, end = max(slot.start, window.start), min(slot.end, window.end)
    return Slot(start, end, slot.intensity, slot.renewable_share)


def cheapest_slots(slots: Sequence[Slot], need: timedelta) -> list[Window]:
    """The cleanest slots that add up to the need; of equally clean ones the earliest.

    The last chosen slot is used only as far as needed: from its beginning, but up to its end where
    the next slot runs too, so that no needless pause arises.
    """
    left = need
    chosen: list[Slot] = []
    for slot in sorted(slots, key=lambda s: (s.intensity.grams_per_kilowatt_hour, s.start)):
        if left <= timedelta(0):
            break
        chosen.append(slot)
        left -= slot.duration
    if not chosen:
        return []
    last, surplus = chosen[-1], -left
    starts = {s.start for s in chosen}
    if last.end in starts and last.start not in {s.end for s in chosen}:
        partial = Window(last.start + surplus, last.end)
    else:
        partial = Window(last.start, last.end - surplus)
    return _joined([*(Window(s.start, s.end) for s in chosen[:-1]), partial])


def cheapest_block(slots: Sequence[Slot], need: timedelta) -> Window:
    """The cleanest uninterrupted stretch; of equally clean ones the earliest.

    The cost of a block is linear in its start between the points where one of its ends crosses a
    slot's boundary, so one of those points is the best. The slots must cover at least the need.
    """
    begin, end = slots[0].start, slots[-1].end
    candidates = {begin, end - need}
    for slot in slots:
        candidates.update((slot.start, slot.end - need))
    cost = _cost_until(slots)
    feasible = sorted(c for c in candidates if begin <= c <= end - need)
    # Rounding makes equal blocks differ in the last digits; the earliest of them is wanted.
    best = min(feasible, key=lambda c: (round(cost(c + need) - cost(c), 6), c))
    return Window(best, best + need)


class _cost_until:  # noqa: N801 - used as a function
    """Gram-seconds per kWh from the first slot's start to a moment."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = slots
        self._starts = [s.start for s in slots]
        self._sums = [0.0, *accumulate(self._weight(s, s.end) for s in slots)]

    @staticmethod
    def _weight(slot: Slot, until: datetime) -> float:
        return slot.intensity.grams_per_kilowatt_hour * (until - slot.start).total_seconds()

    def __call__(self, moment: datetime) -> float:
        index = max(bisect_left(self._starts, moment) - 1, 0)
        return self._sums[index] + self._weight(self._slots[index], moment)


def _joined(windows: Sequence[Window]) -> list[Window]:
    """The windows in order, those that touch made one."""
    joined: list[Window] = []
    for window in sorted(windows, key=lambda w: w.start):
        if joined and joined[-1].end == window.start:
            joined[-1] = Window(joined[-1].start, window.end)
        else:
            joined.append(window)
    return joined
