"""The statement of a job: what it used and emitted, and what it would have without waiting.

Location-based emissions are the sum over intervals of energy times the intensity of that time
(GHG Protocol Scope 2 Guidance, 2015, with hourly or finer factors). The counterfactual is the
job's useful work, uninterrupted, from its earliest feasible start, in the same place and with the
same overheads. The difference is signed, and it is no part of the emissions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from green_api.base import Provenance, Signal
from green_api.units import ZERO_EMISSIONS, ZERO_ENERGY, Emissions, Energy

from green_operator.account.readings import Reading, total
from green_operator.plan.types import Outlook, Slot, Window
from green_operator.plan.windows import overlap


@dataclass(frozen=True, slots=True)
class Amount:
    """Energy and what it emitted."""

    energy: Energy
    emissions: Emissions
    """Of the energy whose time has a known intensity."""
    unaccounted: Energy
    """Energy of times without a known intensity; it is in no figure of emissions."""


@dataclass(frozen=True, slots=True)
class Statement:
    """Energy and emissions by provenance, and the signed difference to the counterfactual."""

    zone: str | None
    signal: Signal | None
    """None where no intensity is known."""
    by_provenance: dict[Provenance, Amount]
    """The parts; they add up to the whole."""
    counterfactual: Emissions | None
    """None where an intensity that it needs is not known."""

    @property
    def energy(self) -> Energy:
        """All of it."""
        return sum((a.energy for a in self.by_provenance.values()), ZERO_ENERGY)

    @property
    def emissions(self) -> Emissions:
        """Of the energy whose time has a known intensity."""
        return sum((a.emissions for a in self.by_provenance.values()), ZERO_EMISSIONS)

    @property
    def unaccounted(self) -> Energy:
        """Energy of times without a known intensity."""
        return sum((a.unaccounted for a in self.by_provenance.values()), ZERO_ENERGY)

    @property
    def difference(self) -> Emissions | None:
        """Counterfactual less actual; negative where waiting cost more."""
        if self.counterfactual is None or self.unaccounted > ZERO_ENERGY:
            return None
        return self.counterfactual - self.emissions


def state_account(
    readings: Sequence[Reading],
    zone: str | None,
    intensity: Outlook | None,
    earliest_start: datetime,
) -> Statement:
    """Account for a job.

    Args:
        readings: energy by interval, of all attempts.
        zone: where it was used, whether or not its intensity is known.
        intensity: what the zone's intensity was; None where nothing is known.
        earliest_start: when the job could have started (its creation, for a job that was ready).

    """
    slots = intensity.slots if intensity else ()
    counterfactual = _amount(_uninterrupted(readings, earliest_start), slots)
    return Statement(
        zone=zone,
        signal=intensity.signal if intensity else None,
        by_provenance={
            provenance: _amount([r for r in readings if r.provenance is provenance], slots)
            for provenance in Provenance
        },
        counterfactual=counterfactual.emissions if not counterfactual.unaccounted.joules else None,
    )


def _uninterrupted(readings: Sequence[Reading], start: datetime) -> list[Reading]:
    """The useful intervals moved so that one follows the other from the start."""
    moved: list[Reading] = []
    position, previous = start, None
    for reading in (r for r in readings if r.useful):
        span = (reading.attempt, reading.start, reading.end)
        # Components read at the same time share their interval.
        if previous is not None and span != previous:
            position = moved[-1].end
        previous = span
        end = position + (reading.end - reading.start)
        moved.append(replace(reading, start=position, end=end))
    return moved


def _amount(readings: Sequence[Reading], slots: Sequence[Slot]) -> Amount:
    emitted, unaccounted = ZERO_EMISSIONS, ZERO_ENERGY
    for reading in readings:
        left = reading.energy
        for slot, part in _split(reading, slots):
            emitted += part * slot.intensity
            left -= part
        # What is left of a fully covered interval is rounding.
        if left.joules > 1e-6 * reading.energy.joules:
            unaccounted += left
    return Amount(total(readings), emitted, unaccounted)


def _split(reading: Reading, slots: Sequence[Slot]) -> Iterable[tuple[Slot, Energy]]:
    """An interval's energy by slot, in proportion to time."""
    duration = reading.end - reading.start
    if not duration:
        at = [s for s in slots if s.start <= reading.start < s.end]
        yield from ((slot, reading.energy) for slot in at)
        return
    for slot in overlap(slots, Window(reading.start, reading.end)):
        yield slot, reading.energy * (slot.duration / duration)
