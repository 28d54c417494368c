"""The statement of a job, or of one role: what it used, and what it would have without waiting.

The difference is counterfactual less actual, signed, and no part of the emissions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from green_api.base import Provenance, Signal
from green_api.units import ZERO_EMISSIONS, ZERO_ENERGY, Emissions, Energy, Power

from green_operator.account import book
from green_operator.account.book import AmountKey, Book
from green_operator.account.readings import AttemptRecord
from green_operator.plan.types import Outlook


@dataclass(frozen=True, slots=True)
class Amount:
    """Energy and what it emitted."""

    energy: Energy
    emissions: Emissions
    """Of the energy whose time has a known intensity."""
    unaccounted: Energy
    """Energy of times without a known intensity; it is in no figure of emissions."""


@dataclass(frozen=True, slots=True)
class Part:
    """An amount with its place and kind."""

    zone: str | None
    signal: Signal | None
    provenance: Provenance
    amount: Amount


@dataclass(frozen=True, slots=True)
class Statement:
    """Energy and emissions by zone, signal and provenance, and the signed difference."""

    zone: str | None
    """Where the latest attempt ran; of a federated job the server's."""
    parts: tuple[Part, ...]
    """They add up to the whole."""
    counterfactual: Emissions | None
    """None where an intensity that it needs is not known."""
    tails: tuple[Part, ...] = ()
    """What of the parts is estimated for unseen ends of attempts: readings that come later may take
    its place."""

    @property
    def energy(self) -> Energy:
        """All of it."""
        return sum((p.amount.energy for p in self.parts), ZERO_ENERGY)

    @property
    def emissions(self) -> Emissions:
        """Of the energy whose time has a known intensity."""
        return sum((p.amount.emissions for p in self.parts), ZERO_EMISSIONS)

    @property
    def unaccounted(self) -> Energy:
        """Energy of times without a known intensity."""
        return sum((p.amount.unaccounted for p in self.parts), ZERO_ENERGY)

    @property
    def zones(self) -> tuple[str, ...]:
        """Where energy was used, as far as that is known."""
        return tuple(dict.fromkeys(p.zone for p in self.parts if p.zone is not None))

    @property
    def signals(self) -> tuple[Signal, ...]:
        """The kinds of intensity that were used, the latest last."""
        return tuple(dict.fromkeys(p.signal for p in self.parts if p.signal is not None))

    @property
    def signal(self) -> Signal | None:
        """The kind of intensity that was used last; None where none is known."""
        return self.signals[-1] if self.signals else None

    @property
    def is_mixed(self) -> bool:
        """Whether several kinds of intensity were used, which cannot be compared."""
        return len(self.signals) > 1

    @property
    def difference(self) -> Emissions | None:
        """Counterfactual less actual; negative where waiting cost more.

        None where an intensity is not known, or several kinds of it would be compared.
        """
        if self.counterfactual is None or self.unaccounted > ZERO_ENERGY or self.is_mixed:
            return None
        return self.counterfactual - self.emissions

    def of(self, provenance: Provenance) -> Energy:
        """The energy that was found in one way."""
        return sum((p.amount.energy for p in self.parts if p.provenance is provenance), ZERO_ENERGY)


def statement_of(books: Book) -> Statement:
    """What the books say now."""
    useful = books.counterfactual()
    return Statement(
        zone=books.latest[-1].zone if books.latest else None,
        parts=_parts(books.all_amounts().items()),
        tails=_parts(books.tails()),
        counterfactual=None if useful.unknown else Emissions(useful.nanograms / 1e9),
    )


def state_account(
    attempts: Sequence[AttemptRecord],
    reserved: Power,
    zone: str | None,
    intensity: Outlook | None,
    earliest_start: datetime,
) -> Statement:
    """Account for a job whose attempts are all known.

    Args:
        attempts: in the order of their start.
        reserved: what the reservation can draw, for unseen tails.
        zone: where the energy was used, whether or not its intensity is known.
        intensity: what the zone's intensity was; None where nothing is known.
        earliest_start: when the job could have started (its creation, for a job that was ready).

    """
    books = Book(reserved, earliest_start)
    for record in attempts:
        attempt = books.begin(record.uid, record.start, zone)
        assert attempt is not None  # noqa: S101 - they come in the order of their start
        for sample in record.samples:
            books.enter(attempt, sample, intensity)
        if record.end is not None:
            books.end(attempt, record.end, succeeded=record.succeeded, intensity=intensity)
    return statement_of(books)


def _parts(amounts: Iterable[tuple[AmountKey, book.Amount]]) -> tuple[Part, ...]:
    return tuple(Part(*key, _amount(amount)) for key, amount in amounts)


def _amount(amount: book.Amount) -> Amount:
    return Amount(
        Energy(amount.millijoules / 1000),
        Emissions(amount.nanograms / 1e9),
        Energy(amount.unaccounted_millijoules / 1000),
    )
