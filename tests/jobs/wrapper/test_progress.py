"""What users' scripts call."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
from green_api.contract import Result
from green_jobs import outcome, progress
from green_jobs.reporter import SECONDS_BETWEEN_WRITES, Reporter
from green_jobs.state import StateReader, WorkerState


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state file of a worker."""
    path = tmp_path / "state.json"
    reporter = Reporter(path, clock)
    monkeypatch.setattr(progress, "REPORTER", reporter)
    monkeypatch.setattr(outcome, "REPORTER", reporter)
    return path


def test_the_first_report_says_that_work_has_begun(told: Path) -> None:
    progress.report(5, phase="training", loss=0.5)
    state = WorkerState.read(told)
    assert state.working
    assert (state.percentage, state.phase, state.metrics) == (5, "training", {"loss": 0.5})
    assert not state.done


def test_what_is_left_out_keeps_its_value(told: Path) -> None:
    progress.report(5, phase="training", loss=0.5)
    progress.report(accuracy=0.9, saved=True)
    state = WorkerState.read(told)
    assert (state.percentage, state.phase, state.saved) == (5, "training", 1)
    assert state.metrics == {"loss": 0.5, "accuracy": 0.9}


def test_writes_are_seldom_but_a_checkpoint_is_told_at_once(told: Path, clock: Clock) -> None:
    progress.report(1)
    progress.report(2)
    assert WorkerState.read(told).percentage == 1
    progress.report(saved=True)
    assert WorkerState.read(told).percentage == 2
    clock.seconds += SECONDS_BETWEEN_WRITES
    progress.report(3)
    assert WorkerState.read(told).percentage == 3


@pytest.mark.parametrize(("said", "shown"), [(-1, 0), (101, 100), (math.nan, None), (33, 33)])
def test_percentages_stay_in_their_range(told: Path, said: float, shown: float | None) -> None:
    progress.report(said)
    assert WorkerState.read(told).percentage == shown


def test_figures_stay_within_the_contract(told: Path) -> None:
    progress.report(phase="p" * 1000, **{"n" * 100: 1, "infinite": math.inf, "nan": math.nan})
    state = WorkerState.read(told)
    assert state.metrics == {"n" * 63: 1}
    assert len(state.phase) == 512


def test_a_disk_that_refuses_stops_nothing(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path / "missing" / "state.json")
    reporter.update(urgent=True, working=True)
    (tmp_path / "missing").mkdir()
    reporter.flush()
    assert WorkerState.read(tmp_path / "missing" / "state.json").working


def test_done_and_finish_and_fail(told: Path) -> None:
    progress.report(50)
    outcome.fail("no such weights; give weights: on the claim", detail=1)
    state = WorkerState.read(told)
    assert state.message.startswith("no such weights")
    assert not state.done
    outcome.finish(Result(metrics={"accuracy": 1}), {"steps": []})
    state = WorkerState.read(told)
    assert state.done
    assert state.result == Result(metrics={"accuracy": 1})
    assert state.details == {"steps": []}


def test_the_last_words_are_written_at_exit(tmp_path: Path) -> None:
    program = "from green_jobs import progress; progress.report(1); progress.report(2)"
    path = tmp_path / "state.json"
    environment = {"GREEN_PROGRESS_FILE": str(path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    assert WorkerState.read(path).percentage == 2


def test_outside_a_job_nothing_happens(tmp_path: Path) -> None:
    program = "from green_jobs import progress; progress.report(1, saved=True); progress.done()"
    subprocess.run([sys.executable, "-c", program], check=True, env={}, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_keeps_the_last_sound_word(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    reader = StateReader(path)
    assert reader.read() == WorkerState()
    WorkerState(saved=1).write(path)
    assert reader.read().saved == 1
    path.write_text("{")
    assert reader.read().saved == 1
    path.unlink()
    assert reader.read().saved == 1
    WorkerState(saved=2).write(path)
    assert reader.read().saved == 2
