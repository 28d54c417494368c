"""What runs in a pod: the wrapper's own journal, recorder and report, over scripted work and meters."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from math import inf
from pathlib import Path

from green_api.contract import (
    MAX_SUMMARY_BYTES,
    Counter,
    ExitCode,
    JournalEntry,
    Outcome,
    ProgressReply,
    Summary,
    TaskDocument,
)
from green_jobs.attempt import Attempt
from green_jobs.ending import Ending, conclude
from green_jobs.journal import Journal
from green_jobs.lock import Lock
from green_jobs.recorder import Moment, Recorder
from green_jobs.report import find_done, mark_done, write_report
from green_jobs.state import WorkerState
from green_jobs.summary import fit

from tests.cluster.harness.script import Death, Hardware, Joules, Message, Script, counters_of

MAX_TERMINATION_MESSAGE = 4096
FALLS_FROM = 1000.0
"""Joules of a counter that falls."""


@dataclass(frozen=True)
class Truth:
    """What an attempt was and what its hardware drew, whoever saw it."""

    uid: str
    pod: str
    started: datetime
    ended: datetime | None
    code: int | None
    joules: Joules

    @property
    def total(self) -> float:
        return sum(self.joules.values())


class Claim:
    """What outlives the pods of one job."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ended = 0
        """Attempts that ended by themselves."""

    @property
    def seconds_done(self) -> float:
        """Saved work."""
        return float(json.loads(self._file.read_text())) if self._file.exists() else 0.0

    def save(self, seconds: float) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(seconds))

    @property
    def _file(self) -> Path:
        return self.root / "seconds-done"


class _Meters:
    """Stands in the place of the real ones."""

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware
        self.elapsed = 0.0

    @property
    def joules(self) -> Joules:
        return self._hardware(self.elapsed)

    def read(self) -> list[Counter]:
        return counters_of(self.joules)


