"""The server's loop, over a grid without a network: when it goes on, waits and gives up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, RecordDict
from green_api.contract import ExitCode, RoundsProgress
from green_api.errors import TaskConfigError
from green_jobs import checkpoint, outcome, progress
from green_jobs.checkpoint import CheckpointStore
from green_jobs.files import write_atomically
from green_jobs.lock import Lock
from green_jobs.reporter import Reporter
from green_jobs.tasks.federate import __main__ as worker
from green_jobs.tasks.federate import serve, work
from green_jobs.tasks.federate import server as server_module
from green_jobs.tasks.federate.errors import StalledError
from green_jobs.tasks.federate.link import ServerFiles
from green_jobs.tasks.federate.records import (
    ARRAYS,
    CONFIG,
    METRICS,
    WHAT,
    pack,
    reply,
    size_of,
    unpack,
)
from green_jobs.tasks.federate.server import Server
from green_jobs.tasks.federate.state import State
from green_jobs.tasks.federate.told import rounds_progress
from green_jobs.tasks.federate.trainer import round_of
from torch import nn
from torch.utils.data import TensorDataset

from tests.federate.loop import LoopGrid
from tests.federate.test_rounds import a_round, a_task

START = {"w": np.zeros(3, np.float32)}
EXAMPLES = 10


class Link:
    """In the place of the SuperLink's process."""

    @contextmanager
    def kept(self, before: Callable[[], None]) -> Iterator[None]:
        del before
        yield


class Clockless:
    """Signals that never come; a wait takes hardly any time and is noted."""

    stop_requested = False

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.after: dict[int, Callable[[], None]] = {}
        """What happens after so many waits."""

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        time.sleep(min(seconds, 0.005))
        self.after.get(len(self.waits), lambda: None)()


class Told:
    """A teller that notes what it is told."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def begins(self, state: State) -> None:
        self.words.append(f"begins {state.next_round}")

    def went_on(self, state: State, *, is_saved: bool) -> None:
        self.words.append(f"round {state.rounds[-1].number}" + ("" if is_saved else " unsaved"))

    def waits(self, state: State, why: str) -> None:
        self.words.append(f"waits {state.next_round}: {why}")

    def stalled(self, state: State, why: str) -> None:
        self.words.append(f"stalled {state.next_round}: {why}")

    def in_vain(self) -> None:
        self.words.append("in vain")

    def over(self, state: State, why: str) -> None:
        del state
        self.words.append(f"over: {why}")


class Member:
    """A site that adds one to every weight, or does what a test says."""

    def __init__(self, trains: Callable[[int], None] = lambda _: None) -> None:
        self.trains = trains
        self.examples = EXAMPLES
        self.asked: list[int | str] = []

    def handle(self, content: RecordDict) -> RecordDict:
        what = dict(content[CONFIG]).get(WHAT)
        if what is not None:
            self.asked.append(str(what))
            return reply({}, {"examples": self.examples})
        self.asked.append(round_of(content))
        self.trains(round_of(content))
        weights = {n: w + 1 for n, w in unpack(content["arrays"]).items()}  # type: ignore[arg-type]
        metrics = {"num-examples": self.examples, "loss": 1.0, "accuracy": 0.5}
        return reply(weights, metrics)


class World:
    """A server with sites; ``run`` makes its rounds."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.task = a_task(**changes)
        self.members = {name: Member() for name in self.task.names}
        self.grid = LoopGrid({name: member.handle for name, member in self.members.items()})
        self.signals = Clockless()
        self.told = Told()
        (folder / "checkpoints").mkdir()
        for name in ("ca.pem", "secret"):
            (folder / name).write_bytes(b"x")
        lock = Lock(folder, "a")
        lock.take()
        self.store = CheckpointStore(folder / "checkpoints", lock)
        self.server = Server(
            self.task, ServerFiles("127.0.0.1:1", folder, {}, folder), Link(), self.store,  # type: ignore[arg-type]
            list(START), lambda _: 0.5, 0, self.signals, self.told,  # type: ignore[arg-type]
        )  # fmt: skip

    def run(self) -> State:
        state, _ = self.server.run(State(weights=START))
        return state

    def stored(self) -> State:
        """What another server would begin with."""
        loaded = self.store.load()
        assert loaded is not None
        state = State.from_checkpoint(loaded, self.task)
        assert state is not None
        return state


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    made: list[World] = []

    @contextmanager
    def open_grid(*_: object) -> Iterator[LoopGrid]:
        yield made[0].grid

    monkeypatch.setattr(server_module, "open_grid", open_grid)
    monkeypatch.setattr(server_module, "register_sites", lambda *_: made[0].grid.ids)
    monkeypatch.setattr(Server, "_wait_healthy", lambda _: None)

    def make(**changes: Any) -> World:
        made.append(World(tmp_path, **changes))
        return made[0]

    return make


