"""Traces: a CSV of measured or made intensity, read strictly.

Columns ``time`` (ISO 8601 with its zone), ``gramsPerKilowattHour`` and optionally
``renewableShare`` (0 to 1); equal steps of 5 to 60 minutes, in order, without gaps. A trace that
is wrong in one row may be wrong in all of them, so nothing is repaired in silence.
"""

from __future__ import annotations

import csv
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from green_api.errors import InvalidTraceError
from green_api.units import Intensity
from green_api.zone import Repeat

from green_operator.plan.types import Slot
from green_operator.sources.limits import (
    HIGHEST_GRAMS,
    LONGEST_STEP,
    LOWEST_PEAK_GRAMS,
    PLAUSIBLE_YEARS,
    SHORTEST_STEP,
)
from green_operator.sources.packed import is_gzip, unpack

_DAY: Final = timedelta(days=1)
_COLUMNS: Final = ("time", "gramsPerKilowattHour")
_OPTIONAL: Final = "renewableShare"
# A year at 5 minutes has 4 MB.
_MAX_BYTES: Final = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Trace:
    """A series of equal slots without gaps."""

    slots: tuple[Slot, ...]

    @property
    def start(self) -> datetime:
        """Beginning of the first slot."""
        return self.slots[0].start

    @property
    def end(self) -> datetime:
        """End of the last slot."""
        return self.slots[-1].end

    @property
    def holds_a_day(self) -> bool:
        """Whether its last day is whole, in steps that fill a day: only such a trace can repeat."""
        return self.end - self.start >= _DAY and not _DAY % self.slots[0].duration

    def between(self, start: datetime, end: datetime, repeat: Repeat) -> tuple[Slot, ...]:
        """The slots that touch [start, end); beyond the trace's end its last day, if it repeats."""
        first = bisect_right(self.slots, start, key=lambda s: s.end)
        behind = bisect_left(self.slots, end, key=lambda s: s.start)
        slots = self.slots[first:behind]
        return (*slots, *self._repeated(start, end)) if repeat is Repeat.DAILY else slots

    def _repeated(self, start: datetime, end: datetime) -> Iterator[Slot]:
        last_day = self.slots[-(_DAY // self.slots[0].duration) :]
        shift = max((start - self.end) // _DAY, 0) * _DAY + _DAY
        while last_day[0].start + shift < end:
            for slot in last_day:
                moved = Slot(
                    slot.start + shift, slot.end + shift, slot.intensity, slot.renewable_share
                )
                if moved.start < end and moved.end > start:
                    yield moved
            shift += _DAY


def read_trace(data: bytes, name: str) -> Trace:
    """Read a trace as a ConfigMap holds it: UTF-8 text, or gzip of it.

    Args:
        data: the value of the key; at most 16 MiB once it is unpacked.
        name: what to call it in messages.

    Raises:
        InvalidTraceError: with the line, the value and the fix.

    """
    try:
        text = (unpack(data, _MAX_BYTES) if is_gzip(data) else data).decode()
    except UnicodeDecodeError:
        msg = f"{name}: is neither UTF-8 text nor gzip of it"
        raise InvalidTraceError(msg) from None
    except ValueError as error:
        msg = f"{name}: {error}; give CSV, or gzip of it"
        raise InvalidTraceError(msg) from None
    return parse_trace(text, name)


def parse_trace(text: str, name: str) -> Trace:
    """Read a trace.

    Args:
        text: the CSV.
        name: what to call it in messages, such as its path.

    Raises:
        InvalidTraceError: with the line, the value and the fix.

    """
    try:
        rows = _rows(text, name)
    except csv.Error as error:
        msg = f"{name}: is not CSV: {error}"
        raise InvalidTraceError(msg) from None
    step = _step([time for time, _, _ in rows], name)
    _check_unit([grams for _, grams, _ in rows], name)
    return Trace(
        tuple(Slot(time, time + step, Intensity(grams), share) for time, grams, share in rows)
    )


def _rows(text: str, name: str) -> list[tuple[datetime, float, float | None]]:
    reader = csv.DictReader(text.splitlines())
    found = tuple(reader.fieldnames or ())
    if not set(_COLUMNS) <= set(found) or not set(found) <= {*_COLUMNS, _OPTIONAL}:
        msg = (
            f"{name}: line 1: the columns are {', '.join(found)[:80] or 'missing'}; they must be "
            f"time, gramsPerKilowattHour and optionally renewableShare"
        )
        raise InvalidTraceError(msg)
    return [_row(row, f"{name}: line {line}") for line, row in enumerate(reader, start=2)]


def _row(row: dict[str, str], where: str) -> tuple[datetime, float, float | None]:
    time = _time(row["time"] or "", where)
    grams = _number(row["gramsPerKilowattHour"], "gramsPerKilowattHour", where)
    if not 0 <= grams <= HIGHEST_GRAMS:
        msg = (
            f"{where}: gramsPerKilowattHour: {grams:g} lies outside 0 to {HIGHEST_GRAMS:g}; "
            "is it in another unit? give gCO2e per kWh (1 lb/MWh is 0.4536 g/kWh)"
        )
        raise InvalidTraceError(msg)
    text = row.get(_OPTIONAL)
    share = _number(text, _OPTIONAL, where) if text else None
    if share is not None and not 0 <= share <= 1:
        msg = f"{where}: renewableShare: {share:g} lies outside 0 to 1; give a share, not percent"
        raise InvalidTraceError(msg)
    return time, grams, share


def _time(text: str, where: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        msg = f"{where}: time: {text[:40]!r} is no ISO 8601 time; write 2026-06-01T00:00Z"
        raise InvalidTraceError(msg) from None
    if time.tzinfo is None:
        msg = f"{where}: time: {text!r} has no zone; write 2026-06-01T00:00Z or +01:00"
        raise InvalidTraceError(msg)
    if time.year not in PLAUSIBLE_YEARS:
        msg = f"{where}: time: {text!r}: the year lies outside 1990 to 2199"
        raise InvalidTraceError(msg)
    return time.astimezone(UTC)


def _number(text: str | None, column: str, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        shown = (text or "")[:40]
        msg = f"{where}: {column}: {shown!r} is no number; leave no gaps, fill or cut the trace"
        raise InvalidTraceError(msg)
    return value


def _step(times: list[datetime], name: str) -> timedelta:
    if len(times) < 2:
        msg = f"{name}: has {len(times)} row(s); give at least two, so that the step is known"
        raise InvalidTraceError(msg)
    step = times[1] - times[0]
    for line, (earlier, later) in enumerate(pairwise(times), start=3):
        if later <= earlier:
            msg = (
                f"{name}: line {line}: {later:%Y-%m-%dT%H:%MZ} does not follow "
                f"{earlier:%Y-%m-%dT%H:%MZ}; sort the rows and remove doubles"
            )
            raise InvalidTraceError(msg)
        if later - earlier != step:
            msg = (
                f"{name}: line {line}: {later:%Y-%m-%dT%H:%MZ} is {later - earlier} after the row "
                f"before, but the step is {step}; fill the gap or cut the trace there"
            )
            raise InvalidTraceError(msg)
    if not SHORTEST_STEP <= step <= LONGEST_STEP:
        msg = f"{name}: the step is {step}; it must be 5 to 60 minutes"
        raise InvalidTraceError(msg)
    return step


def _check_unit(grams: list[float], name: str) -> None:
    if 0 < max(grams) < LOWEST_PEAK_GRAMS:
        msg = (
            f"{name}: gramsPerKilowattHour: no value is above {max(grams):g}; is it in kg/kWh? "
            "multiply by 1000"
        )
        raise InvalidTraceError(msg)
