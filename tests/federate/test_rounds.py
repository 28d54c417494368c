"""Rounds over Flower's strategies: as Flower's own, but they can be left and taken up."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg, strategy_utils
from green_api.errors import TaskConfigError
from green_api.federate import Federate
from green_jobs import data
from green_jobs.checkpoint import CheckpointStore
from green_jobs.learning.evaluation import eager, evaluate
from green_jobs.lock import Lock
from green_jobs.models import Net
from green_jobs.tasks.federate.errors import RoundAbandonedError
from green_jobs.tasks.federate.partition import dirichlet_parts
from green_jobs.tasks.federate.records import gather, pack, reply, spread, unpack
from green_jobs.tasks.federate.rounds import (
    Federation,
    Rounds,
    TooFewSitesError,
    is_over,
)
from green_jobs.tasks.federate.state import Round, State, Weights
from green_jobs.tasks.federate.trainer import Trainer, get_weights, set_weights, trained_names
from torch import nn
from torch.utils.data import Subset

from tests.compress.test_checkpoint import Trap
from tests.federate.loop import Handle, LoopGrid

SEED = 11
STRATEGIES = [
    {"name": "FedAvg"},
    {"name": "FedProx", "proximalMu": 0.1},
    {"name": "FedAdam"},
    {"name": "FedTrimmedAvg"},
    {"name": "Krum", "maliciousSites": 1},
]
LEAST = 5
"""Sites that each of them can do with."""


def a_task(**changes: Any) -> Federate:
    spec = {
        "model": {"builtin": "digits-cnn"}, "data": {"builtin": "digits", "batchSize": 64},
        "rounds": 5, "partition": {"sites": 4}, "minSites": 2,
    }  # fmt: skip
    return Federate.model_validate({**spec, **changes})


class Sites:
    """Trainers on digits, parted unevenly."""

    def __init__(self, task: Federate) -> None:
        torch.set_num_threads(1)
        sets = data.load(task.data, "data")
        labels = sets.train.tensors[1].numpy()
        parts = dirichlet_parts(labels, task.count, 0.5, SEED)
        self.task = task
        self.examples = {n: len(p) for n, p in zip(task.names, parts, strict=True)}
        self.handles: dict[str, Handle] = {
            name: Trainer(task, name, Net.build(task.model).module, Subset(sets.train, p.tolist()), SEED).handle
            for name, p in zip(task.names, parts, strict=True)
        }  # fmt: skip
        torch.manual_seed(SEED)
        self.module = Net.build(task.model).module
        self.start = get_weights(self.module)
        self.test = sets.test

    def accuracy(self, weights: Weights) -> float:
        set_weights(self.module, weights)
        return evaluate(eager(self.module), self.test, lambda: None).accuracy

    def federation(self, **changes: Any) -> Federation:
        grid = LoopGrid({**self.handles, **changes.pop("handles", {})})
        grid.offline = changes.pop("offline", set())
        return Federation(
            grid, grid.ids, self.examples, changes.pop("max_bytes", 10**8),
            pause=lambda _: None, is_stopped=changes.pop("is_stopped", lambda: False),
        )  # fmt: skip

    def rounds(self, **changes: Any) -> Rounds:
        trained = trained_names(self.module)
        return Rounds(self.task, self.federation(**changes), trained, self.accuracy, SEED)


@pytest.fixture(scope="module")
def sites() -> Sites:
    return Sites(a_task())


def array_by_array(handle: Handle) -> Handle:
    """A site as plain Flower speaks with it."""

    def handled(content: RecordDict) -> RecordDict:
        packed = pack(gather(content["arrays"]))  # type: ignore[arg-type]
        answer = handle(RecordDict({"arrays": packed, "config": content["config"]}))
        answer["arrays"] = spread(unpack(answer["arrays"]))  # type: ignore[arg-type]
        return answer

    return handled


def test_five_rounds_are_plain_flowers_fedavg(sites: Sites) -> None:
    state = State(weights=sites.start)
    for _ in range(5):
        state = sites.rounds().next(state)
    grid = LoopGrid({name: array_by_array(handle) for name, handle in sites.handles.items()})
    plain = FedAvg(min_train_nodes=4, min_available_nodes=4, fraction_evaluate=0.0)
    result = plain.start(grid, spread(sites.start), num_rounds=5)
    for name, expected in gather(result.arrays).items():
        if sites.start[name].dtype.kind != "f":
            continue  # batch norm's counters, of which plain Flower makes fractions
        np.testing.assert_allclose(state.weights[name], expected, rtol=0, atol=1e-5)
    assert state.rounds[-1].accuracy > 0.8 > state.rounds[0].accuracy - 0.2


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s["name"])
def test_a_training_that_was_left_goes_on_as_if_it_had_not_been(
    strategy: dict[str, Any], tmp_path: Path
) -> None:
    task = a_task(strategy=strategy, partition={"sites": LEAST}, minSites=LEAST)
    sites = Sites(task)
    whole = State(weights=sites.start)
    rounds = sites.rounds()
    for _ in range(3):
        whole = rounds.next(whole)
    left = State(weights=sites.start)
    for _ in range(3):
        (tmp_path / "c").mkdir(exist_ok=True)
        lock = Lock(tmp_path, "a")
        lock.take()
        store = CheckpointStore(tmp_path / "c", lock)
        left = sites.rounds().next(left)
        assert store.save(left.to_checkpoint(task))
        loaded = store.load()
        assert loaded is not None
        found = State.from_checkpoint(loaded, task)
        assert found is not None
        left = found
    assert list(left.weights) == list(whole.weights)
    for name, expected in whole.weights.items():
        np.testing.assert_array_equal(left.weights[name], expected)
    assert left.rounds == whole.rounds


def test_a_checkpoint_of_another_task_is_not_taken_but_more_rounds_are_the_same(
    sites: Sites,
) -> None:
    stored = State(weights=sites.start).to_checkpoint(sites.task)
    assert State.from_checkpoint(stored, a_task(rounds=50)) is not None
    assert State.from_checkpoint(stored, a_task(localEpochs=2)) is None


def lying(handle: Handle, **metrics: int) -> Handle:
    def handled(content: RecordDict) -> RecordDict:
        answer = handle(content)
        answer["metrics"] = MetricRecord({**dict(answer["metrics"]), **metrics})  # type: ignore[arg-type]
        return answer

    return handled


def poisoned(handle: Handle, change: Callable[[Any], Any]) -> Handle:
    def handled(content: RecordDict) -> RecordDict:
        answer = handle(content)
        weights = unpack(answer["arrays"])  # type: ignore[arg-type]
        answer["arrays"] = pack({n: change(w) for n, w in weights.items()})
        return answer

    return handled


def failing(_: RecordDict) -> RecordDict:
    msg = "the data set is gone"
    raise RuntimeError(msg)


def empty(_: RecordDict) -> RecordDict:
    return RecordDict({"arrays": ArrayRecord({})})


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s["name"])
def test_bad_updates_are_named_and_the_round_goes_on(strategy: dict[str, Any]) -> None:
    task = a_task(strategy=strategy, partition={"sites": 4 + LEAST}, minSites=LEAST)
    sites = Sites(task)
    honest = dict(sites.handles)
    bad: Mapping[str, tuple[Handle, str]] = {
        "site-0": (poisoned(honest["site-0"], lambda w: w * np.float32("nan")), "finite"),
        "site-1": (lying(honest["site-1"], **{"num-examples": 10**9}), "declared"),
        "site-2": (failing, "the data set is gone"),
        "site-3": (empty, "records"),
    }
    rounds = sites.rounds(handles={name: handle for name, (handle, _) in bad.items()})
    state = rounds.next(State(weights=sites.start))
    (done,) = state.rounds
    assert done.sites == task.names[4:]
    assert done.dropped.keys() == bad.keys()
    for name, (_, says) in bad.items():
        assert says in done.dropped[name]
    assert all(np.isfinite(w).all() for w in state.weights.values())


def packed(data: bytes) -> Array:
    """Bytes as ``pack`` sends them."""
    return Array(np.frombuffer(data, np.uint8))


def as_array(data: bytes) -> Array:
    return Array("uint8", (1,), "numpy.ndarray", data)


def safetensors_of(kind: str, size: int) -> bytes:
    """One number of a type that numpy lacks."""
    header = json.dumps({"w": {"dtype": kind, "shape": [1], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


def saved(write: Callable[..., None], *what: object, **how: object) -> bytes:
    write(buffer := BytesIO(), *what, **how)
    return buffer.getvalue()


def lying_header(shape: tuple[int, ...]) -> bytes:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    return saved(np.lib.format.write_array_header_1_0, header) + b"body"


UNREADABLE: dict[str, tuple[Callable[[], Array], str]] = {
    "bf16": (lambda: packed(safetensors_of("BF16", 2)), "the type 'BF16', which numpy does not know"),
    "f8": (lambda: packed(safetensors_of("F8_E4M3", 1)), "the type 'F8_E4M3'"),
    "npz": (lambda: as_array(saved(np.savez, w=np.ones(2))), "magic string"),
    "no zip": (lambda: as_array(b"PK\x03\x04" + bytes(40)), "magic string"),
    "lying header": (lambda: as_array(lying_header((10**15,))), "claims uint8[1000000000000000], and 4"),
    "nested header": (lambda: as_array(b"\x93NUMPY\x01\x00\x00\x20" + b"(" * 0x2000), "cannot be read"),
    "objects": (lambda: as_array(saved(np.save, np.array([Trap()], object), allow_pickle=True)), "claims object[1]"),
    "pickle": (lambda: as_array(pickle.dumps(Trap())), "magic string"),
    "packed pickle": (lambda: packed(pickle.dumps(Trap())), "header"),
    "nothing": (lambda: as_array(b""), "magic string"),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_is_no_array_of_safetensors_costs_itself_and_runs_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sites = Shifted(name="FedAvg")
    sites.task = a_task(partition={"sites": 5}, minSites=4)
    make, says = UNREADABLE[kind]
    sites.sends["site-1"] = make()
    state = sites.next(State(weights=sites.start))
    assert state.rounds[0].sites == ["site-0", "site-2", "site-3", "site-4"]
    assert "its arrays cannot be read: " in state.rounds[0].dropped["site-1"]
    assert says in state.rounds[0].dropped["site-1"]
    assert list(tmp_path.iterdir()) == []


LEARNS: list[tuple[dict[str, Any], float]] = [
    ({"name": "FedAvg"}, 0.95),
    ({"name": "FedProx"}, 0.95),
    ({"name": "FedAdam"}, 0.95),
    ({"name": "FedTrimmedAvg"}, 0.95),
    # It takes one site's net, and each has few of some classes.
    ({"name": "Krum", "maliciousSites": 1}, 0.7),
]


@pytest.mark.parametrize(("strategy", "accuracy"), LEARNS, ids=[s["name"] for s, _ in LEARNS])
def test_with_its_defaults_each_strategy_learns_and_goes_on_learning(
    strategy: dict[str, Any], accuracy: float
) -> None:
    sites = Sites(a_task(strategy=strategy, partition={"sites": LEAST}, minSites=LEAST))
    rounds = sites.rounds()
    state = State(weights=sites.start)
    for _ in range(25):
        state = rounds.next(state)
    assert min(r.accuracy for r in state.rounds[-5:]) > accuracy
    assert all((w >= 0).all() for n, w in state.weights.items() if n.endswith("running_var"))


class Shifted:
    """Five sites that train nothing: each sends the weights it was given, shifted."""

    def __init__(self, **strategy: Any) -> None:
        self.shifts = [0.0, 1.0, 1.1, 1.2, 9.0]
        self.counts = [5.0, 5.0, 5000.0, 5.0, 7.0]
        """What batch norm's counter of steps grows by."""
        self.task = a_task(strategy=strategy, partition={"sites": 5}, minSites=5)
        self.module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        self.start = get_weights(self.module)
        self.examples = {name: 10 * n for n, name in enumerate(self.task.names, 1)}
        self.sends: dict[str, Array] = {}
        """By site, what it sends in the place of its weights."""

    def handle(self, place: int) -> Handle:
        def handled(content: RecordDict) -> RecordDict:
            weights = unpack(content["arrays"])  # type: ignore[arg-type]
            moved = {}
            for name, old in weights.items():
                by = self.counts if old.dtype.kind == "i" else self.shifts
                moved[name] = (old.astype(np.float64) + by[place]).astype(old.dtype)
            site = self.task.names[place]
            metrics = {"num-examples": self.examples[site], "loss": 1.0, "accuracy": 0.5}
            answer = reply(moved, metrics)
            if site in self.sends:
                answer["arrays"] = ArrayRecord({"safetensors": self.sends[site]})
            return answer

        return handled

    def next(self, state: State) -> State:
        grid = LoopGrid({name: self.handle(n) for n, name in enumerate(self.task.names)})
        federation = Federation(
            grid, grid.ids, self.examples, 10**8, pause=lambda _: None, is_stopped=lambda: False
        )
        trained = trained_names(self.module)
        return Rounds(self.task, federation, trained, lambda _: 0.5, SEED).next(state)


