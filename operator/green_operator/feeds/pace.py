"""When a source is asked next; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

POLL_EVERY: Final = timedelta(minutes=30)
"""Both providers publish half-hours or hours; 50 questions an hour are free at Electricity Maps."""
READ_EVERY: Final = timedelta(minutes=5)
"""A trace is read from the API server."""
AT_ONCE: Final = datetime.min.replace(tzinfo=UTC)
"""Before all times."""
_FIRST_RETRY: Final = timedelta(minutes=1)
LONGEST_RETRY: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Pace:
    """When a source is asked next, and how often it failed."""

    next_poll: datetime = AT_ONCE
    failures: int = 0
    """Polls that failed, of all."""
    failures_in_a_row: int = 0

    def is_due(self, now: datetime) -> bool:
        """Whether to ask now."""
        return now >= self.next_poll

    def succeeded(self, now: datetime, every: timedelta) -> Pace:
        """The pace after a poll that brought everything."""
        return replace(self, next_poll=now + every, failures_in_a_row=0)

    def failed(
        self, now: datetime, wait: timedelta = timedelta(0), longest: timedelta = LONGEST_RETRY
    ) -> Pace:
        """The pace after a poll that failed: a minute, then twice as long each time.

        Args:
            now: when it was asked.
            wait: how long the provider asks to be left alone.
            longest: what the doubling ends at.

        """
        backoff = min(_FIRST_RETRY * 2 ** min(self.failures_in_a_row, 8), longest)
        return Pace(now + max(backoff, wait), self.failures + 1, self.failures_in_a_row + 1)
