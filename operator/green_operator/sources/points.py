"""From a provider's JSON to sound slots: what all providers' answers have in common.

A point without a value is a gap, and a gap is an absent slot. A point that cannot be true (text in
place of a number, a negative or absurd value, a time without a zone) is left out too, but an answer
of which more than half cannot be true is refused, for the rest of it may be wrong as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from green_api.errors import ProviderError
from green_api.units import Intensity

from green_operator.plan.types import Slot
from green_operator.sources.limits import (
    HIGHEST_GRAMS,
    LONGEST_STEP,
    PLAUSIBLE_YEARS,
    SHORTEST_STEP,
)

JsonObject = dict[str, object]

_MOST_UNSOUND: Final = 0.5


class UnsoundError(ValueError):
    """A point that cannot be true."""


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a series; the end is not part of it."""

    start: datetime
    end: datetime
    grams: float
    """gCO2e per kWh."""
    renewable_share: float | None = None
    """0 to 1."""


def read_json(body: bytes) -> JsonObject:
    """The object that a provider answered.

    Args:
        body: JSON as it was received.

    Raises:
        ProviderError: it is not JSON, or no object.

    """
    try:
        # A ValueError is of JSON, UTF-8 or a number of thousands of digits.
        answer = json.loads(body)
    except (ValueError, RecursionError):
        msg = "the answer is not JSON"
        raise ProviderError(msg) from None
    if not isinstance(answer, dict):
        msg = "the answer is no JSON object"
        raise ProviderError(msg)
    return answer


def read_points(items: object, read: Callable[[JsonObject], Point | None]) -> list[Point]:
    """The sound points of a list in an answer, in its order.

    Args:
        items: what the answer has in the place of the list.
        read: reads one point; None where it has no value, ``UnsoundError`` where it cannot be true.

    Raises:
        ProviderError: there is no list, no point has a value, or most of them cannot be true.

    """
    if not isinstance(items, list) or not items:
        msg = "the answer holds no points"
        raise ProviderError(msg)
    points, unsound = [], 0
    for item in items:
        try:
            point = read(as_object(item))
        except UnsoundError:
            unsound += 1
        else:
            points += [point] if point is not None else []
    if unsound > _MOST_UNSOUND * (unsound + len(points)):
        msg = "most values of the answer cannot be true"
        raise ProviderError(msg)
    if not points:
        msg = "no point of the answer has a value"
        raise ProviderError(msg)
    return points


def slots_of(points: Iterable[Point]) -> tuple[Slot, ...]:
    """The points as slots in order, apart from each other.

    Of two points of one time the later one in the answer counts, and one that reaches into the
    next is cut. What is then shorter than 5 minutes is left out.
    """
    latest = sorted({point.start: point for point in points}.values(), key=lambda p: p.start)
    cut = [replace(p, end=min(p.end, after.start)) for p, after in pairwise(latest)]
    return tuple(
        Slot(p.start, p.end, Intensity(p.grams), p.renewable_share)
        for p in [*cut, *latest[-1:]]
        if p.end - p.start >= SHORTEST_STEP
    )


def as_object(value: object) -> JsonObject:
    """A JSON object.

    Raises:
        UnsoundError: it is something else.

    """
    if not isinstance(value, dict):
        raise UnsoundError
    return value


def time_of(value: object) -> datetime:
    """A moment in ISO 8601 with its zone, with or without seconds, as whole seconds in UTC.

    Raises:
        UnsoundError: it is something else. A time without a zone happens twice on one night a year.

    """
    if not isinstance(value, str):
        raise UnsoundError
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        raise UnsoundError from None
    if time.tzinfo is None or time.year not in PLAUSIBLE_YEARS:
        raise UnsoundError
    return time.astimezone(UTC).replace(microsecond=0)


def grams_of(value: object) -> float | None:
    """An intensity in gCO2e per kWh; None for null.

    Raises:
        UnsoundError: it is no number from 0 to 1,800 (NaN is none).

    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UnsoundError
    if not 0 <= value <= HIGHEST_GRAMS:
        raise UnsoundError
    return float(value)


def check_length(point: Point) -> Point:
    """The point, if it is 5 to 60 minutes long.

    Raises:
        UnsoundError: it is not.

    """
    if not SHORTEST_STEP <= point.end - point.start <= LONGEST_STEP:
        raise UnsoundError
    return point
