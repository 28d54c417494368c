"""The chain from a zone's sources to its outlook: the first source that is sound counts.

What cannot be used is passed over with a reason; with nothing left there is no outlook, and work
starts now rather than wait for data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from green_api.units import Intensity
from green_api.zone import GridZone, Repeat, Source, StaticSource, TraceSource

from green_operator.plan.types import Outlook, Slot
from green_operator.sources.trace import Trace


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a zone's sources gave."""

    outlook: Outlook | None
    """For planning: it knows the present. None where no source does."""
    recorded: Outlook | None
    """For accounting: what is known of the past, also where the present is not."""
    description: str
    """The source in use, or why none is, for people."""


def resolve(
    zone: GridZone, traces: Mapping[str, Trace], start: datetime, now: datetime, end: datetime
) -> Resolution:
    """Choose the first sound source and take [start, end) from it.

    Args:
        zone: the zone and its sources, in order.
        traces: by zone, what stands for the ConfigMap of its trace source.
        start: the earliest time that is asked for; later ones are planned, earlier ones accounted.
        now: the source must know this moment.
        end: the latest time that is asked for.

    """
    passed_over: list[str] = []
    recorded: Outlook | None = None
    name = zone.metadata.name
    for source in zone.spec.sources:
        slots, text = _slots(source, traces.get(name), start, end)
        outlook = Outlook(name, source.signal, slots)
        if outlook.at(now) is not None:
            return Resolution(outlook, outlook, text)
        if slots:
            recorded = recorded or outlook
        passed_over.append(text if not slots else f"{text}: it does not know {now:%Y-%m-%dT%H:%MZ}")
    return Resolution(None, recorded, "no source is usable: " + "; ".join(passed_over))


def _slots(
    source: Source, trace: Trace | None, start: datetime, end: datetime
) -> tuple[tuple[Slot, ...], str]:
    if source.trace is not None:
        return _trace_slots(source.trace, trace, start, end)
    assert source.static is not None  # noqa: S101 - a rule of Source
    return _static_slots(source.static, start, end)


def _trace_slots(
    source: TraceSource, trace: Trace | None, start: datetime, end: datetime
) -> tuple[tuple[Slot, ...], str]:
    reference = source.config_map_key_ref
    name = f"trace {reference.name}/{reference.key}"
    if trace is None:
        return (), f"{name}: it was not given"
    if source.repeat is Repeat.DAILY and not trace.holds_a_day:
        return (), f"{name}: it holds no whole day that could repeat"
    return trace.between(start, end, source.repeat), name


def _static_slots(
    source: StaticSource, start: datetime, end: datetime
) -> tuple[tuple[Slot, ...], str]:
    grams = source.grams_per_kilowatt_hour
    return (Slot(start, end, Intensity(grams)),), f"static {grams:g} g/kWh"
