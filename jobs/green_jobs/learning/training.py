"""One stage of training, which can begin at any of its batches.

The order of the data and all randomness follow from (seed, stage, epoch, batch); the momentum is
the only state beside the net.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from green_api.errors import TaskConfigError
from torch import Tensor, nn

from green_jobs import data
from green_jobs.learning.schedule import Schedule
from green_jobs.seeds import seed_all

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
    trained = _trained(module, momentum)
    device = next(module.parameters()).device
    sums = _Sums()
    module.train()
    for number, inputs, targets in _batches(dataset, schedule, start):
        if number % schedule.batches == 0:
            sums = _Sums()
        loss, correct = _gradients(module, inputs.to(device), targets.to(device), loss_of)
        descend(trained, momentum, schedule.rate(number))
        sums.add(_finite(loss, schedule), correct, len(targets))
        yield Step(
            number=number + 1,
            loss=sums.loss / sums.batches,
            accuracy=sums.correct / sums.examples,
            learning_rate=schedule.rate(number),
        )


def _gradients(
    module: nn.Module, inputs: Tensor, targets: Tensor, loss_of: Loss
) -> tuple[float, int]:
    """Set the gradients of one batch; its mean loss and how many examples it had right."""
    module.zero_grad()
    logits = module(inputs)
    loss = loss_of(inputs, logits, targets)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item(), int((logits.argmax(1) == targets).sum())


def _trained(module: nn.Module, momentum: Momentum) -> dict[str, nn.Parameter]:
    """The parameters that train, by name; each gets a buffer, zeros if it had none."""
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    for name, parameter in trained.items():
        momentum[name] = momentum.get(name, torch.zeros_like(parameter)).to(parameter.device)
    return trained


@torch.no_grad()
def descend(parameters: Mapping[str, Tensor], momentum: Momentum, rate: float) -> None:
    """One step of gradient descent with momentum and weight decay, in place.

    The same as torch.optim.SGD, which imports torch's compiler at its first use: seconds of CPU
    time at every start of an attempt. ``v <- 0.9 v + (g + 5e-4 p); p <- p - rate v``
    (Sutskever et al. 2013).
    """
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            gradient = parameter.grad.add(parameter, alpha=WEIGHT_DECAY)
            momentum[name].mul_(MOMENTUM).add_(gradient)
            parameter.add_(momentum[name], alpha=-rate)


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
