"""How right, how fast and how big a net is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from green_jobs import data

Predict = Callable[[Tensor], Tensor]
"""Inputs (B, ...) to logits (B, C) on the CPU."""

_BATCH: Final = 500
_WARM_UP: Final = 20
_RUNS: Final = 300


@dataclass(frozen=True)
class Predictions:
    """What a model said about a data set, and what was right; both (N,)."""

    classes: Tensor
    targets: Tensor

    @property
    def accuracy(self) -> float:
        """Share of examples that are classified right."""
        return (self.classes == self.targets).double().mean().item()

    def agreement(self, other: Predictions) -> float:
        """Share of examples that both models put into one class."""
        return (self.classes == other.classes).double().mean().item()


@dataclass(frozen=True)
class Latency:
    """Medians of one example, one thread, in milliseconds."""

    wall_ms: float
    cpu_ms: float


def eager(module: nn.Module) -> Predict:
    """A net as PyTorch runs it; leaves it in evaluation mode."""
    device = next(module.parameters()).device

    def predict(inputs: Tensor) -> Tensor:
        module.eval()
        with torch.inference_mode():
            outputs: Tensor = module(inputs.to(device)).cpu()
        return outputs

    return predict


def evaluate(
    predict: Predict, dataset: data.MapDataset, between: Callable[[], None]
) -> Predictions:
    """Run a model over a data set; ``between`` is called after every batch and may raise."""
    order = data.chunks(torch.arange(len(dataset)), _BATCH)
    classes, right = [], []
    for inputs, targets in data.batches(dataset, order):
        classes.append(predict(inputs).argmax(1))
        right.append(targets)
        between()
    return Predictions(torch.cat(classes), torch.cat(right))


def latency(predict: Predict, example: Tensor) -> Latency:
    """How long one example (1, ...) takes; CPU time is steady where other work shares the cores."""
    wall, cpu = [], []
    with _one_thread():
        for _ in range(_WARM_UP):
            predict(example)
        for _ in range(_RUNS):
            start, cpu_start = time.perf_counter(), time.thread_time()
            predict(example)
            cpu.append(time.thread_time() - cpu_start)
            wall.append(time.perf_counter() - start)
    return Latency(statistics.median(wall) * 1e3, statistics.median(cpu) * 1e3)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
