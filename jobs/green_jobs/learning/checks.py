"""What can be known to fail before any training."""

from __future__ import annotations

import torch
from green_api.errors import TaskConfigError
from green_api.learning import Network
from torch import Tensor
from torch.utils.data import TensorDataset

from green_jobs import data
from green_jobs.learning import onnx_model
from green_jobs.learning.evaluation import eager
from green_jobs.models import Net


def check_fit(net: Net, sets: data.DataSets, field: str, task_field: str) -> None:
    """Run two examples through the net.

    Args:
        net: the net.
        sets: the data.
        field: path in the manifest of what holds the net.
        task_field: path of the task, which holds the data.

    Raises:
        TaskConfigError: the net does not take the inputs, or its outputs are no classes for the
            targets.

    """
    inputs, targets = data.first(sets.test, 2)
    where = f"{field}.{_source(net.network)}: does not fit the data: "
    if targets.dtype != torch.int64 or targets.dim() != 1:
        kind = f"{targets.dtype}, {_shape(targets)}"
        msg = f"{task_field}.data: targets are {kind}; use one class index"
        raise TaskConfigError(msg)
    try:
        outputs = eager(net.module)(inputs)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        msg = f"{where}inputs {_shape(inputs)}: {str(error).splitlines()[0]}"
        raise TaskConfigError(msg) from error
    if outputs.dim() != 2 or outputs.shape[1] <= _highest_class(sets, targets):
        msg = (
            f"{where}outputs {_shape(outputs)} are no logits (examples, classes from 0) for its "
            "targets"
        )
        raise TaskConfigError(msg)


def _highest_class(sets: data.DataSets, targets: Tensor) -> int:
    """Of all targets where they are at hand, else of the few given ones."""
    parts = [part for part in (sets.train, sets.test) if isinstance(part, TensorDataset)]
    return max(int(some.max()) for some in (targets, *(part.tensors[1] for part in parts)))


def check_export(net: Net, example: Tensor, task_field: str) -> None:
    """Export the net to ONNX and throw the file away.

    Raises:
        TaskConfigError: it cannot be exported.

    """
    try:
        onnx_model.export(net.module, example)
    except Exception as error:
        msg = (
            f"{task_field}.exports: Onnx: torch.onnx cannot export {_source(net.network)}: "
            f"{str(error).strip().splitlines()[0]}; mend the model or leave Onnx out"
        )
        raise TaskConfigError(msg) from error


def _source(network: Network) -> str:
    if network.builtin is not None:
        return f"builtin: {network.builtin.value!r}"
    return f"entrypoint: {network.entrypoint!r}"


def _shape(tensor: Tensor) -> str:
    return f"of shape {tuple(tensor.shape)}"
