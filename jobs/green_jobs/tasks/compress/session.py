"""The attempt around the pipeline: safe points, checkpoints, progress."""

from __future__ import annotations

import logging
import time
from typing import Final

from green_api.errors import GreenError

from green_jobs import progress
from green_jobs.checkpoint import CheckpointStore
from green_jobs.signals import Signals
from green_jobs.tasks.compress.attempt import Attempt
from green_jobs.tasks.compress.plan import Plan
from green_jobs.tasks.compress.state import State

_LOG: Final = logging.getLogger(__name__)


class AttemptInterruptedError(GreenError):
    """SIGTERM came; what could be saved is saved."""


class Session:
    """Saves the state when it is due and when the attempt must end.

    Args:
        attempt: this attempt.
        signals: whether SIGTERM has come.
        plan: the stages.

    """

    def __init__(self, attempt: Attempt, signals: Signals, plan: Plan) -> None:
        self.plan = plan
        self._task = attempt.task
        self._signals = signals
        self._store = CheckpointStore(attempt.checkpoints, attempt.lock)
        self._interval = attempt.document.journal_interval_seconds
        self._now = time.monotonic()
        self._due = self._now + self._interval

    def restore(self) -> State | None:
        """The state of the newest checkpoint of this task; None where there is none.

        Raises:
            TaskConfigError: an entrypoint gives no net any more.
            WidthsError: an entrypoint gives another net than before.

        """
        checkpoint = self._store.load()
        state = State.from_checkpoint(checkpoint, self._task) if checkpoint else None
        if checkpoint and state is None:
            _LOG.warning("the checkpoint is of another task; starting from the beginning")
        return state

    def safe_point(self, state: State) -> None:
        """Called wherever the state is whole: saves it if that is due.

        Raises:
            AttemptInterruptedError: SIGTERM has come.
            LockLostError: another attempt has taken over.

        """
        now = time.monotonic()
        state.seconds += now - self._now
        self._now = now
        if self._signals.stop_requested:
            self.save(state)
            msg = "interrupted; start again to go on from the checkpoint"
            raise AttemptInterruptedError(msg)
        if now >= self._due:
            self.save(state)

    def save(self, state: State) -> None:
        """Write a checkpoint; a disk that refuses is logged and the work goes on.

        Raises:
            LockLostError: another attempt has taken over.

        """
        if self._store.save(state.to_checkpoint(self._task)):
            progress.report(saved=True)
        self._due = time.monotonic() + self._interval

    def report(self, state: State, share: float, phase: str, **metrics: float) -> None:
        """Say how far the work is: a share of the state's stage is done."""
        percentage = self.plan.percentage(state.stage, share)
        progress.report(percentage, phase=phase, **metrics)  # type: ignore[arg-type] # no `saved`
