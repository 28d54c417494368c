"""What a pod says of its meters is a tenant's word: what cannot be is not believed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from green_api.contract import JournalEntry
from green_api.units import Power

# A device may draw more than the power table says, never many times as much.
_FACTOR: Final = 4.0
# What a start-up, or a table with too low a figure, may use beyond that.
_SLACK_JOULES: Final = 10_000.0
_CLOCK_SKEW: Final = timedelta(minutes=5)


def why_implausible(entry: JournalEntry, reserved: Power, since: datetime, now: datetime) -> str:
    """Why an entry cannot be true; empty where it can.

    Args:
        entry: cumulative joules of one attempt.
        reserved: what the reservation can draw.
        since: the attempt did not begin before.
        now: the moment.

    """
    if not since - _CLOCK_SKEW <= entry.time <= now + _CLOCK_SKEW:
        return "the pod tells of another time"
    most = (reserved * (entry.time - since + _CLOCK_SKEW)).joules * _FACTOR + _SLACK_JOULES
    if sum(counter.joules for counter in entry.counters) > most:
        return "the pod claims more energy than its reservation can draw"
    return ""