def test_rounds_are_made_and_the_sites_are_told_of_the_end(world: Callable[..., World]) -> None:
    federation = world(rounds=2)
    state = federation.run()
    assert (state.weights["w"] == 2).all()
    assert federation.told.words == [
        "begins 1",
        "round 1",
        "round 2",
        "over: all 2 rounds are done",
    ]
    for member in federation.members.values():
        assert member.asked == ["declare", 1, 2, "finish"]


def wrong_net(_: int) -> None:
    msg = "site x: spec.task.federate.model: is another net than the server's"
    raise TaskConfigError(msg)


def broken(_: int) -> None:
    msg = "the disk is gone"
    raise OSError(msg)


def test_where_too_few_sites_can_work_as_written_the_job_fails_at_once(
    world: Callable[..., World],
) -> None:
    federation = world(minSites=3)
    federation.members["site-1"].trains = federation.members["site-2"].trains = wrong_net
    says = r"fewer than spec.task.federate.minSites: 3 sites can work: site-1: site x: spec.*; site-2: "
    with pytest.raises(TaskConfigError, match=says):
        federation.run()
    assert federation.members["site-0"].asked == ["declare", 1]


def test_a_site_that_cannot_work_ends_nothing_while_the_others_are_enough(
    world: Callable[..., World],
) -> None:
    federation = world(minSites=3)
    federation.members["site-1"].trains = wrong_net
    state = federation.run()
    assert len(state.rounds) == 5
    assert "another net" in state.rounds[0].dropped["site-1"]


@pytest.mark.parametrize("on_stalled", ["Finish", "Fail"])
def test_a_round_that_fails_in_the_same_way_three_times_is_given_up(
    world: Callable[..., World], on_stalled: str
) -> None:
    federation = world(minSites=4, onStalled=on_stalled)

    def breaks_later(number: int) -> None:
        if number == 3:
            broken(number)

    federation.members["site-2"].trains = breaks_later
    says = (
        "round 3 failed 3 times in the same way and would again: site-2: OSError: the disk is gone"
    )
    if on_stalled == "Fail":
        with pytest.raises(StalledError, match=says):
            federation.run()
    else:
        assert len(federation.run().rounds) == 2
        assert federation.told.words[-1] == f"over: {says}"
    assert federation.members["site-0"].asked.count(3) == 3
    # The two more tries, and where the job ends well the last one too.
    assert federation.told.words.count("in vain") == (3 if on_stalled == "Finish" else 2)
    # A trouble of a moment has some time to pass.
    assert [w for w in federation.signals.waits if w >= 5] == [5, 10]


def test_a_failure_that_those_who_are_away_may_mend_is_tried_again(
    world: Callable[..., World],
) -> None:
    federation = world(minSites=3)
    federation.grid.offline = {"site-3"}

    def fails(number: int) -> None:
        if federation.members["site-0"].asked.count(1) == 6:
            federation.grid.offline = set()
        if number == 1:
            broken(number)

    federation.members["site-2"].trains = fails
    assert len(federation.run().rounds) == 5
    assert federation.members["site-0"].asked.count(1) > 3


