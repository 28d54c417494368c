"""The answers of Great Britain's Carbon Intensity API (NESO, api.carbonintensity.org.uk).

National: ``{"data": [{"from", "to", "intensity": {"forecast", "actual"}}]}``. ``actual`` is null
until the half-hour has closed. By region: ``{"data": {"regionid", "data": [...]}}``, or a list of
such objects, with ``forecast`` and ``generationmix`` and no ``actual``. Times have no seconds.

Seen in the wild: 29 points in place of 96, ``{"data": []}``, and HTTP 200 with ``{}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from green_api.errors import ProviderError

from green_operator.plan.types import Slot
from green_operator.sources.points import (
    JsonObject,
    Point,
    UnsoundError,
    as_object,
    check_length,
    grams_of,
    read_json,
    read_points,
    slots_of,
    time_of,
)

# NESO's factors (Carbon Intensity Forecast Methodology, May 2024): wind, solar, hydro and nuclear
# 0 g/kWh; gas 394, coal 937, biomass 120, imports by country.
_WITHOUT_EMISSIONS: Final = ("wind", "solar", "hydro", "nuclear")
# Biomass, which NESO itself counts with 120 g/kWh, and imports, whose origin is not stated, are
# left out: the share is rather too low.
_RENEWABLE: Final = ("wind", "solar", "hydro")
# 1 % of gas alone is 4 g/kWh; below that the percentages, of one decimal each, may be rounding.
_ALL_WITHOUT_EMISSIONS: Final = 99.0
_WHOLE_MIX: Final = (95.0, 105.0)


def parse_uk_neso(body: bytes, region: int | None) -> tuple[Slot, ...]:
    """Half-hours of an answer, past and future ones alike.

    The intensity is ``actual``, else ``forecast``, in gCO2 per kWh. Zero counts only where the
    generation mix bears it out: elsewhere it stands for broken data. The renewable share is wind,
    solar and hydro, where the answer holds the mix (by region it does).

    Args:
        body: JSON as it was received.
        region: the region that was asked for; None for all of Great Britain.

    Raises:
        ProviderError: nothing in it can be used.

    """
    data = read_json(body).get("data")
    items = data if region is None else list(_regional(data, region))
    return slots_of(read_points(items, _point))


def _regional(data: object, region: int) -> Iterator[object]:
    for group in data if isinstance(data, list) else [data]:
        if not isinstance(group, dict):
            continue
        if group.get("regionid", region) != region:
            msg = "the answer is for another region"
            raise ProviderError(msg)
        nested = group.get("data")
        yield from nested if isinstance(nested, list) else []


def _point(item: JsonObject) -> Point | None:
    mix = _mix(item.get("generationmix"))
    grams = _grams(as_object(item.get("intensity")), mix)
    start, end = time_of(item.get("from")), time_of(item.get("to"))
    if grams is None:
        return None
    return check_length(Point(start, end, grams, _renewable_share(mix)))


def _grams(intensity: JsonObject, mix: Mapping[str, float] | None) -> float | None:
    """The first value that can be true; None where there is none at all."""
    unsound = False
    for name in ("actual", "forecast"):
        try:
            grams = _believed(grams_of(intensity.get(name)), mix)
        except UnsoundError:
            unsound = True
            continue
        if grams is not None:
            return grams
    if unsound:
        raise UnsoundError
    return None


def _believed(grams: float | None, mix: Mapping[str, float] | None) -> float | None:
    if grams == 0 and not _bears_out_zero(mix):
        raise UnsoundError
    return grams


def _bears_out_zero(mix: Mapping[str, float] | None) -> bool:
    return mix is not None and _sum(mix, _WITHOUT_EMISSIONS) >= _ALL_WITHOUT_EMISSIONS


def _renewable_share(mix: Mapping[str, float] | None) -> float | None:
    return None if mix is None else min(_sum(mix, _RENEWABLE) / 100, 1.0)


def _sum(mix: Mapping[str, float], fuels: tuple[str, ...]) -> float:
    return sum(mix.get(fuel, 0.0) for fuel in fuels)


def _mix(items: object) -> Mapping[str, float] | None:
    """Percentages by fuel; None where they are missing or do not make a whole."""
    if not isinstance(items, list):
        return None
    mix: dict[str, float] = {}
    for item in items:
        if not isinstance(item, dict):
            return None
        fuel, share = item.get("fuel"), item.get("perc")
        if not isinstance(fuel, str) or not isinstance(share, (int, float)) or fuel in mix:
            return None
        if not 0 <= share <= 100:
            return None
        mix[fuel] = float(share)
    lowest, highest = _WHOLE_MIX
    return mix if lowest <= sum(mix.values()) <= highest else None
