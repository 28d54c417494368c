"""Journal, recorder, reply, summary and pace: what is kept and told, without processes."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from green_api.base import Provenance
from green_api.contract import (
    MAX_REPLY_BYTES,
    MAX_REPLY_ENTRIES,
    MAX_SUMMARY_BYTES,
    Component,
    Counter,
    JournalEntry,
    Mark,
    Method,
    ModelFigures,
    Outcome,
    Progress,
    Result,
    Summary,
)
from green_jobs.energy.ladder import Meters
from green_jobs.journal import Journal, read_journals
from green_jobs.lock import Lock, LockLostError
from green_jobs.pace import Pace
from green_jobs.recorder import Moment, Recorder
from green_jobs.reply import build_reply
from green_jobs.state import WorkerState
from green_jobs.summary import fit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
COUNTER = Counter(
    component=Component.CPU,
    provenance=Provenance.ESTIMATED,
    method=Method.RESERVED,
    joules=12345.6789,
)
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)


def open_journal(folder: Path, attempt: str) -> Journal:
    lock = Lock(folder, attempt)
    lock.take()
    return Journal(folder, attempt, lock)


def entry(sequence: int, attempt: str = "a1", counters: int = 1) -> JournalEntry:
    return JournalEntry(
        sequence=sequence,
        attempt=attempt,
        time=NOON,
        mark=Mark.BOUNDARY,
        counters=[COUNTER] * counters,
    )


class TestJournal:
    def test_sequences_rise_over_attempts_and_restarts(self, tmp_path: Path) -> None:
        for attempt in ("a1", "a2", "a1"):
            journal = open_journal(tmp_path, attempt)
            journal.append(Mark.STARTED, NOON, [COUNTER])
            journal.append(Mark.ENDED, NOON, [COUNTER])
        first = int(NOON.timestamp() * 1000)
        assert [e.sequence - first for e in read_journals(tmp_path)] == [0, 1, 2, 3, 4, 5]
        assert read_journals(tmp_path) == journal.entries

    def test_numbers_that_were_told_but_never_written_are_not_given_again(
        self, tmp_path: Path
    ) -> None:
        told = open_journal(tmp_path, "a1").append(Mark.STARTED, NOON, [COUNTER])
        (tmp_path / "a1.jsonl").unlink()  # the disk never had it
        later = open_journal(tmp_path, "a2").append(
            Mark.STARTED, NOON + timedelta(seconds=1), [COUNTER]
        )
        assert later.sequence > told.sequence

    @same_folder
    @given(cut=st.integers(min_value=0, max_value=700), more=st.integers(0, 3))
    def test_a_torn_end_loses_one_entry_at_most(self, tmp_path: Path, cut: int, more: int) -> None:
        for file in tmp_path.iterdir():
            file.unlink()
        journal = open_journal(tmp_path, "a1")
        for _ in range(3):
            journal.append(Mark.BOUNDARY, NOON, [COUNTER])
        file = tmp_path / "a1.jsonl"
        whole = file.read_bytes()
        file.write_bytes(whole[:cut])
        kept = whole[:cut].count(b"\n") + (whole[cut : cut + 1] == b"\n")
        assert len(read_journals(tmp_path)) == kept
        again = open_journal(tmp_path, "a1")
        for _ in range(more):
            again.append(Mark.BOUNDARY, NOON, [COUNTER])
        sequences = [e.sequence for e in read_journals(tmp_path)]
        assert len(sequences) == kept + more
        assert sequences == sorted(set(sequences))

    def test_what_a_disk_refuses_is_written_later_and_warned_of_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        journal = open_journal(tmp_path, "a1")
        journal.append(Mark.STARTED, NOON, [COUNTER])

        def refuse(_descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", refuse)
            journal.append(Mark.WORKING, NOON, [COUNTER])
            journal.append(Mark.SAVED, NOON, [COUNTER])
        assert len(journal.entries) == 3
        assert capsys.readouterr().err.count("No space left") == 1
        journal.flush()
        assert read_journals(tmp_path) == journal.entries

    def test_nothing_is_written_without_the_lock(self, tmp_path: Path) -> None:
        old = open_journal(tmp_path, "a1")
        old.append(Mark.STARTED, NOON, [COUNTER])
        open_journal(tmp_path, "a2")
        with pytest.raises(LockLostError, match="a2"):
            old.append(Mark.ENDED, NOON, [COUNTER])
        assert [e.mark for e in read_journals(tmp_path)] == [Mark.STARTED]


class TestRecorder:
    @staticmethod
    def moment(seconds: float) -> Moment:
        return Moment(NOON + timedelta(seconds=seconds), seconds)

    def recorder(self, folder: Path, start: float = 10) -> Recorder:
        journal = open_journal(folder, "a1")
        return Recorder("a1", journal, Meters([]), 300, self.moment(start))

    def marks(self, recorder: Recorder) -> list[tuple[Mark, float]]:
        return [(e.mark, (e.time - NOON).total_seconds()) for e in recorder.entries]

    def test_boundaries_lie_at_multiples_of_the_interval(self, tmp_path: Path) -> None:
        recorder = self.recorder(tmp_path)
        for second in range(11, 700):
            recorder.observe(WorkerState(), self.moment(second))
        assert self.marks(recorder) == [
            (Mark.STARTED, 10), (Mark.BOUNDARY, 300), (Mark.BOUNDARY, 600)
        ]  # fmt: skip

    def test_levels_become_marks_once(self, tmp_path: Path) -> None:
        recorder = self.recorder(tmp_path)
        states = [
            WorkerState(),
            WorkerState(working=True),
            WorkerState(working=True, saved=1),
            WorkerState(working=True, saved=1),
            WorkerState(working=True, saved=4),
            WorkerState(working=True, saved=4, discarded=1),
            WorkerState(working=True, saved=5, discarded=2),
        ]
        for second, state in enumerate(states, start=11):
            recorder.observe(state, self.moment(second))
        recorder.end(self.moment(20))
        assert self.marks(recorder) == [
            (Mark.STARTED, 10), (Mark.WORKING, 12), (Mark.SAVED, 13), (Mark.SAVED, 15),
            (Mark.DISCARDED, 16), (Mark.DISCARDED, 17), (Mark.SAVED, 17), (Mark.ENDED, 20),
        ]  # fmt: skip

    def test_sampling_refreshes_what_is_told_and_journals_nothing(self, tmp_path: Path) -> None:
        recorder = self.recorder(tmp_path)
        journalled = recorder.current
        recorder.sample(self.moment(99))
        assert recorder.current.time == self.moment(99).time
        assert recorder.current.sequence == journalled.sequence
        assert len(recorder.entries) == 1

    def test_remaining_time_starts_from_the_first_percentage(self, tmp_path: Path) -> None:
        recorder = self.recorder(tmp_path)

        def told(second: float, **state: Any) -> Progress:
            recorder.observe(WorkerState(**state), self.moment(second))
            return recorder.reply(0, self.moment(second)).progress

        assert told(11, working=True).estimated_remaining_seconds is None
        assert told(100, working=True, percentage=50).estimated_remaining_seconds is None
        assert told(200, working=True, percentage=60).estimated_remaining_seconds == 400


class TestPace:
    def test_says_nothing_before_a_point_is_made(self) -> None:
        assert Pace(0, 10).remaining(100, 10.99) is None

    @given(st.floats(0, 99), st.floats(1, 100), st.floats(0, 1e9))
    def test_is_finite_and_never_negative(self, start: float, made: float, seconds: float) -> None:
        remaining = Pace(0, start).remaining(seconds, min(start + made, 100))
        assert remaining is None or 0 <= remaining < float("inf")


class TestReply:
    @same_folder
    @given(count=st.integers(0, 1500), counters=st.integers(0, 8), long=st.booleans())
    def test_asking_on_gets_every_entry_once_within_bounds(
        self, count: int, counters: int, long: bool
    ) -> None:
        name = "é" * 64 if long else "a1"
        entries = [entry(i, name, counters) for i in range(1, count + 1)]
        got: list[JournalEntry] = []
        more = True
        while more:
            after = got[-1].sequence if got else 0
            reply = build_reply(
                attempt=name,
                time=NOON,
                progress=Progress(phase="x" * 512),
                current=entry(count, name, counters),
                entries=entries[after:],
            )
            assert len(reply.entries) <= MAX_REPLY_ENTRIES
            wire = reply.model_dump_json(by_alias=True, exclude_none=True).encode()
            assert len(wire) <= MAX_REPLY_BYTES
            assert reply.entries or not reply.more
            got += reply.entries
            more = reply.more
        assert got == entries


class TestSummary:
    @same_folder
    @given(
        message=st.text(max_size=512),
        uid=st.text(alphabet="abc-", min_size=1, max_size=64),
        metrics=st.dictionaries(
            st.text(max_size=63), st.floats(allow_nan=False, allow_infinity=False), max_size=32
        ),
        counters=st.integers(0, 8),
        models=st.booleans(),
    )
    def test_always_fits_and_keeps_what_counts(
        self, message: str, uid: str, metrics: dict[str, float], counters: int, models: bool
    ) -> None:
        figures = ModelFigures(parameters=10**9, bytes=10**12, accuracy=1 / 3, runtime="é" * 100)
        summary = Summary(
            attempt=uid,
            outcome=Outcome.SUCCEEDED,
            message=message,
            final=entry(7, uid, counters),
            result=Result(final=figures if models else None, metrics=metrics),
            report_path="jobs/j/report.json",
            report_sha256="0" * 64,
        )
        data = fit(summary)
        read = Summary.model_validate_json(data)
        assert len(data) <= MAX_SUMMARY_BYTES
        assert read.final == summary.final
        assert read.report_sha256 == summary.report_sha256

    def test_a_short_one_is_whole(self) -> None:
        summary = Summary(attempt="a1", outcome=Outcome.FAILED, message="boom", final=entry(7))
        assert Summary.model_validate_json(fit(summary)) == summary