def test_krum_goes_by_the_parameters_and_a_median_takes_the_place_of_a_mean() -> None:
    sites = Shifted(name="Krum", maliciousSites=1)
    state = sites.next(State(weights=sites.start))
    np.testing.assert_allclose(state.weights["0.weight"], sites.start["0.weight"] + 1.1, rtol=1e-6)
    np.testing.assert_allclose(state.weights["1.running_var"], 1 + 1.1, rtol=1e-6)
    assert state.weights["1.num_batches_tracked"] == 5
    assert state.weights["1.num_batches_tracked"].dtype == np.int64


def test_adam_steps_on_parameters_and_the_buffers_are_a_mean_by_examples() -> None:
    """A variance that Adam steps on is below zero after this round, and the net gives no numbers."""
    sites = Shifted(name="FedAdam")
    sites.shifts = [-0.012, -0.011, -0.01, -0.009, -0.008]
    start = sites.start | {"1.running_var": np.full(3, 0.02, np.float32)}
    state = sites.next(State(weights=start))
    mean = np.average(sites.shifts, weights=list(sites.examples.values()))
    np.testing.assert_allclose(state.weights["1.running_var"], 0.02 + mean, rtol=1e-5)
    assert {n.partition("/")[2] for n in state.moments} == set(trained_names(sites.module))


