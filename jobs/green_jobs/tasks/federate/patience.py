"""How long a server waits for sites that are missing. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Final

from green_api.federate import Federate

from green_jobs.tasks.federate.state import Round

LEAST_WAIT: Final = timedelta(minutes=10)
"""Though the deadline is near: sites that start, or start again, are not there at once."""


def give_up_at(
    began: datetime, task: Federate, rounds: Sequence[Round], deadline: datetime | None
) -> datetime:
    """When a stall has lasted too long.

    With a deadline: when the rounds that remain just fit before it, at the pace of those so far.
    Before the first round nothing is known of the pace, and a wait up to the deadline would leave
    no time for any: then, as without a deadline, after ``stalledTimeout``.

    Args:
        began: when too few sites were there for the first time.
        task: what is asked for.
        rounds: those so far.
        deadline: of the job; None where it has none.

    """
    if deadline is None:
        return began + task.stalled_timeout
    if not rounds:
        return max(min(deadline, began + task.stalled_timeout), began + LEAST_WAIT)
    needed = timedelta(seconds=median(r.seconds for r in rounds) * (task.rounds - len(rounds)))
    return max(deadline - needed, began + LEAST_WAIT)
