"""The books of a federated job: one for each role, whose statements add up to the job's.

Each role has its own journal, reservation and grid zone; the counterfactual places each role's
useful work from the same earliest start, in its own zone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from green_api.federate import SERVER
from green_api.status import AccountStatus, JobStatus, RoleAccountStatus
from green_api.units import ZERO_EMISSIONS, Power

from green_operator.account.book import KEPT_ATTEMPTS, Book
from green_operator.account.statement import Amount, Part, Statement

_KEPT_OF_SITE: Final = 2
"""Many sites share one status: of each fewer attempts stay open."""


def books_of(
    accounts: Sequence[RoleAccountStatus], reserved: Mapping[str, Power], earliest: datetime
) -> dict[str, Book]:
    """The books of each role as a status carries them; new ones where there are none.

    Args:
        accounts: of the status.
        reserved: by role, what its reservation can draw.
        earliest: when the job could have started.

    """
    known = {account.role: account for account in accounts}
    return {
        role: Book.from_status(
            known.get(role), power, earliest, KEPT_ATTEMPTS if role == SERVER else _KEPT_OF_SITE
        )
        for role, power in reserved.items()
    }


def accounts_in(status: JobStatus | None) -> list[AccountStatus]:
    """All books that a status carries; of a federated job the server's come first."""
    if status is None:
        return []
    return [*([status.account] if status.account is not None else ()), *(status.accounts or ())]


def accounts_of(books: Mapping[str, Book]) -> list[RoleAccountStatus]:
    """The books as a status carries them; those of roles that never began are left out."""
    return [
        RoleAccountStatus(role=role, **dict(book.to_status()))
        for role, book in books.items()
        if book.attempts
    ]


def sum_of(statements: Sequence[Statement]) -> Statement:
    """The whole of several roles' statements; its zone is the first one's."""
    parts = [statement.counterfactual for statement in statements]
    known = [part for part in parts if part is not None]
    return Statement(
        zone=statements[0].zone if statements else None,
        parts=_merged([part for statement in statements for part in statement.parts]),
        counterfactual=sum(known, ZERO_EMISSIONS) if len(known) == len(parts) else None,
        tails=_merged([tail for statement in statements for tail in statement.tails]),
    )


def _merged(parts: Sequence[Part]) -> tuple[Part, ...]:
    """One part for each place and kind, in the order in which they were met."""
    whole: dict[object, Part] = {}
    for part in parts:
        key = (part.zone, part.signal, part.provenance)
        known = whole.get(key)
        amount = part.amount if known is None else _plus(known.amount, part.amount)
        whole[key] = Part(part.zone, part.signal, part.provenance, amount)
    return tuple(whole.values())


def _plus(one: Amount, other: Amount) -> Amount:
    return Amount(
        one.energy + other.energy,
        one.emissions + other.emissions,
        one.unaccounted + other.unaccounted,
    )
