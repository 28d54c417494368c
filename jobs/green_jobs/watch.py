"""Watching a worker until it has ended."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from typing import Final

from green_jobs.lock import Lock
from green_jobs.recorder import Moment, Recorder
from green_jobs.signals import Signals
from green_jobs.state import StateReader
from green_jobs.worker import Worker

LOOK_SECONDS: Final = 0.2
"""Between two looks at the worker's state."""
SAMPLE_SECONDS: Final = 5.0
"""Between two readings of the meters for whoever asks, and two looks at the lock."""


class Watch:
    """Records what a worker does and passes a request to stop on to it.

    Args:
        worker: the process.
        state: its word.
        recorder: what is seen goes there.
        lock: looked at now and then, so that an attempt that was superseded notices.
        signals: of this process.
        stop_seconds: from SIGTERM to SIGKILL.
        clock: the time.

    """

    def __init__(
        self,
        worker: Worker,
        state: StateReader,
        recorder: Recorder,
        lock: Lock,
        signals: Signals,
        stop_seconds: float,
        clock: Callable[[], Moment],
    ) -> None:
        self._worker = worker
        self._state = state
        self._recorder = recorder
        self._lock = lock
        self._signals = signals
        self._stop_seconds = stop_seconds
        self._clock = clock
        self._kill_at: float | None = None
        self._next_sample = 0.0

    @property
    def has_stopped_it(self) -> bool:
        """The worker was asked to stop before it ended by itself."""
        return self._kill_at is not None

    def run(self) -> int:
        """Return the worker's return code once it has ended; none of its group is left then.

        Raises:
            LockLostError: another attempt has taken the folder; the worker may still run.

        """
        while (code := self._worker.reap()) is None:
            self._look()
            if self._signals.stop_requested:
                self._stop()
            self._signals.wait(LOOK_SECONDS)
        self._worker.signal(signal.SIGKILL)
        self._look()
        return code

    def _look(self) -> None:
        moment = self._clock()
        self._recorder.observe(self._state.read(), moment)
        if moment.seconds >= self._next_sample:
            self._next_sample = moment.seconds + SAMPLE_SECONDS
            with contextlib.suppress(OSError):  # a claim that hiccups is no reason to stop
                self._lock.ensure()
            self._recorder.sample(moment)

    def _stop(self) -> None:
        seconds = self._clock().seconds
        if self._kill_at is None:
            self._kill_at = seconds + self._stop_seconds
            self._worker.signal(signal.SIGTERM)
        elif seconds >= self._kill_at:
            self._worker.signal(signal.SIGKILL)
