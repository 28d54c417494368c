"""Turns what is seen of a worker into journal entries and progress. Time is an argument."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from green_api.contract import JournalEntry, Mark, Progress, ProgressReply

from green_jobs.energy.ladder import Meters
from green_jobs.journal import Journal
from green_jobs.pace import Pace
from green_jobs.reply import build_reply
from green_jobs.state import WorkerState

# The termination message has room for so many.
_TOLD_ATTEMPTS: Final = 3


@dataclass(frozen=True)
class Moment:
    """One moment on two clocks: the wall's, for entries, and a steady one, for durations."""

    time: datetime
    seconds: float


class Recorder:
    """Keeps the journal of one attempt.

    Args:
        attempt: its UID.
        journal: where entries go.
        meters: read for each of them.
        interval: seconds between two boundaries, which lie at multiples of it on the wall clock.
        start: when the attempt began.

    Raises:
        LockLostError: as all methods that record, when another attempt has taken the folder.

    """

    def __init__(
        self, attempt: str, journal: Journal, meters: Meters, interval: float, start: Moment
    ) -> None:
        self._attempt = attempt
        self._journal = journal
        self._meters = meters
        self._interval = interval
        self._state = WorkerState()
        self._pace: Pace | None = None
        self._span = self._span_of(start)
        self._current = self._record(Mark.STARTED, start)

    def observe(self, state: WorkerState, moment: Moment) -> None:
        """Look at the worker's state and at the clock, and record what has happened since."""
        before, self._state = self._state, state
        span_before, self._span = self._span, self._span_of(moment)
        if state.working and not before.working:
            self._record(Mark.WORKING, moment)
        # Of both between two looks nobody knows which was first; this way no vain work is kept.
        if state.discarded > before.discarded:
            self._record(Mark.DISCARDED, moment)
        if state.saved > before.saved:
            self._record(Mark.SAVED, moment)
        if self._span != span_before:
            self._record(Mark.BOUNDARY, moment)
        if self._pace is None and state.percentage is not None:
            self._pace = Pace(moment.seconds, state.percentage)

    def sample(self, moment: Moment) -> None:
        """Read the meters for whoever asks, and try to write what the disk refused before."""
        self._current = self._current.model_copy(
            update={"time": moment.time, "counters": self._meters.read()}
        )
        self._journal.flush()

    def end(self, moment: Moment) -> JournalEntry:
        """Record the end."""
        return self._record(Mark.ENDED, moment)

    @property
    def current(self) -> JournalEntry:
        """The meters as they were read last."""
        return self._current

    @property
    def entries(self) -> list[JournalEntry]:
        """The entries of all attempts, oldest first."""
        return self._journal.entries

    @property
    def kept(self) -> list[JournalEntry]:
        """When this attempt began to work and last saved, after how earlier ones ended.

        The earlier ones are told for an operator that was away meanwhile.
        """
        own = [entry for entry in self._journal.entries if entry.attempt == self._attempt]
        working = [entry for entry in own if entry.mark is Mark.WORKING]
        saved = [entry for entry in own if entry.mark is Mark.SAVED]
        last = {e.attempt: e for e in self._journal.entries if e.attempt != self._attempt}
        ends = sorted(last.values(), key=lambda entry: entry.sequence)
        return [*ends[-_TOLD_ATTEMPTS:], *working[:1], *saved[-1:]]

    def reply(self, after: int, moment: Moment) -> ProgressReply:
        """What the operator is told; safe to call from another thread."""
        return build_reply(
            attempt=self._attempt,
            time=moment.time,
            progress=self._progress(moment.seconds),
            current=self._current,
            entries=[entry for entry in self._journal.entries if entry.sequence > after],
        )

    def _record(self, mark: Mark, moment: Moment) -> JournalEntry:
        self._current = self._journal.append(mark, moment.time, self._meters.read())
        return self._current

    def _span_of(self, moment: Moment) -> int:
        return int(moment.time.timestamp() // self._interval)

    def _progress(self, seconds: float) -> Progress:
        state, pace = self._state, self._pace
        remaining = None
        if pace is not None and state.percentage is not None:
            remaining = pace.remaining(seconds, state.percentage)
        return Progress(
            percentage=state.percentage,
            estimated_remaining_seconds=remaining,
            phase=state.phase,
            metrics=state.metrics,
            rounds=state.rounds,
        )
