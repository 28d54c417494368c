"""Whole trainings on digits in real processes, killed and interrupted at any point."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest
from green_api.contract import ExitCode
from green_api.federate import Federate

from tests.cluster.harness.processes import Process, free_port
from tests.cluster.harness.waiting import wait_for
from tests.conftest import SEED, WHOLE
from tests.federate.credentials import Authority, new_key, write_site_key
from tests.federate.test_rounds import a_task

LIVES = range(20)
SAMPLE = 1
VICTIMS = ["server", "superlink", "site", "supernode"]


class Training:
    """Server and sites as processes, which are started again as a Job does."""

    def __init__(self, folder: Path, task: Federate) -> None:
        self.folder = folder
        self.task = task
        (folder / "task.json").write_text(task.model_dump_json(by_alias=True))
        (folder / "address").write_text(f"127.0.0.1:{free_port()}")
        (folder / "secret").write_bytes(b"0123456789abcdef0123456789abcdef")
        Authority.make().write_server(folder)
        for site in task.names:
            (folder / f"{site}.pub").write_bytes(write_site_key(new_key(), folder / site))
        self.processes = {
            role: Process(role, [sys.executable, "-m", "tests.federate.role", folder, role], folder / f"{role}.log")
            for role in ["server", *task.names]
        }  # fmt: skip

    def start(self) -> None:
        for process in self.processes.values():
            process.start()

    @property
    def progress(self) -> dict[str, Any]:
        path = self.folder / "server" / "progress.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return found or {"rounds": [], "stalled": ""}

    @property
    def rounds(self) -> list[dict[str, Any]]:
        return list(self.progress["rounds"])

    def wait_rounds(self, count: int) -> None:
        wait_for(lambda: len(self.rounds) >= count, 300, f"round {count}", seen=self.tails)

    def tails(self) -> list[str]:
        return [f"{p.name}: {p.tail(12)}" for p in self.processes.values()]

    def companion(self, role: str) -> psutil.Process:
        """Flower's process beside one of ours."""
        (found,) = [
            child for child in psutil.Process(self.processes[role].pid).children()
            if "federate.flower" in " ".join(child.cmdline())
        ]  # fmt: skip
        return found

    def wait_end(self) -> dict[str, int | None]:
        """Until all have ended; those that are killed or interrupted meanwhile start again."""

        def has_ended() -> bool:
            for process in self.processes.values():
                if not process.is_running and process.code not in (0, None):
                    process.start()
            return all(not p.is_running for p in self.processes.values())

        wait_for(has_ended, 400, "all have ended", seen=self.tails)
        return {role: process.code for role, process in self.processes.items()}

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Training]:
    made = Training(tmp_path, a_task(rounds=4, partition={"sites": 2}))
    yield made
    made.stop()


def check(training: Training) -> None:
    rounds = training.rounds
    assert [r["number"] for r in rounds] == [1, 2, 3, 4]
    assert rounds[-1]["accuracy"] > 0.8
    for one in rounds:
        assert len(one["sites"]) >= training.task.min_sites
        assert all(size > 10_000 for size in one["bytes"].values())


@pytest.mark.matrix
@pytest.mark.parametrize("number", LIVES if WHOLE else Random(SEED).sample(LIVES, SAMPLE))
def test_whoever_is_killed_the_training_ends_as_it_should(training: Training, number: int) -> None:
    random = Random(f"{SEED}/{number}")
    victim = VICTIMS[number % len(VICTIMS)]
    training.start()
    training.wait_rounds(random.randrange(1, 3))
    time.sleep(random.uniform(0, 2))
    before = len(training.rounds)
    site = random.choice(training.task.names)
    if victim in ("server", "site"):
        training.processes["server" if victim == "server" else site].kill()
    else:
        training.companion("server" if victim == "superlink" else site).kill()
    assert set(training.wait_end().values()) == {ExitCode.SUCCEEDED}
    check(training)
    assert len(training.rounds) >= before


def test_an_interrupted_training_goes_on_with_the_next_round(training: Training) -> None:
    training.start()
    training.wait_rounds(1)
    for process in training.processes.values():
        os.kill(process.pid, signal.SIGTERM)
    wait_for(
        lambda: all(not p.is_running for p in training.processes.values()), 30, "all have stopped",
        seen=training.tails,
    )  # fmt: skip
    assert {p.code for p in training.processes.values()} == {ExitCode.INTERRUPTED}
    left = training.rounds
    assert 1 <= len(left) < 4
    training.start()
    assert set(training.wait_end().values()) == {ExitCode.SUCCEEDED}
    check(training)
    assert training.rounds[: len(left)] == left


def test_missing_sites_are_named_until_they_come(training: Training) -> None:
    for role in ("server", "site-0"):
        training.processes[role].start()
    wait_for(
        lambda: training.progress["stalled"] == "site-1 is not there", 240, "it says who is missing",
        seen=lambda: (training.progress, training.tails()),
    )  # fmt: skip
    training.processes["site-1"].start()
    assert set(training.wait_end().values()) == {ExitCode.SUCCEEDED}
    check(training)