def test_a_site_that_hangs_is_left_out_and_told_and_not_waited_for_again(
    world: Callable[..., World],
) -> None:
    federation = world(rounds=2, roundTimeout="1s")
    federation.grid.hang("site-1", first=2, count=2)
    state = federation.run()
    assert state.rounds[0].dropped == {"site-1": "it did not answer within 1s"}
    assert state.rounds[1].dropped == {}
    assert federation.members["site-1"].asked == ["declare", "finish"]
    assert [len(r.sites) for r in state.rounds] == [3, 3]


def test_where_those_who_answer_in_time_are_too_few_the_round_is_tried_again(
    world: Callable[..., World],
) -> None:
    federation = world(rounds=1, roundTimeout="1s", minSites=4)
    federation.grid.hang("site-1", first=2, count=2)
    state = federation.run()
    assert len(state.rounds) == 1
    assert federation.told.words[1] == "waits 1: site-1: it did not answer within 1s"


def test_waiting_for_the_sites_own_start_is_needed_and_any_other_was_in_vain(
    world: Callable[..., World],
) -> None:
    federation = world(rounds=2, minSites=4)
    federation.grid.offline = {"site-1"}
    federation.signals.after[5] = federation.grid.offline.clear

    def evaluate(_: object) -> float:
        """Once the round has its answers a site goes away, for a while."""
        federation.grid.offline.add("site-1")
        federation.signals.after[len(federation.signals.waits) + 5] = federation.grid.offline.clear
        return 0.5

    federation.server.evaluate = evaluate
    federation.run()
    kept = [w for w in federation.told.words if not w.startswith("waits")]
    assert kept == ["begins 1", "round 1", "in vain", "round 2", "over: all 2 rounds are done"]


def test_a_site_that_is_asked_for_a_round_again_says_that_its_work_was_in_vain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter = Reporter(tmp_path / "state")
    monkeypatch.setattr(work, "REPORTER", reporter)
    monkeypatch.setattr(progress, "REPORTER", reporter)
    member = Member()
    told = work._Told(member, 5)  # type: ignore[arg-type]
    for number, saved, discarded in ((1, 0, 0), (1, 0, 1), (2, 1, 1), (3, 2, 1), (2, 2, 2)):
        config = ConfigRecord({"server-round": number})
        told.handle(RecordDict({"arrays": pack(START), CONFIG: config}))
        assert (reporter.state.saved, reporter.state.discarded) == (saved, discarded)


def test_a_fraction_of_the_sites_trains_in_a_round_and_all_get_their_turn(
    world: Callable[..., World],
) -> None:
    federation = world(rounds=8, fractionSites=0.5)
    state = federation.run()
    assert [len(r.sites) for r in state.rounds] == [2] * 8
    assert {site for r in state.rounds for site in r.sites} == set(federation.members)
    for name, member in federation.members.items():
        assert [n for n in member.asked if isinstance(n, int)] == [
            r.number for r in state.rounds if name in r.sites
        ]


def test_a_site_that_was_away_declares_anew(world: Callable[..., World]) -> None:
    federation = world(rounds=3)
    back = federation.members["site-1"]

    def evaluate(_: object) -> float:
        federation.grid.offline = {"site-1"} if not federation.grid.offline else set()
        back.examples = 2 * EXAMPLES
        return 0.5

    federation.server.evaluate = evaluate
    state = federation.run()
    assert back.asked == ["declare", 1, "declare", 3]
    assert [r.examples.get("site-1") for r in state.rounds] == [EXAMPLES, None, 2 * EXAMPLES]
    assert state.rounds[2].dropped == {}


