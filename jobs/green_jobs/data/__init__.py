"""Data sets: a training and a test part of (input, target) pairs, from a manifest's ``Data``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from green_api.errors import TaskConfigError
from green_api.learning import BuiltinData, Data
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from green_jobs import entrypoints
from green_jobs.data import digits, fashion_mnist

MapDataset = Any
"""Anything with ``len`` and integer indexing that gives (input, target)."""


TRAIN: Final = "train"
TEST: Final = "test"
PARTS: Final = (TRAIN, TEST)


@dataclass(frozen=True)
class DataSets:
    """A training and a test part; None is one that was not asked for."""

    train: MapDataset
    test: MapDataset


def load(data: Data, field: str, needs: Sequence[str] = PARTS) -> DataSets:
    """The data set.

    Args:
        data: what the manifest asks for.
        field: its path in the manifest, for messages.
        needs: the parts that an entrypoint must give; another one is None.

    Raises:
        TaskConfigError: the data is not there, or the entrypoint gives none.

    """
    match data.builtin:
        case BuiltinData.FASHION_MNIST:
            return _fashion_mnist(field)
        case BuiltinData.DIGITS:
            return _digits(field)
        case None:
            return _from_entrypoint(data, field, needs)


def batches(dataset: MapDataset, indexes: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs (B, ...) and targets (B,) for each tensor of indexes, fetched when asked for.

    Tensors are gathered by one indexing; other data sets go example by example through torch's
    loader, which collates them.
    """
    if isinstance(dataset, TensorDataset):
        loader = DataLoader(dataset, sampler=indexes, batch_size=None)
    else:
        loader = DataLoader(dataset, batch_sampler=[batch.tolist() for batch in indexes])
    return iter(loader)


def chunks(indexes: Tensor, size: int) -> list[Tensor]:
    """The indexes (N,) in batches of ``size``, the last maybe shorter."""
    return list(torch.split(indexes, size))


def first(dataset: MapDataset, count: int) -> tuple[Tensor, Tensor]:
    """The first examples (fewer where there are no more) as one batch."""
    return next(batches(dataset, [torch.arange(min(count, len(dataset)))]))


def _fashion_mnist(field: str) -> DataSets:
    train_images, train_labels, test_images, test_labels = fashion_mnist.load(field)
    # Mean and deviation of the training images' pixels.
    return DataSets(
        train=_tensors(train_images / np.float32(255), train_labels, 0.2860, 0.3530),
        test=_tensors(test_images / np.float32(255), test_labels, 0.2860, 0.3530),
    )


def _digits(field: str) -> DataSets:
    images, labels = digits.load(field)
    is_test = np.arange(len(labels)) % 5 == 0
    return DataSets(
        train=_tensors(images[~is_test] / np.float32(16), labels[~is_test], 0.3053, 0.3763),
        test=_tensors(images[is_test] / np.float32(16), labels[is_test], 0.3053, 0.3763),
    )


def _tensors(
    images: npt.NDArray[np.floating[Any]], labels: npt.NDArray[Any], mean: float, deviation: float
) -> TensorDataset:
    """Grey images (N, H, W) in 0..1 as normalised (N, 1, H, W), float32."""
    inputs = torch.from_numpy(np.asarray(images, np.float32)).unsqueeze(1)
    return TensorDataset(
        inputs.sub_(mean).div_(deviation), torch.from_numpy(labels.astype(np.int64))
    )


def _from_entrypoint(data: Data, field: str, needs: Sequence[str]) -> DataSets:
    entrypoint = data.entrypoint or ""
    parts = entrypoints.call(entrypoint, data.args, field)
    where = f"{field}.entrypoint: {entrypoint!r}"
    if not isinstance(parts, Mapping) or not set(needs) <= set(parts):
        names = " and ".join(needs)
        msg = f"{where}: returned {type(parts).__name__}; return a mapping with {names}"
        raise TaskConfigError(msg)
    for name in needs:
        _check_part(parts[name], f"{where}: {name}")
    given = {name: parts[name] if name in needs else None for name in PARTS}
    return DataSets(train=given[TRAIN], test=given[TEST])


def _check_part(part: MapDataset, where: str) -> None:
    if not (hasattr(part, "__len__") and hasattr(part, "__getitem__")) or not len(part):
        msg = f"{where} is no filled map-style data set; give it __len__ and __getitem__"
        raise TaskConfigError(msg)
    example = part[0]
    if not (
        isinstance(example, (tuple, list)) and len(example) == 2 and torch.is_tensor(example[0])
    ):
        msg = f"{where}[0] is no pair (input tensor, class index); return such pairs"
        raise TaskConfigError(msg)
