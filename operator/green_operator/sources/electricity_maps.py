"""The answers of the Electricity Maps API, version 3.

History: ``{"zone", "history": [{"datetime", "carbonIntensity", "emissionFactorType"}]}``, forecast
the same with ``forecast``, latest one such point. A point tells when it begins, not how long it is:
the length follows from the points. ``carbonIntensity`` can be null.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from green_api.errors import ProviderError

from green_operator.plan.types import Slot
from green_operator.sources.limits import LONGEST_STEP, LOWEST_PEAK_GRAMS, SHORTEST_STEP
from green_operator.sources.points import (
    JsonObject,
    Point,
    UnsoundError,
    grams_of,
    read_json,
    read_points,
    slots_of,
    time_of,
)

FACTOR: Final = "lifecycle"
"""The kind of emission factors that is asked for."""

# What the API gives where no other granularity is asked for.
_HOUR: Final = timedelta(hours=1)
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


def parse_series(body: bytes, zone: str, series: str) -> tuple[Slot, ...]:
    """The slots of a history or a forecast, in gCO2e per kWh, life-cycle.

    Args:
        body: JSON as it was received.
        zone: the zone that was asked for.
        series: ``history`` or ``forecast``.

    Raises:
        ProviderError: nothing in it can be used, or it is of another zone or kind.

    """
    answer = read_json(body)
    _check_kind(answer, zone)
    points = read_points(answer.get(series), _point)
    step = _step([point.start for point in points])
    return slots_of(Point(p.start, p.start + step, p.grams) for p in _in_this_unit(points))


def parse_latest(body: bytes, zone: str) -> tuple[Slot, ...]:
    """The hour that the latest point lies in.

    Raises:
        ProviderError: it cannot be used, or it is of another zone or kind.

    """
    answer = read_json(body)
    _check_kind(answer, zone)
    points = read_points([answer], _point)
    hours = [(point, point.start - (point.start - _EPOCH) % _HOUR) for point in points]
    return slots_of(Point(hour, hour + _HOUR, p.grams) for p, hour in hours)


def _check_kind(answer: JsonObject, zone: str) -> None:
    if answer.get("zone", zone) != zone:
        msg = "the answer is for another zone"
        raise ProviderError(msg)
    if answer.get("emissionFactorType", FACTOR) != FACTOR:
        msg = f"the answer is not of {FACTOR} emission factors"
        raise ProviderError(msg)


def _point(item: JsonObject) -> Point | None:
    if item.get("emissionFactorType", FACTOR) != FACTOR:
        raise UnsoundError
    start = time_of(item.get("datetime"))
    grams = grams_of(item.get("carbonIntensity"))
    if grams == 0:
        # Over its life no source of electricity is free of emissions: zero stands for no data.
        raise UnsoundError
    return None if grams is None else Point(start, start, grams)


def _step(starts: Sequence[datetime]) -> timedelta:
    """The most common distance of the points, of equally common ones the shortest."""
    distances = Counter(later - earlier for earlier, later in pairwise(sorted(set(starts))))
    usual = max(distances, key=lambda d: (distances[d], -d), default=_HOUR)
    if usual < SHORTEST_STEP:
        msg = "the points of the answer are less than 5 minutes apart"
        raise ProviderError(msg)
    return min(usual, LONGEST_STEP)


def _in_this_unit(points: Sequence[Point]) -> Sequence[Point]:
    if max(point.grams for point in points) < LOWEST_PEAK_GRAMS:
        msg = "the values are in another unit than g/kWh"
        raise ProviderError(msg)
    return points