def test_weights_that_are_no_numbers_end_the_task_with_field_and_fix() -> None:
    sites = Shifted(name="FedAdam")
    far = {n: np.full_like(w, -3e38) if w.dtype.kind == "f" else w for n, w in sites.start.items()}
    sites.shifts = [5e38] * 5  # beyond what a difference can hold
    says = r"spec.task.federate.strategy.adamLearningRate: .*no numbers any more after round 1; lower it"
    with pytest.raises(TaskConfigError, match=says), np.errstate(all="ignore"):
        sites.next(State(weights=far))


def test_an_update_over_the_limit_is_dropped_before_it_is_opened(sites: Sites) -> None:
    with pytest.raises(TooFewSitesError, match="at most 1000 are taken"):
        sites.rounds(max_bytes=1000).next(State(weights=sites.start))


def test_too_few_sites_are_named_and_nothing_has_changed(sites: Sites) -> None:
    state = State(weights=sites.start)
    with pytest.raises(TooFewSitesError) as caught:
        sites.rounds(offline={"site-0", "site-1", "site-3"}).next(state)
    assert caught.value.missing == ["site-0", "site-1", "site-3"]
    assert state.next_round == 1


def test_a_site_that_leaves_as_a_round_begins_is_not_waited_for_by_the_strategy(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = replace(sites.federation(), examples=dict(sites.examples))
    grid: Any = federation.grid
    look = grid.get_node_ids

    def look_and_lose() -> list[int]:
        seen: list[int] = look()
        grid.offline = {"site-0", "site-1", "site-2"}
        return seen

    def wait(_: float) -> None:
        pytest.fail("the strategy waits, and no signal or deadline would end it")

    monkeypatch.setattr(grid, "get_node_ids", look_and_lose)
    monkeypatch.setattr(strategy_utils, "sleep", wait)
    for site in ("site-0", "site-1", "site-2"):
        grid.hang(site, first=1, count=1)
    rounds = Rounds(sites.task, federation, trained_names(sites.module), sites.accuracy, SEED)
    with pytest.raises(TooFewSitesError, match="site-0: it went away before it answered"):
        rounds.next(State(weights=sites.start))


def test_a_round_that_is_left_changes_nothing(sites: Sites) -> None:
    state = State(weights=sites.start)
    before = {name: w.copy() for name, w in state.weights.items()}
    with pytest.raises(RoundAbandonedError):
        sites.rounds(is_stopped=lambda: True).next(state)
    assert all((state.weights[n] == w).all() for n, w in before.items())
    assert sites.rounds().next(state).next_round == 2


def a_round(number: int, accuracy: float) -> Round:
    return Round(number=number, accuracy=accuracy, loss=1, sites=["a"])


@pytest.mark.parametrize(
    ("accuracies", "changes", "says"),
    [
        ([], {}, ""),
        ([0.5] * 5, {}, "all 5 rounds"),
        ([0.5, 0.9], {"stop": {"accuracy": 0.9}}, "reaches the 0.9"),
        ([0.5, 0.89], {"stop": {"accuracy": 0.9}}, ""),
        ([0.5, 0.8, 0.8, 0.8], {"stop": {"converged": {"rounds": 2}}}, "2 rounds brought no"),
        ([0.5, 0.6, 0.7, 0.8], {"stop": {"converged": {"rounds": 2}}}, ""),
    ],
)
def test_when_no_further_round_is_made(
    accuracies: list[float], changes: dict[str, Any], says: str
) -> None:
    rounds = [a_round(i + 1, a) for i, a in enumerate(accuracies)]
    over = is_over(a_task(**changes), rounds)
    assert says in over
    assert bool(over) == bool(says)