def test_a_full_disk_is_told_and_the_rounds_go_on(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = world(rounds=3)
    refused: list[Path] = []

    def refuse_once(path: Path, content: bytes) -> None:
        if not refused:
            refused.append(path)
            raise OSError(28, "No space left on device")
        write_atomically(path, content)

    monkeypatch.setattr(checkpoint, "write_atomically", refuse_once)
    federation.run()
    assert federation.told.words[1:4] == ["round 1 unsaved", "round 2", "round 3"]
    assert len(federation.stored().rounds) == 3


@pytest.fixture
def reporter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reporter:
    """Where the teller's words arrive."""
    made = Reporter(tmp_path / "state")
    monkeypatch.setattr(serve, "REPORTER", made)
    monkeypatch.setattr(progress, "REPORTER", made)
    return made


@pytest.fixture
def teller(reporter: Reporter) -> serve._Teller:
    del reporter
    attempt: Any = SimpleNamespace(task=a_task(), checkpoints="/claim/digits-1a2b3/checkpoints")
    return serve._Teller(attempt, net=None, sets=None)  # type: ignore[arg-type]


def test_who_is_missing_is_told_as_a_stall_until_it_goes_on(
    teller: serve._Teller, reporter: Reporter
) -> None:
    def told() -> tuple[str, str]:
        assert reporter.state.rounds is not None
        return reporter.state.rounds.stalled, reporter.state.phase

    state, why = State(weights=START), "site-1 is not there"
    waiting = f"round 1 waits: {why}"
    teller.begins(state)
    assert told() == ("", "round 1 of 5")
    teller.waits(state, why)
    assert told() == ("", waiting)
    teller.stalled(state, why)
    assert told() == (why, waiting)
    teller.went_on(State(weights=START, rounds=[a_round(1, 0.5)]), is_saved=True)
    assert told() == ("", "round 2 of 5")
    teller.stalled(state, why)
    # Another run of the link, with all sites.
    teller.begins(state)
    assert told() == ("", "round 1 of 5")


def test_a_disk_that_stays_full_fails_the_attempt_with_the_folder_and_the_saved_round_stands(
    world: Callable[..., World],
    teller: serve._Teller,
    reporter: Reporter,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    federation = world(rounds=3)
    saved: list[Path] = []

    def refuse_but_once(path: Path, content: bytes) -> None:
        if saved:
            raise OSError(28, "No space left on device")
        saved.append(path)
        write_atomically(path, content)

    def write_output(name: str, content: bytes) -> None:
        refuse_but_once(tmp_path / name, content)

    monkeypatch.setattr(checkpoint, "write_atomically", refuse_but_once)
    monkeypatch.setattr(outcome, "REPORTER", reporter)
    attempt: Any = SimpleNamespace(
        role="server", task=federation.task, checkpoints="/claim/j/checkpoints",
        output="/claim/j/output", write_output=write_output,
    )  # fmt: skip
    module = nn.ParameterDict({"w": torch.zeros(3)})
    teller.attempt = attempt
    teller.net = SimpleNamespace(
        module=module,
        tensors=module.state_dict,
    )  # type: ignore[assignment]
    teller.sets = SimpleNamespace(test=TensorDataset(torch.zeros(2), torch.zeros(2)))  # type: ignore[assignment]
    federation.server.teller = teller

    def make_rounds() -> None:
        federation.run()

    assert worker._do(attempt, make_rounds) == ExitCode.FAILED
    assert reporter.state.message == (
        "the model cannot be written to /claim/j/output: [Errno 28] No space left on device; make "
        "room: the next attempt goes on from the last round that was saved"
    )
    assert not reporter.state.done
    assert len(federation.stored().rounds) == 1


def test_what_a_full_disk_costs_is_in_the_phase(teller: serve._Teller, reporter: Reporter) -> None:
    state = State(weights=START, rounds=[a_round(1, 0.5)])
    teller.went_on(state, is_saved=False)
    assert reporter.state.phase == (
        "round 2 of 5; the last one's checkpoint cannot be written to "
        "/claim/digits-1a2b3/checkpoints: is the disk full?"
    )
    assert reporter.state.saved == 0
    teller.went_on(state, is_saved=True)
    assert (reporter.state.phase, reporter.state.saved) == ("round 2 of 5", 1)


def test_of_two_sites_one_that_goes_far_beyond_what_it_did_before_is_dropped_and_named(
    world: Callable[..., World],
) -> None:
    """Also by a server that was started again, from what its checkpoint says."""
    federation = world(rounds=1, partition={"sites": 2}, minSites=1)
    federation.run()
    state = federation.stored()
    honest = federation.members["site-1"]
    federation.grid.replace("site-1", lambda content: _millionfold(honest.handle(content)))
    federation.server.task = a_task(rounds=2, partition={"sites": 2}, minSites=1)
    state, _ = federation.server.run(state)
    assert [r.sites for r in state.rounds] == [["site-0", "site-1"], ["site-0"]]
    assert "more than 10 times the longest" in state.rounds[1].dropped["site-1"]
    assert (state.weights["w"] == 2).all()


def _millionfold(answer: RecordDict) -> RecordDict:
    weights = unpack(answer[ARRAYS])  # type: ignore[arg-type]
    answer[ARRAYS] = pack({name: w * 1_000_000 for name, w in weights.items()})
    return answer


def test_of_two_sites_that_are_both_needed_each_drop_of_the_bad_one_is_counted(
    world: Callable[..., World],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No round stands for long, so that none could hold it; a server started again knows it too."""
    federation = world(rounds=1, partition={"sites": 2})
    good, bad = (federation.members[name] for name in ("site-0", "site-1"))
    size = size_of(pack(START))

    def answers(content: RecordDict) -> RecordDict:
        answer = bad.handle(content)
        if good.asked.count(1) < 3 and good.asked[-1] == 1:
            answer[ARRAYS] = pack({"w": np.full(3, np.nan, np.float32)})
        return answer

    federation.grid.replace("site-1", answers)
    counted: list[tuple[RoundsProgress, State]] = []

    def count(state: State, _: str) -> None:
        counted.append((rounds_progress(federation.task, state, ""), federation.stored()))

    monkeypatch.setattr(federation.told, "waits", count)
    state = federation.run()
    assert [[s.dropped for s in told.sites] for told, _ in counted] == [[0, 1], [0, 2]]
    told, stored = counted[-1]
    assert "not finite" in told.sites[1].reason
    assert [s.bytes for s in told.sites] == [4 * size] * 2
    assert rounds_progress(federation.task, stored, "") == told
    end = rounds_progress(federation.task, federation.stored(), "")
    assert end == rounds_progress(federation.task, state, "")
    assert [(s.rounds, s.dropped, s.reason) for s in end.sites] == [(1, 0, ""), (1, 2, "")]
    assert [s.bytes for s in end.sites] == [6 * size] * 2


def test_an_update_over_the_limit_is_named_with_both_sizes(world: Callable[..., World]) -> None:
    federation = world(rounds=1, minSites=3)
    large = federation.members["site-2"]
    federation.grid.replace("site-2", lambda content: _larger(large.handle(content)))
    federation.server.max_update_bytes = 1000
    state = federation.run()
    assert state.rounds[0].sites == ["site-0", "site-1", "site-3"]
    assert state.rounds[0].dropped["site-2"].endswith("bytes, at most 1000 are taken")


def test_a_net_whose_updates_would_all_be_too_large_is_named_before_any_round(
    world: Callable[..., World],
) -> None:
    federation = world()
    federation.server.max_update_bytes = 11
    says = "spec.task.federate.model: its weights have 12 bytes; at most 11 travel in an update"
    with pytest.raises(TaskConfigError, match=says):
        federation.run()
    assert federation.told.words == []


def _larger(answer: RecordDict) -> RecordDict:
    if dict(answer[METRICS]).get("loss") is not None:
        answer[ARRAYS] = pack({"w": np.zeros(1000, np.float32)})
    return answer
