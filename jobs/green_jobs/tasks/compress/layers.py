"""What the layers of a net do in one forward pass."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

_PASSES: Final = 4


@dataclass(frozen=True)
class LayerRun:
    """One run of a convolution or linear layer.

    Args:
        layer: the layer.
        multiply_accumulates: multiplications with addition, for the whole batch.

    """

    layer: nn.Module
    multiply_accumulates: int


def layer_runs(module: nn.Module, example: Tensor) -> list[LayerRun]:
    """Every run of a convolution or linear layer, in order; leaves the net in evaluation mode."""
    runs: list[LayerRun] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        # Each value meets the weights of one filter: an output's own, or an input's if transposed.
        values = inputs[0] if getattr(layer, "transposed", False) else outputs
        weights: Any = layer.weight
        runs.append(LayerRun(layer, values.numel() * weights[0].numel()))

    module.eval()
    with _hooked(module, note), torch.no_grad():
        module(example)
    return runs


def multiply_accumulates(module: nn.Module, example: Tensor) -> int:
    """Those of one of the examples (B, ...), in convolutions and linear layers."""
    return sum(run.multiply_accumulates for run in layer_runs(module, example)) // len(example)


def forward_seconds(module: nn.Module, batch: Tensor) -> float:
    """Seconds per example of a forward pass over a batch (B, ...): the quickest of a few.

    Small nets are bound by memory and by calls, so multiply-accumulates say little of their time.
    """
    module.eval()
    with torch.no_grad():
        return min(_seconds(module, batch) for _ in range(_PASSES)) / len(batch)


def _seconds(module: nn.Module, batch: Tensor) -> float:
    start = time.perf_counter()
    module(batch)
    return time.perf_counter() - start


@contextmanager
def _hooked(module: nn.Module, note: Any) -> Iterator[None]:  # noqa: ANN401 - torch's hook type
    layers = [layer for layer in module.modules() if isinstance(layer, (nn.Linear, _ConvNd))]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
