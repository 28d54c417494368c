"""One attempt from its start to its end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from green_api.contract import (
    CHECKPOINT_DIR_ENV,
    OUTPUT_DIR_ENV,
    PROGRESS_FILE_ENV,
    ExitCode,
    Outcome,
    Summary,
)

from green_jobs.attempt import Attempt
from green_jobs.ending import Ending, conclude, short
from green_jobs.energy.ladder import open_meters
from green_jobs.journal import Journal
from green_jobs.lock import Lock, LockLostError
from green_jobs.recorder import Moment, Recorder
from green_jobs.report import find_done, mark_done, write_report
from green_jobs.server import serve
from green_jobs.signals import Signals
from green_jobs.state import StateReader, WorkerState
from green_jobs.summary import tell
from green_jobs.tee import BoundedLog, Tee
from green_jobs.watch import Watch
from green_jobs.worker import Worker

_LAST_OUTPUT_SECONDS: Final = 2.0


def supervise(attempt: Attempt, command: Sequence[str], signals: Signals) -> int:
    """Run an attempt, tell its summary and return its exit code.

    Raises:
        TaskConfigError: there is no such command.
        OSError: the claim cannot be used.

    """
    summary = find_done(attempt)
    if summary is not None:
        summary = summary.model_copy(update={"attempt": attempt.uid, "final": None})
        code: int = ExitCode.SUCCEEDED
    else:
        code, summary = _work(attempt, command, signals)
    tell(summary, attempt.termination_file)
    return code


def _work(attempt: Attempt, command: Sequence[str], signals: Signals) -> tuple[int, Summary]:
    attempt.make_folders()
    lock = Lock(attempt.folder, attempt.uid)
    lock.take()
    recorder = _open_recorder(attempt, lock)
    worker = Worker(command, worker_environment(os.environ, attempt))
    log = BoundedLog(attempt.log)
    tee = Tee(worker.outputs, log)
    serve(attempt.port, lambda after: recorder.reply(after, now()))
    state = StateReader(attempt.state_file)
    stop_seconds = stop_allowance(attempt.document.grace_period_seconds)
    watch = Watch(worker, state, recorder, lock, signals, stop_seconds, now)
    try:
        returncode = watch.run()
        last_line = tee.finish(_LAST_OUTPUT_SECONDS)
        last_word = state.read()
        ending = conclude(returncode, last_word, last_line, stopped=watch.has_stopped_it)
        recorder.end(now())
        code, summary = _settle(attempt, lock, ending, last_word, recorder)
        return code, summary.model_copy(update={"kept": recorder.kept})
    except LockLostError as error:
        log.close()
        return _plain(attempt, Ending(ExitCode.INTERRUPTED, short(str(error))), recorder)
    finally:
        # Also where the lock is lost: a worker that stops gently would still save to the claim.
        worker.signal(signal.SIGKILL)


def _open_recorder(attempt: Attempt, lock: Lock) -> Recorder:
    return Recorder(
        attempt.uid,
        Journal(attempt.journals, attempt.uid, lock),
        open_meters(attempt.document, os.environ, time.monotonic),
        attempt.document.journal_interval_seconds,
        now(),
    )


def _settle(
    attempt: Attempt, lock: Lock, ending: Ending, state: WorkerState, recorder: Recorder
) -> tuple[int, Summary]:
    """Leave report and marker where the ending calls for them."""
    if ending.code not in (ExitCode.SUCCEEDED, ExitCode.LIMIT):
        return _plain(attempt, ending, recorder)
    try:
        summary = write_report(attempt, lock, ending, state, recorder.entries)
        if ending.outcome is Outcome.SUCCEEDED:
            mark_done(attempt, lock, summary)
    except OSError as error:
        message = f"the result cannot be recorded on the claim: {error}"
        return _plain(attempt, Ending(ExitCode.FAILED, short(message)), recorder)
    return ending.code, summary


def _plain(attempt: Attempt, ending: Ending, recorder: Recorder) -> tuple[int, Summary]:
    return ending.code, Summary(
        attempt=attempt.uid,
        outcome=ending.outcome,
        message=ending.message,
        final=recorder.current,
    )


def worker_environment(base: Mapping[str, str], attempt: Attempt) -> dict[str, str]:
    """What the worker finds in its environment beside ours."""
    code = attempt.claim / "code"
    path = [str(code) if code.is_dir() else "", base.get("PYTHONPATH", "")]
    return {
        # Threads that spin while they wait for one another burn energy, and on a machine with other
        # work a step was seen to take 5 times as long as with threads that sleep.
        "OMP_WAIT_POLICY": "PASSIVE",
        "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime calls its maker otherwise
        "PYTHONUNBUFFERED": "1",  # a worker that is killed must not take its last words along
        **base,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        CHECKPOINT_DIR_ENV: str(attempt.checkpoints),
        OUTPUT_DIR_ENV: str(attempt.output),
        PROGRESS_FILE_ENV: str(attempt.state_file),
    }


def stop_allowance(grace_seconds: float) -> float:
    """Seconds from SIGTERM to SIGKILL for the worker; the rest is for journal and summary."""
    return grace_seconds - min(5.0, grace_seconds / 4)


def now() -> Moment:
    """The time on both clocks."""
    return Moment(datetime.now(UTC), time.monotonic())
