"""One stage of training, which can begin at any of its batches.

Stochastic gradient descent with momentum and one cycle of the learning rate. The order of the data
and all randomness follow from (seed, stage, epoch, batch); the momentum is the only state beside
the net.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from green_api.errors import TaskConfigError
from green_jobs import data
from green_jobs.seeds import seed_all
from green_jobs.tasks.compress.schedule import Schedule

MOMENTUM: Final = 0.9
WEIGHT_DECAY: Final = 5e-4

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Inputs (B, ...), the net's logits (B, C) and targets (B,) to a scalar."""
Momentum = dict[str, Tensor]
"""Per parameter name, SGD's momentum buffer; updated in place while training runs."""


@dataclass(frozen=True)
class Step:
    """How a training stands after one step.

    Args:
        number: steps done, this one included.
        loss: mean over the epoch so far (since the resume, in a resumed one).
        accuracy: share of the same examples that were classified right when they were met.
        learning_rate: the step's.
    """

    number: int
    loss: float
    accuracy: float
    learning_rate: float


@dataclass
class _Sums:
    """What an epoch has shown so far."""

    batches: int = 0
    examples: int = 0
    loss: float = 0.0
    correct: int = 0

    def add(self, loss: float, correct: int, examples: int) -> None:
        self.batches += 1
        self.examples += examples
        self.loss += loss
        self.correct += correct


def train(
    module: nn.Module,
    dataset: data.MapDataset,
    schedule: Schedule,
    loss_of: Loss,
    momentum: Momentum,
    start: int,
) -> Iterator[Step]:
    """Train in place, one step each time the caller asks for the next.

    Args:
        module: the net, on the device to train on.
        dataset: the training set.
        schedule: how to train.
        loss_of: the loss.
        momentum: filled with zeros where empty; holds the live buffers from then on.
        start: steps that are already done.

    Raises:
        TaskConfigError: the loss is no number any more.
    """
    optimizer = _optimizer(module, momentum)
    device = next(module.parameters()).device
    sums = _Sums()
    module.train()
    for number, inputs, targets in _batches(dataset, schedule, start):
        if number % schedule.batches == 0:
            sums = _Sums()
        optimizer.param_groups[0]["lr"] = schedule.rate(number)
        loss, correct = _step(module, optimizer, inputs.to(device), targets.to(device), loss_of)
        sums.add(_finite(loss, schedule), correct, len(targets))
        yield Step(
            number=number + 1,
            loss=sums.loss / sums.batches,
            accuracy=sums.correct / sums.examples,
            learning_rate=schedule.rate(number),
        )


def _step(
    module: nn.Module,
    optimizer: torch.optim.SGD,
    inputs: Tensor,
    targets: Tensor,
    loss_of: Loss,
) -> tuple[float, int]:
    """One step; the batch's mean loss and how many it had right."""
    logits = module(inputs)
    loss = loss_of(inputs, logits, targets)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item(), int((logits.argmax(1) == targets).sum())


def _optimizer(module: nn.Module, momentum: Momentum) -> torch.optim.SGD:
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(
        trained.values(), lr=0.0, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    for name, parameter in trained.items():
        # Starting from zeros gives the same first step as torch's own start from no buffer.
        buffer = momentum.get(name, torch.zeros_like(parameter)).to(parameter.device)
        momentum[name] = buffer
        optimizer.state[parameter]["momentum_buffer"] = buffer
    return optimizer


def _batches(
    dataset: data.MapDataset, schedule: Schedule, start: int
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Step number, inputs and targets of every batch that is still to come."""
    first_epoch, skipped = divmod(start, schedule.batches)
    for epoch in range(first_epoch, schedule.epochs):
        fetched = data.batches(dataset, schedule.order(epoch)[skipped:])
        for place in range(skipped, schedule.batches):
            seed_all(schedule.seed_of(epoch, place))
            inputs, targets = next(fetched)
            yield epoch * schedule.batches + place, inputs, targets
        skipped = 0


def _finite(loss: float, schedule: Schedule) -> float:
    if not math.isfinite(loss):
        msg = (
            f"{schedule.field}.learningRate: {schedule.peak}: "
            "the loss is no number any more; lower it"
        )
        raise TaskConfigError(msg)
    return loss
