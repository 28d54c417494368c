"""The chain from a zone's sources to its outlook: the first source that is fresh and sound counts.

What cannot be used is passed over with a reason; with nothing left there is no outlook, and work
starts now rather than wait for data. The reasons stand in statuses: they stay the same while the
cause does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from green_api.base import Signal
from green_api.units import Intensity
from green_api.zone import GridZone, Repeat, Source, TraceSource

from green_operator.plan.types import Outlook, Slot
from green_operator.sources.history import EMPTY, History
from green_operator.sources.live import Live, live_name
from green_operator.sources.overlay import overlay
from green_operator.sources.trace import Trace


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A source of which nothing could be read."""

    reason: str


SourceData = Trace | Live | Unavailable | None
"""What was read for a source; None for one that needs nothing, a static one."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a zone's sources gave."""

    outlook: Outlook | None
    """For planning: it knows the present. None where no source does."""
    recorded: Outlook | None
    """For accounting: what is known of the past, also where the present is not."""
    description: str
    """The source in use and why others were passed over, or why none is, for people."""
    fetched: datetime | None = None
    """When the data in use came; None where that has no meaning, or none are."""
    position: int | None = None
    """Which of the zone's sources is in use, 0 its first; None where none is."""
    source: str = ""
    """The name of the source in use; empty where none is."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    name: str
    slots: tuple[Slot, ...] = ()
    problem: str = ""
    """Why it cannot be used; "" where it can."""
    trouble: str = ""
    """What failed of it lately, in case that it does not know the present."""
    remarks: str = ""
    fetched: datetime | None = None


def resolve(
    zone: GridZone,
    data: Sequence[SourceData],
    start: datetime,
    now: datetime,
    end: datetime,
    history: History = EMPTY,
) -> Resolution:
    """Choose the first fresh and sound source and take [start, end) from it.

    The past of a source, or of a fallback with the same signal, is what live sources before it
    observed, as far as the history has it. Two signals are never mixed.

    Args:
        zone: the zone and its sources, in order.
        data: what was read for each source, in the same order.
        start: the earliest time that is asked for; later ones are planned, earlier ones accounted.
        now: the source must know this moment.
        end: the latest time that is asked for.
        history: what the zone's live sources observed.

    """
    passed_over: list[str] = []
    observing: set[Signal] = set()
    recorded: Outlook | None = None
    for source, read in zip(zone.spec.sources, data, strict=True):
        candidate = _candidate(source, read, start, now, end)
        if source.is_live:
            observing.add(source.signal)
        past = history.of(source.signal) if source.signal in observing else ()
        slots = overlay(_within(past, start, end), _within(candidate.slots, start, end))
        outlook = Outlook(zone.metadata.name, source.signal, slots)
        problem = candidate.problem or _unknown_present(outlook, now, candidate.trouble)
        if not problem:
            description = _description(candidate, passed_over)
            position = len(passed_over)
            name = candidate.name
            return Resolution(outlook, outlook, description, candidate.fetched, position, name)
        if slots:
            recorded = recorded or outlook
        passed_over.append(f"{candidate.name}: {problem}")
    return Resolution(None, recorded, "no source is usable: " + "; ".join(passed_over))


def _candidate(
    source: Source, data: SourceData, start: datetime, now: datetime, end: datetime
) -> _Candidate:
    if source.static is not None:
        grams = source.static.grams_per_kilowatt_hour
        return _Candidate(f"static {grams:g} g/kWh", (Slot(start, end, Intensity(grams)),))
    if source.trace is not None:
        return _trace_candidate(source.trace, data, start, end)
    live = data if isinstance(data, Live) else Live()
    return _Candidate(
        live_name(source),
        live.slots(now),
        live.why_not(now),
        live.problem,
        live.remarks(now),
        live.fetched,
    )


def _trace_candidate(
    source: TraceSource, data: SourceData, start: datetime, end: datetime
) -> _Candidate:
    reference = source.config_map_key_ref
    name = f"trace {reference.name}/{reference.key}"
    if not isinstance(data, Trace):
        reason = data.reason if isinstance(data, Unavailable) else "it has not been read yet"
        return _Candidate(name, problem=reason)
    if source.repeat is Repeat.DAILY and not data.holds_a_day:
        return _Candidate(name, problem="it holds no whole day that could repeat")
    return _Candidate(name, data.between(start, end, source.repeat))


def _within(slots: tuple[Slot, ...], start: datetime, end: datetime) -> tuple[Slot, ...]:
    return tuple(slot for slot in slots if slot.start < end and slot.end > start)


def _unknown_present(outlook: Outlook, now: datetime, trouble: str) -> str:
    if outlook.at(now) is not None:
        return ""
    return "it does not know the present" + (f" ({trouble})" if trouble else "")


def _description(candidate: _Candidate, passed_over: Sequence[str]) -> str:
    text = candidate.name
    if candidate.remarks:
        text += f" ({candidate.remarks})"
    if passed_over:
        text += "; passed over: " + "; ".join(passed_over)
    return text
