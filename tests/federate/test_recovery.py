"""What is lost amid real rounds: a server on a real SuperLink, and sites that are processes."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from green_jobs.checkpoint import CheckpointStore
from green_jobs.lock import Lock
from green_jobs.tasks.federate.flower.switches import SWITCHES
from green_jobs.tasks.federate.link import ServerFiles, superlink
from green_jobs.tasks.federate.server import Server
from green_jobs.tasks.federate.state import State

from tests.cluster.harness.processes import Process
from tests.cluster.harness.waiting import wait_for
from tests.federate.adding_site import ASKED
from tests.federate.test_flower import Federation
from tests.federate.test_rounds import a_task
from tests.federate.test_server import START, Told

TROUBLED = ["killed", "large", "works"]
LIMIT = 64 * 2**20
"""Bytes of an update."""


class Untroubled:
    """Signals of which none comes."""

    stop_requested = False
    wait = staticmethod(time.sleep)


class Training:
    """A server in this process, whose rounds a thread makes, and sites in others."""

    def __init__(self, folder: Path, *sites: str, **changes: Any) -> None:
        self.federation = Federation(folder, sites)
        self.folder = folder
        self.hold = folder / "hold"
        """While it is there, sites answer nothing from the second round on."""
        self.sites = {site: self.site(site) for site in sites}
        self.told = Told()
        self.signals = Untroubled()
        keys = {site: self.federation.key_of(site) for site in sites}
        files = ServerFiles(self.federation.address, folder, keys, folder / "flower/run")
        self.database = files.home / "state.db"
        self.link = superlink(files)
        (folder / "checkpoints").mkdir()
        lock = Lock(folder, "a")
        lock.take()
        self._server = Server(
            a_task(**changes), files, self.link,
            CheckpointStore(folder / "checkpoints", lock), list(START), lambda _: 0.5, 0,
            self.signals, self.told, max_update_bytes=LIMIT,  # type: ignore[arg-type]
        )  # fmt: skip

    def site(self, name: str) -> Process:
        """A site that has this name's key; it is started with the others."""
        command = [
            sys.executable, "-m", "tests.federate.adding_site",
            self.folder, name, self.federation.address,
        ]  # fmt: skip
        return Process(name, command, self.folder / f"{name}.log", SWITCHES)

    @contextmanager
    def running(self) -> Iterator[Future[tuple[State, str]]]:
        """All that belongs to it, while the rounds are made."""
        with self.link, ThreadPoolExecutor(1) as pool:
            try:
                for site in self.sites.values():
                    site.start()
                yield pool.submit(self._server.run, State(weights=START))
            finally:
                self.signals.stop_requested = True
                for site in self.sites.values():
                    site.kill()

    def entries(self, site: str) -> int:
        """How often its SuperNode was let in."""
        return self.sites[site].log.read_text().count("SuperNode ID:")

    def wait_told(self, word: str) -> None:
        wait_for(
            lambda: word in self.told.words, 120, f"the server tells {word!r}",
            seen=lambda: [self.told.words, *(site.tail(8) for site in self.sites.values())],
            pause=0.02,
        )  # fmt: skip

    def lose_the_run(self) -> None:
        """The SuperLink dies, and what it knew is gone."""
        (process,) = (
            p for p in psutil.Process().children() if "superlink" in " ".join(p.cmdline())
        )
        process.kill()
        process.wait()
        for file in self.database.parent.glob("state.db*"):
            file.unlink()


def a_training(folder: Path, patch: pytest.MonkeyPatch, *sites: str, **changes: Any) -> Training:
    """With Flower's switches in this process, where the server is."""
    for name, value in {**SWITCHES, "FLWR_HOME": str(folder / "home")}.items():
        patch.setenv(name, value)
    return Training(folder, *sites, minSites=1, **changes)


def test_a_server_whose_run_the_superlink_does_not_know_any_more_begins_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Flower would take the refusal for a Ctrl-C, and the job would stand suspended."""
    made = a_training(tmp_path, monkeypatch, "works", rounds=3)
    with made.running() as rounds:
        made.wait_told("round 1")
        made.lose_the_run()
        state, why = rounds.result(timeout=180)
    assert why == "all 3 rounds are done"
    assert [r.sites for r in state.rounds] == [["works"]] * 3
    np.testing.assert_array_equal(state.weights["w"], START["w"] + 3)
    assert "the run is lost, another is begun: Client error '401" in caplog.text


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Training, State]]:
    """One site works, one is killed in the second round, one sends too much."""
    with pytest.MonkeyPatch.context() as patch:
        made = a_training(tmp_path_factory.mktemp("troubled"), patch, *TROUBLED, rounds=4)
        killed = made.sites["killed"]
        made.hold.touch()
        (made.folder / "too-large").write_text("large")
        with made.running() as rounds:
            second = f"{ASKED} 2"
            wait_for(lambda: second in killed.tail(), 120, "the second round", seen=killed.tail)
            killed.kill()
            killed.start()
            # The SuperLink holds a killed node for alive for a minute.
            wait_for(lambda: made.entries("killed") == 2, 40, "it is in again", seen=killed.tail)
            made.hold.unlink()
            state, _ = rounds.result(timeout=120)
        yield made, state


def test_a_site_that_was_killed_misses_that_round_alone(troubled: tuple[Training, State]) -> None:
    _, state = troubled
    both = ["killed", "works"]
    # The first round does not wait for everyone.
    assert [r.sites for r in state.rounds[1:]] == [["works"], both, both]
    assert "killed" in state.rounds[1].dropped


def test_an_update_over_the_limit_crosses_the_superlink_and_costs_itself_alone(
    troubled: tuple[Training, State],
) -> None:
    _, state = troubled
    reasons = [r.dropped["large"] for r in state.rounds if "large" in r.dropped]
    assert reasons
    for reason in reasons:
        assert re.fullmatch(
            rf".*: it has 6815\d+ bytes or more, at most {LIMIT} are taken", reason
        ), reason
    assert not [r for r in state.rounds if "large" in r.sites]
