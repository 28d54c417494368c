"""Whether a status is worth a write: figures that tick do not make etcd tick."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from green_api.status import AccountStatus, JobStatus

from green_operator.plan.types import NOTICEABLE_SHARE

FIGURES_EVERY: Final = timedelta(minutes=5)
"""Figures alone are written so often."""


def is_significant(
    previous: JobStatus | None, status: JobStatus, since_write: timedelta | None
) -> bool:
    """Whether the status says something new that matters.

    Args:
        previous: what is stored.
        status: what would be written.
        since_write: time since this job's last write; None where it is not known.

    """
    if previous is None or _essence(previous) != _essence(status):
        return True
    if _is_noticeable(previous, status):
        return True
    if previous.energy == status.energy and previous.progress == status.progress:
        return False
    return since_write is None or since_write >= FIGURES_EVERY


def _essence(status: JobStatus) -> object:
    plan = status.plan
    return (
        status.observed_generation,
        status.state,
        status.deadline,
        status.start_time,
        status.completion_time,
        status.planned_start,
        status.report_sha256,
        plan and (plan.reason, plan.zone, plan.signal, plan.windows if status.planned_start else 0),
        status.run and (status.run.number, status.run.attempts, status.run.failed_attempts),
        status.account and _ends(status.account),
        [(account.role, _ends(account)) for account in status.accounts or ()],
        [(role.name, role.state) for role in status.roles or ()],
        [(c.type, c.status, c.reason) for c in status.conditions],
    )


def _ends(account: AccountStatus) -> object:
    return [(a.uid, a.end_time) for a in account.latest]


def _is_noticeable(previous: JobStatus, status: JobStatus) -> bool:
    if previous.plan is None or status.plan is None or status.planned_start is None:
        return False
    old = previous.plan.expected_emissions_micrograms or 0
    new = status.plan.expected_emissions_micrograms or 0
    return abs(new - old) > NOTICEABLE_SHARE * max(old, 1)
