"""What a zone's intensity was: 28 days of what live sources observed, packed for a ConfigMap.

A provider gives the last 24 hours; jobs may run, and be accounted for, longer than that. Each kind
of signal is kept apart. The document is gzip of ``{"version": 1, "series": {SIGNAL: [[start in
seconds since 1970, length in seconds, grams per kWh, renewable share or null], ...]}}``.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

from green_api.base import Signal
from green_api.units import Intensity
from pydantic import BaseModel, Field, ValidationError

from green_operator.plan.types import Slot
from green_operator.sources.limits import HIGHEST_GRAMS, LONGEST_STEP, SHORTEST_STEP
from green_operator.sources.overlay import overlay
from green_operator.sources.packed import unpack

SPAN: Final = timedelta(days=28)
"""How far back a history reaches."""

# 28 days in steps of 5 minutes have 8,064 slots of at most 45 characters, for each of four signals.
_MAX_UNPACKED: Final = 4 * 2**20
_SECOND: Final = timedelta(seconds=1)

_Row = tuple[
    Annotated[int, Field(ge=631_152_000, lt=7_258_118_400)],
    Annotated[int, Field(ge=SHORTEST_STEP // _SECOND, le=LONGEST_STEP // _SECOND)],
    Annotated[float, Field(ge=0, le=HIGHEST_GRAMS, allow_inf_nan=False)],
    Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None,
]


class _Document(BaseModel):
    version: Literal[1]
    series: dict[Signal, list[_Row]]


@dataclass(frozen=True, slots=True)
class History:
    """Observed slots by signal, each series in order, its slots apart from each other."""

    series: Mapping[Signal, tuple[Slot, ...]] = field(default_factory=dict)

    def of(self, signal: Signal) -> tuple[Slot, ...]:
        """What was observed of one kind of intensity."""
        return self.series.get(signal, ())

    def with_observed(self, signal: Signal, observed: Sequence[Slot], now: datetime) -> History:
        """The history with what was observed since; the latest value of a time counts.

        Only what has ended is history; what ended more than 28 days ago is left out.
        """
        ended = [slot for slot in observed if slot.end <= now]
        merged = _laid_over(ended, self.of(signal))
        kept = tuple(slot for slot in merged if slot.end > now - SPAN)
        return History({**self.series, signal: kept})

    def over(self, earlier: History) -> History:
        """The history, and where it knows nothing an earlier one."""
        signals = {*self.series, *earlier.series}
        return History({s: _laid_over(self.of(s), earlier.of(s)) for s in signals})


EMPTY: Final = History()


def _laid_over(over: Sequence[Slot], under: Sequence[Slot]) -> tuple[Slot, ...]:
    """Both series as one; slivers that are left between two grids of time are left out."""
    return tuple(
        slot for slot in overlay(over, under) if SHORTEST_STEP <= slot.duration <= LONGEST_STEP
    )


def pack(history: History) -> bytes:
    """The document; equal histories give equal documents, below 900 KiB."""
    rows = {
        signal: [
            (
                round(slot.start.timestamp()),
                round(slot.duration.total_seconds()),
                round(slot.intensity.grams_per_kilowatt_hour, 2),
                None if slot.renewable_share is None else round(slot.renewable_share, 3),
            )
            for slot in slots
        ]
        for signal, slots in sorted(history.series.items())
    }
    # Without the time of writing, which would make each document another one.
    text = _Document(version=1, series=rows).model_dump_json()
    return gzip.compress(text.encode(), mtime=0)


def read_history(data: bytes) -> tuple[History, str]:
    """The history that a document holds, and what is wrong with it, or "".

    One that cannot be read is an empty one: what it held is lost, and work goes on.
    """
    try:
        document = _Document.model_validate_json(unpack(data, _MAX_UNPACKED))
    except ValidationError:
        return EMPTY, "the history of the zone is not in a form that is known here; it begins anew"
    except ValueError as error:
        return EMPTY, f"the history of the zone cannot be read ({error}); it begins anew"
    return History({signal: _slots(rows) for signal, rows in document.series.items()}), ""


def _slots(rows: Sequence[_Row]) -> tuple[Slot, ...]:
    slots: list[Slot] = []
    for start, seconds, grams, share in sorted({row[0]: row for row in rows}.values()):
        begin = datetime.fromtimestamp(start, UTC)
        if not slots or slots[-1].end <= begin:
            slots.append(Slot(begin, begin + seconds * _SECOND, Intensity(grams), share))
    return tuple(slots)
