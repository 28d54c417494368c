"""The parts of training against their formulas and against torch's own."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from green_jobs import data
from green_jobs.learning.schedule import Schedule, one_cycle
from green_jobs.learning.training import descend
from green_jobs.seeds import derive
from green_jobs.tasks.compress.distillation import distillation_loss
from green_jobs.tasks.compress.layers import multiply_accumulates
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset


def test_descent_equals_torchs() -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(5, 3), nn.Linear(5, 3)
    theirs.load_state_dict(ours.state_dict())
    optimizer = torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    momentum = {name: torch.zeros_like(p) for name, p in ours.named_parameters()}
    for rate in (0.1, 0.05, 0.2):
        inputs = torch.randn(4, 5)
        for net in (ours, theirs):
            net.zero_grad()
            net(inputs).square().sum().backward()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        descend(dict(ours.named_parameters()), momentum, rate)
    assert all(map(torch.equal, ours.parameters(), theirs.parameters()))


def test_one_cycle_follows_torchs() -> None:
    steps, peak = 1000, 0.05
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), peak)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peak, total_steps=steps, cycle_momentum=False
    )
    for step in range(steps):
        assert one_cycle(step, steps, peak) == pytest.approx(
            optimizer.param_groups[0]["lr"], abs=peak / 150
        )
        optimizer.step()
        scheduler.step()


@given(steps=st.integers(1, 500), peak=st.floats(1e-4, 10))
def test_one_cycle_rises_then_falls_within_bounds(steps: int, peak: float) -> None:
    rates = [one_cycle(step, steps, peak) for step in range(steps)]
    top = rates.index(max(rates))
    assert all(0 < rate <= peak * (1 + 1e-9) for rate in rates)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


@given(examples=st.integers(1, 300), batch_size=st.integers(1, 64), epoch=st.integers(0, 3))
def test_every_epoch_sees_each_example_at_most_once(
    examples: int, batch_size: int, epoch: int
) -> None:
    schedule = Schedule("f", 4, 0.1, batch_size, examples, seed=1)
    order = schedule.order(epoch)
    seen = torch.cat(order).tolist()
    assert len(order) == schedule.batches
    assert len(set(seen)) == len(seen) > examples - batch_size
    assert [batch.tolist() for batch in order] == [b.tolist() for b in schedule.order(epoch)]


def test_seeds_differ_by_place() -> None:
    places: list[tuple[Any, ...]] = [(), ("original",), (1,), (1, 2), (12,), ("1", "2", 3)]
    assert len({derive(0, *place) for place in places}) == len(places)
    assert derive(0, 1) != derive(1, 1)
    assert all(0 <= derive(7, *place) < 2**63 for place in places)


def test_distillation_loss_is_its_formula() -> None:
    student, teacher = torch.randn(6, 4), torch.randn(6, 4)
    targets = torch.randint(4, (6,))
    temperature, weight = 3.0, 0.6
    soft = torch.softmax(teacher / temperature, 1)
    divergence = (
        sum(
            float(
                (soft[i] * (soft[i].log() - torch.log_softmax(student[i] / temperature, 0))).sum()
            )
            for i in range(6)
        )
        / 6
    )
    expected = weight * temperature**2 * divergence + (1 - weight) * float(
        functional.cross_entropy(student, targets)
    )
    loss = distillation_loss(student, teacher, targets, temperature, weight)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_net_that_equals_its_teacher_has_no_soft_loss() -> None:
    logits = torch.randn(5, 3)
    loss = distillation_loss(logits, logits, torch.zeros(5, dtype=torch.int64), 4.0, 1.0)
    assert math.isclose(loss.item(), 0.0, abs_tol=1e-6)


def test_multiply_accumulates() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, groups=4),
        nn.ConvTranspose2d(4, 2, 2), nn.Flatten(), nn.Linear(98, 10),
    )  # fmt: skip
    expected = 64 * 4 * 9 + 36 * 4 * 9 + 36 * 4 * 2 * 4 + 98 * 10
    assert multiply_accumulates(net, torch.zeros(3, 1, 8, 8)) == expected


def test_tensors_and_other_data_sets_give_the_same_batches() -> None:
    tensors = TensorDataset(torch.randn(10, 3), torch.arange(10))
    examples = [(tensors[i][0], i) for i in range(10)]
    indexes = data.chunks(torch.tensor([4, 2, 9, 0, 1]), 2)
    for (a, b), (c, d) in zip(
        data.batches(tensors, indexes), data.batches(examples, indexes), strict=True
    ):
        assert torch.equal(a, c)
        assert torch.equal(b, d)
        assert d.dtype == torch.int64
