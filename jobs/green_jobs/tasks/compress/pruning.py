"""Structured pruning; the only module that knows torch-pruning."""

from __future__ import annotations

import warnings

import torch
import torch_pruning
from green_api.errors import TaskConfigError
from torch import Tensor, nn

from green_jobs.tasks.compress.layers import layer_runs


def prune(module: nn.Module, example: Tensor, ratio: float, field: str) -> None:
    """Remove the weakest channels of every layer but the last, in place.

    Channels that depend on one another go together (DepGraph, Fang et al. 2023, arXiv:2301.12900);
    a group's weight is its L2 magnitude.

    Args:
        module: the net, left in evaluation mode.
        example: inputs (B, ...) on the net's device.
        ratio: share of the channels to remove.
        field: the step's path in the manifest, for messages.

    Raises:
        TaskConfigError: the net cannot be pruned.

    """
    module.eval()
    before = sum(parameter.numel() for parameter in module.parameters())
    try:
        shape = _shape(module, example)
        _remove_channels(module, example, ratio)
        changed = _shape(module, example) != shape
    except Exception as error:
        msg = (
            f"{field}.prune: {ratio}: the net cannot be pruned: {_first_line(error)}; "
            "distill into a student instead"
        )
        raise TaskConfigError(msg) from error
    if changed or sum(parameter.numel() for parameter in module.parameters()) >= before:
        msg = f"{field}.prune: {ratio}: no inner channel can go; distill into a student instead"
        raise TaskConfigError(msg)


def _remove_channels(module: nn.Module, example: Tensor, ratio: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch_pruning.pruner.BasePruner(
            module,
            example,
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            pruning_ratio_dict=_gentler(module, ratio),
            ignored_layers=[layer_runs(module, example)[-1].layer],  # its channels are the classes
        ).step()


def _gentler(module: nn.Module, ratio: float) -> dict[nn.Module, float]:
    """Ratios that leave one channel of each layer that would lose all: such are else skipped."""
    widths = {
        layer: int(getattr(layer, "out_channels", 0) or getattr(layer, "out_features", 0))
        for layer in module.modules()
    }
    return {
        # Half a channel more, because what is kept is rounded down.
        layer: 1 - 1.5 / width
        for layer, width in widths.items()
        if width > 1 and int(width * (1 - ratio)) == 0
    }


def _shape(module: nn.Module, example: Tensor) -> torch.Size:
    with torch.no_grad():
        shape: torch.Size = module(example).shape
    return shape


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
