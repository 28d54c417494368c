"""One series of slots laid over another."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace

from green_operator.plan.types import Slot


def overlay(over: Sequence[Slot], under: Sequence[Slot]) -> tuple[Slot, ...]:
    """All of the first series, and of the second what lies in the first one's gaps.

    Both are in order and their slots apart from each other, and so is the result.
    """
    if not over or not under:
        return tuple(over or under)
    parts = [part for slot in under for part in _uncovered(slot, over)]
    return tuple(sorted([*over, *parts], key=lambda s: s.start))


def _uncovered(slot: Slot, over: Sequence[Slot]) -> Iterator[Slot]:
    position = slot.start
    first = bisect_right(over, slot.start, key=lambda s: s.end)
    behind = bisect_left(over, slot.end, key=lambda s: s.start)
    for covering in over[first:behind]:
        if position < covering.start:
            yield replace(slot, start=position, end=covering.start)
        position = covering.end
    if position < slot.end:
        yield replace(slot, start=position)