class Container:
    """One attempt, moved on by ``tick``.

    Args:
        uid: of its pod.
        pod: its name.
        script: what it does.
        claim: of its job; one of its own where the job has none.
        document: what the operator told it.
        port: where it answers.
        start: when it began.

    """

    def __init__(
        self,
        uid: str,
        pod: str,
        script: Script,
        claim: Claim,
        document: TaskDocument,
        port: int,
        start: Moment,
    ) -> None:
        self.script = script
        self.start = start
        self.code: int | None = None
        self.end: datetime | None = None
        self.message = ""
        self.is_lost = False
        """Its node died: nobody hears of it again."""
        self._pod = pod
        self._claim = claim
        self._stopped_at: float | None = None
        self._killed_at = inf
        self._told: int | None = None
        self._state = WorkerState()
        self._before = claim.seconds_done if script.saves else 0.0
        self._interval = script.interval or document.journal_interval_seconds
        document = document.model_copy(update={"journal_interval_seconds": self._interval})
        nowhere = claim.root / "scratch"
        self._attempt = Attempt(
            uid,
            document,
            claim.root,
            script.has_claim,
            nowhere / "state",
            port,
            nowhere / "message",
        )
        self._meters = _Meters(script.hardware)
        self._recorder: Recorder | None = None
        if (done := find_done(self._attempt)) is not None:
            self._close(0, start, done.model_copy(update={"attempt": uid, "final": None}))
        else:
            self._attempt.make_folders()
            self._lock = Lock(self._attempt.folder, uid)
            self._lock.take()
            journal = Journal(self._attempt.journals, uid, self._lock)
            meters: Callable[..., Recorder] = Recorder  # a stand-in for Meters by its one method
            self._recorder = meters(uid, journal, self._meters, self._interval, start)

    @property
    def uid(self) -> str:
        return self._attempt.uid

    @property
    def has_ended(self) -> bool:
        return self.code is not None

    @property
    def truth(self) -> Truth:
        return Truth(
            self.uid, self._pod, self.start.time, self.end, self.code, dict(self._meters.joules)
        )

    def reply(self, after: int, moment: Moment) -> ProgressReply:
        if self._recorder is None or self.has_ended or self.is_lost:
            raise ConnectionAbortedError
        return self._recorder.reply(after, moment)

    def finish(self, code: int) -> None:
        """End by itself at the next tick."""
        self._told = code

    def stop(self, moment: Moment, grace_seconds: float) -> None:
        """SIGTERM, and SIGKILL once the grace period is over."""
        if self._stopped_at is None:
            self._stopped_at = moment.seconds
            self._killed_at = moment.seconds + grace_seconds

    def kill(self, moment: Moment) -> None:
        """SIGKILL to all of it: no last words."""
        if not self.has_ended:
            self._advance(moment)
            self._close(137, moment, None)

    def lose(self, moment: Moment) -> None:
        """Its node dies, and the hardware with it."""
        self._advance(moment)
        self.is_lost, self.end = True, moment.time

    def tick(self, moment: Moment) -> None:
        """Do what the script has for this moment."""
        if self.has_ended or self.is_lost:
            return
        script, elapsed = self.script, moment.seconds - self.start.seconds
        if script.death is not None and elapsed >= script.dies_after:
            self.lose(moment) if script.death is Death.NODE_DIES else self.kill(moment)
            return
        self._advance(moment)
        self._work(moment)
        code = self._due_code(elapsed)
        if self._stopped_at is not None and not script.ignores_sigterm:
            if moment.seconds - self._stopped_at >= script.stop_seconds:
                self._finish(0 if code == 0 else ExitCode.INTERRUPTED, moment, stopped=True)
        elif code is not None:
            self._claim.ended += 1
            self._finish(code, moment, stopped=self._stopped_at is not None)
        if not self.has_ended and moment.seconds >= self._killed_at:
            self.kill(moment)

    def _due_code(self, elapsed: float) -> int | None:
        """With what it ends by itself now, if it does."""
        if self._told is not None:
            return self._told
        code = self.script.code(self._claim.ended)
        work = self.script.seconds - self._before if code == 0 else self.script.fails_after
        return code if elapsed >= self.script.restore_seconds + work else None

    def _advance(self, moment: Moment) -> None:
        self._meters.elapsed = moment.seconds - self.start.seconds

    def _work(self, moment: Moment) -> None:
        """Tell the recorder how far the work is, with a checkpoint at each interval of it."""
        worked = self._meters.elapsed - self.script.restore_seconds
        done = self._before + max(0.0, worked)
        saved = int(max(0.0, worked) // self._interval) if self.script.saves else 0
        if saved > self._state.saved:
            self._claim.save(done)
        self._observe(
            moment,
            working=worked >= 0,
            percentage=min(99.0, 100 * done / self.script.seconds),
            phase="training" if worked >= 0 else "restoring",
            saved=saved,
            rounds=self.script.rounds(),
        )
        assert self._recorder is not None
        self._recorder.sample(moment)

    def _observe(self, moment: Moment, **changes: object) -> None:
        assert self._recorder is not None
        self._state = self._state.model_copy(update=changes)
        self._recorder.observe(self._state, moment)

    def _finish(self, code: int, moment: Moment, *, stopped: bool) -> None:
        """End with last words."""
        assert self._recorder is not None
        if code == 0:
            self._observe(
                moment, working=True, done=True, percentage=100.0, result=self.script.result
            )
        elif stopped and self.script.saves and self._state.working:
            worked = self._meters.elapsed - self.script.restore_seconds
            self._claim.save(self._before + worked)
            self._observe(moment, saved=self._state.saved + 1)
        final = self._recorder.end(moment)
        ending = conclude(code, self._state, f"ended with {code}, as scripted", stopped=stopped)
        if ending.code in (ExitCode.SUCCEEDED, ExitCode.LIMIT):
            summary = self._report(ending)
        else:
            summary = Summary(
                attempt=self.uid, outcome=ending.outcome, message=ending.message, final=final
            )
        kept = self._recorder.kept
        self._close(ending.code, moment, summary.model_copy(update={"kept": kept}))

    def _report(self, ending: Ending) -> Summary:
        assert self._recorder is not None
        entries = self._recorder.entries
        summary = write_report(self._attempt, self._lock, ending, self._state, entries)
        if ending.outcome is Outcome.SUCCEEDED:
            mark_done(self._attempt, self._lock, summary)
        return summary

    def _close(self, code: int, moment: Moment, summary: Summary | None) -> None:
        self.code, self.end = code, moment.time
        if summary is None or self.script.message is Message.ABSENT:
            return
        if self.script.message is Message.OTHER_UID:
            final = summary.final and summary.final.model_copy(update={"attempt": "another"})
            summary = summary.model_copy(update={"attempt": "another", "final": final})
        self.message = _as_told(fit(summary).decode(), self.script.message)


def _as_told(text: str, message: Message) -> str:
    """A termination message as the kubelet passes it on: the end of it, where it is too long."""
    if message is Message.TRUNCATED:
        text = text[: len(text) // 2]
    if message is Message.LONG:
        text = text.ljust(MAX_SUMMARY_BYTES + 1)
    if message is Message.TOO_LONG:
        text = text.ljust(MAX_TERMINATION_MESSAGE + len(text) // 2)
    return text[-MAX_TERMINATION_MESSAGE:]


def lie_falling(reply: ProgressReply) -> ProgressReply:
    """Each entry has less than the one before, down to nothing; none is more than can be."""
    return _with_joules(reply, lambda joules: max(FALLS_FROM - joules, 0.0))


def lie_absurd(reply: ProgressReply) -> ProgressReply:
    return _with_joules(reply, lambda joules: joules * 1e6 + 1e9)


def lie_about_uid(reply: ProgressReply) -> ProgressReply:
    return reply.model_copy(update={"attempt": "00000000-0000-0000-0000-000000000000"})


def _with_joules(reply: ProgressReply, change: Callable[[float], float]) -> ProgressReply:
    def changed(entry: JournalEntry) -> JournalEntry:
        counters = [c.model_copy(update={"joules": change(c.joules)}) for c in entry.counters]
        return entry.model_copy(update={"counters": counters})

    entries = [changed(entry) for entry in reply.entries]
    return reply.model_copy(update={"entries": entries, "current": changed(reply.current)})
