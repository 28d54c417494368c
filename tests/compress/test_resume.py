"""An interrupted pipeline ends as if it had never been interrupted."""

from __future__ import annotations

import logging
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from green_jobs.lock import Lock, LockLostError
from green_jobs.tasks.compress.session import AttemptInterruptedError

from tests.compress.job import SMALL, Job, StopAt

RANDOM_CODE = """
import random
import numpy as np
import torch
from torch import nn

class Shaky:
    "Inputs that differ each time, by all three generators."
    def __len__(self):
        return 96
    def __getitem__(self, index):
        noise = torch.rand(6) + random.random() + float(np.random.rand())
        return torch.full((6,), index % 3, dtype=torch.float32) + noise / 10, index % 3

def data():
    return {"train": Shaky(), "test": torch.utils.data.TensorDataset(
        torch.arange(30).remainder(3).float().unsqueeze(1).repeat(1, 6), torch.arange(30) % 3)}

def net(hidden):
    return nn.Sequential(nn.Linear(6, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Dropout(0.5),
                         nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 3))
"""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int]:
    """The weights of a run without interruption, and how many safe points it has."""
    job, signals = Job(tmp_path_factory.mktemp("whole"), SMALL), StopAt()
    job.run(signals)
    return job.weights, signals.looks


@pytest.mark.parametrize("share", [0.0, 0.2, 0.37, 0.41, 0.45, 0.6, 0.8, 0.99, 1.0])
def test_resumed_weights_are_the_same_to_the_bit(
    job: Job, uninterrupted: tuple[bytes, int], share: float
) -> None:
    weights, looks = uninterrupted
    job.run_until_stopped(1 + round(share * (looks - 1)))
    job.run()
    assert job.weights == weights


def test_interrupted_again_and_again(job: Job, uninterrupted: tuple[bytes, int]) -> None:
    attempts = 0
    while True:
        attempts += 1
        try:
            job.run(StopAt(6))
        except AttemptInterruptedError:
            continue
        break
    assert attempts > 5
    assert job.weights == uninterrupted[0]


def test_dropout_and_augmentation_go_on_where_they_were(tmp_path: Path, code: Path) -> None:
    (code / "shaky.py").write_text(RANDOM_CODE)
    task = {
        "model": {"entrypoint": "shaky:net", "args": {"hidden": 16}, "trainEpochs": 3},
        "data": {"entrypoint": "shaky:data", "batchSize": 32},
        "steps": [
            {"prune": {"ratio": 0.25}},
            {
                "distill": {
                    "epochs": 2,
                    "student": {"entrypoint": "shaky:net", "args": {"hidden": 8}},
                }
            },
        ],
        "exports": ["Safetensors"],
    }
    whole, broken, signals = Job(tmp_path / "a", task), Job(tmp_path / "b", task), StopAt()
    whole.run(signals)
    for look in (5, 6):
        broken.run_until_stopped(look)
    broken.run()
    assert broken.weights == whole.weights


def test_sigterm_to_the_process(tmp_path: Path) -> None:
    task = SMALL | {"model": {"builtin": "digits-cnn", "trainEpochs": 30}}
    whole, broken = Job(tmp_path / "a", task), Job(tmp_path / "b", task)
    process = broken.start()
    while "original: epoch" not in broken.state.phase and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 75, log
    assert "Traceback" not in log
    assert broken.state.saved == 1
    assert not broken.state.done
    broken.run()
    whole.run()
    assert broken.weights == whole.weights


def test_sigterm_without_room_for_a_checkpoint(job: Job, caplog: pytest.LogCaptureFixture) -> None:
    with _files_of_at_most(4096):
        job.run_until_stopped(3)
    assert list(job.checkpoints.iterdir()) == []
    assert "checkpoint not written" in caplog.text


def test_full_disk_does_not_stop_the_training(
    job: Job, uninterrupted: tuple[bytes, int], caplog: pytest.LogCaptureFixture
) -> None:
    job.interval = 1  # the smallest; stage ends try as well
    with _files_of_at_most(20_000):  # the outputs fit, a checkpoint does not
        job.run()
    assert list(job.checkpoints.iterdir()) == []
    assert "the last good one stays" in caplog.text
    assert job.weights == uninterrupted[0]


def test_corrupt_newest_checkpoint(
    job: Job, uninterrupted: tuple[bytes, int], caplog: pytest.LogCaptureFixture
) -> None:
    job.run_until_stopped(uninterrupted[1] - 1)
    before, newest = sorted(job.checkpoints.iterdir())
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    job.run()
    assert f"{newest.name} is not sound, taking the one before" in caplog.text
    assert before.name not in caplog.text
    assert job.weights == uninterrupted[0]


def test_checkpoint_of_another_task(
    job: Job, uninterrupted: tuple[bytes, int], caplog: pytest.LogCaptureFixture
) -> None:
    job.task = SMALL | {"seed": 7}
    job.run_until_stopped(40)
    job.task = SMALL
    job.run()
    assert "of another task" in caplog.text
    assert job.weights == uninterrupted[0]


def test_checkpoints_are_due_by_time(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10**6))
    monkeypatch.setattr("green_jobs.tasks.compress.session.time.monotonic", lambda: next(ticks) / 2)
    job.interval = 10
    job.run()
    newest = max(job.checkpoints.iterdir())
    assert int(newest.name.partition("-")[0]) > len(SMALL["steps"]) + 1
    assert len(list(job.checkpoints.iterdir())) == 2


def test_a_newer_attempt_stops_an_older_one(job: Job, uninterrupted: tuple[bytes, int]) -> None:
    class TakeOver(StopAt):
        @property
        def stop_requested(self) -> bool:
            if self.looks == 5:
                Lock(job.claim / "job", "attempt-2").take()
            return super().stop_requested

    with pytest.raises(LockLostError):
        job.run(TakeOver())
    assert list(job.checkpoints.iterdir()) == []
    assert list(job.output.iterdir()) == []


def test_progress_rises(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    phases: list[str] = []

    def report(percentage: float | None = None, phase: str = "", **_: object) -> None:
        if percentage is not None:
            seen.append(percentage)
            phases.append(phase)

    monkeypatch.setattr("green_jobs.progress.report", report)
    job.run()
    assert seen == sorted(seen)
    assert seen[0] == 0
    assert 0 < seen[-1] <= 100
    assert "distill: epoch 1/2" in phases


@contextmanager
def _files_of_at_most(size: int) -> Iterator[None]:
    """Let the system refuse to write larger files, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


logging.getLogger("green_jobs").setLevel(logging.INFO)
