"""What a training tells, how long it waits, and which examples are whose: without a process."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, RecordDict
from green_api.errors import TaskConfigError
from green_api.federate import Federate
from green_api.learning import Data
from green_jobs.data import TEST, TRAIN, load
from green_jobs.models import Net
from green_jobs.tasks.federate.parts import labels_of, part_of
from green_jobs.tasks.federate.patience import LEAST_WAIT, give_up_at
from green_jobs.tasks.federate.records import pack
from green_jobs.tasks.federate.state import Round, State
from green_jobs.tasks.federate.told import percentage, rounds_progress
from green_jobs.tasks.federate.trainer import Trainer, get_weights
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import TensorDataset

from tests.federate.test_rounds import a_task

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def a_round(number: int, **changes: object) -> Round:
    fields = {"number": number, "accuracy": 0.5, "loss": 1.0, "sites": ["site-0", "site-1"]}
    return Round.model_validate(fields | changes)


def test_what_each_site_did_is_told() -> None:
    task = a_task(partition={"sites": 3})
    rounds = [
        a_round(
            1,
            dropped={"site-2": "it is not finite"},
            bytes={"site-0": 10, "site-1": 20},
            examples={"site-0": 9},
            accuracies={"site-0": 7.0},
        ),
        a_round(2, sites=["site-0"], dropped={"site-1": "x" * 300}, bytes={"site-0": 10}),
    ]
    told = rounds_progress(task, State(weights={}, rounds=rounds), "site-2 is not there")
    assert (told.rounds, told.accuracy, told.stalled) == (2, 0.5, "site-2 is not there")
    assert [(s.name, s.rounds, s.dropped, s.bytes) for s in told.sites] == [
        ("site-0", 2, 0, 20), ("site-1", 1, 1, 20), ("site-2", 0, 1, 0),
    ]  # fmt: skip
    assert told.sites[0].accuracy is None  # a site may say what it likes
    # Only of the last round: what was mended is no trouble any more.
    assert [len(s.reason) for s in told.sites] == [0, 200, 0]
    assert percentage(task, rounds) == 40.0


def test_what_is_in_no_round_counts_too_and_is_told_until_a_round_stands() -> None:
    task = a_task(partition={"sites": 2})
    traffic = {"site-0": 10, "site-1": 20}
    state = State(weights={})
    for _ in range(3):
        state = state.after_vain({"site-1": "it is not finite"}, traffic)
    told = rounds_progress(task, state, "")
    assert [(s.rounds, s.dropped, s.bytes, s.reason) for s in told.sites] == [
        (0, 0, 30, ""), (0, 3, 60, "it is not finite"),
    ]  # fmt: skip
    state = state.after_round({}, {}, a_round(1, bytes=traffic))
    told = rounds_progress(task, state, "")
    assert [(s.rounds, s.dropped, s.bytes, s.reason) for s in told.sites] == [
        (1, 0, 40, ""), (1, 3, 80, ""),
    ]  # fmt: skip


@given(
    st.integers(0, 4),
    st.floats(0.1, 600),
    st.one_of(st.none(), st.timedeltas(timedelta(0), timedelta(days=2))),
)
def test_a_stall_is_borne_as_long_as_the_deadline_leaves_time_for_the_rounds(
    done: int, seconds: float, until: timedelta | None
) -> None:
    """Before the first round nobody knows how long they take: the timeout bounds the wait."""
    task = a_task(rounds=5, stalledTimeout="30m")
    rounds = [a_round(n + 1, seconds=seconds) for n in range(done)]
    deadline = None if until is None else NOW + until
    end = give_up_at(NOW, task, rounds, deadline)
    if deadline is None:
        assert end == NOW + timedelta(minutes=30)
        return
    needed = timedelta(seconds=seconds * (5 - done)) if done else timedelta(0)
    assert end >= NOW + LEAST_WAIT
    assert done or end <= NOW + timedelta(minutes=30)
    assert end == NOW + LEAST_WAIT or end + needed <= deadline + timedelta(milliseconds=1)


def test_simulated_sites_share_all_examples_and_none_twice() -> None:
    data = TensorDataset(torch.arange(50.0), torch.arange(50) % 5)
    for partition in ({"sites": 3}, {"sites": 3, "dirichlet": 0.3}):
        task = a_task(partition=partition)
        parts = [part_of(task, name, data) for name in task.names]
        seen = sorted(int(part[i][0]) for part in parts for i in range(len(part)))
        assert seen == list(range(50))
        assert [labels_of(p).tolist() for p in parts] == [
            [int(p[i][1]) for i in range(len(p))] for p in parts
        ]


def test_a_site_of_its_own_has_all_of_its_data() -> None:
    sites = [{"name": n, "claimName": n} for n in ("a", "b")]
    task = a_task(partition=None, sites=sites)
    pairs = [(torch.zeros(1), 1), (torch.ones(1), 0)]
    assert part_of(task, "a", pairs) is pairs
    np.testing.assert_array_equal(labels_of(pairs), [1, 0])


def test_a_site_needs_no_test_part_and_the_server_no_training_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ward.py").write_text(
        "import torch\n"
        "pairs = [(torch.zeros(1), 0)]\n"
        "def here(): return {'train': pairs}\n"
        "def there(): return {'train': [], 'test': pairs}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    here, there = (Data(entrypoint=f"ward:{name}") for name in ("here", "there"))
    assert len(load(here, "data", [TRAIN]).train) == 1
    assert load(there, "data", [TEST]).train is None
    with pytest.raises(
        TaskConfigError, match="'ward:here': returned dict; return a mapping with test"
    ):
        load(here, "data", [TEST])
    with pytest.raises(TaskConfigError, match="'ward:there': train is no filled"):
        load(there, "data", [TRAIN])
    with pytest.raises(TaskConfigError, match="with train and test"):
        load(here, "data")


def test_more_sites_than_there_are_examples_for_are_named() -> None:
    says = r"partition.sites: 4: the data set has 7 examples, and each site needs 2; ask for fewer"
    with pytest.raises(TaskConfigError, match=says):
        part_of(a_task(), "site-0", TensorDataset(torch.zeros(7), torch.zeros(7)))


def test_no_part_is_too_small_to_train_on() -> None:
    task = a_task(partition={"sites": 4, "dirichlet": 0.05})
    data = TensorDataset(torch.zeros(8, 1, 8, 8), torch.zeros(8, dtype=torch.int64))
    net = Net.build(task.model).module
    for name in task.names:
        assert Trainer(task, name, net, part_of(task, name, data), 0).examples == 2


def message(module: nn.Module) -> RecordDict:
    return RecordDict(
        {"arrays": pack(get_weights(module)), "config": ConfigRecord({"server-round": 1})}
    )


def a_trainer(module: nn.Module, examples: int = 4) -> Trainer:
    data = TensorDataset(torch.zeros(examples, 1, 8, 8), torch.zeros(examples, dtype=torch.int64))
    return Trainer(a_task(), "site-1", module, data, 0)


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        (
            nn.Sequential(nn.Flatten(), nn.Linear(64, 7)),
            r"1.weight is \[10, 64\] here and \[7, 64\] there",
        ),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False)), "1.bias is on one side alone"),
    ],
)
def test_another_net_than_the_servers_is_named_with_the_site(theirs: nn.Module, says: str) -> None:
    own = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(TaskConfigError, match=f"site site-1: spec.task.federate.model: .*{says}"):
        a_trainer(own).handle(message(theirs))


def test_a_site_without_data_is_named() -> None:
    net = Net.build(a_task().model).module
    with pytest.raises(TaskConfigError, match="site site-1 has 0 examples"):
        a_trainer(net, examples=0)


def test_the_seed_makes_the_parts() -> None:
    data = TensorDataset(torch.arange(60.0), torch.arange(60) % 3)
    first = part_of(a_task(), "site-0", data)
    again = part_of(a_task(), "site-0", data)
    other = part_of(Federate.model_validate({**a_task().to_wire(), "seed": 5}), "site-0", data)
    assert first.indices == again.indices != other.indices
