"""The models that come with the jobs' code: small convolutional nets with batch normalisation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def fashion_cnn() -> nn.Module:
    """Images of (N, 1, 28, 28) to logits of (N, 10); 61 thousand parameters."""
    return _classifier(widths=(24, 48, 96), strides=(2, 2, 1), side=3)


def digits_cnn() -> nn.Module:
    """Images of (N, 1, 8, 8) to logits of (N, 10); 6 thousand parameters."""
    return _classifier(widths=(16, 32), strides=(1, 2), side=2)


def _classifier(widths: Sequence[int], strides: Sequence[int], side: int) -> nn.Module:
    """Convolutions, then a linear layer on the ``side`` x ``side`` map after pooling."""
    blocks = [
        _block(before, width, stride)
        for before, width, stride in zip((1, *widths[:-1]), widths, strides, strict=True)
    ]
    head = nn.Linear(widths[-1] * side * side, 10)
    return nn.Sequential(*blocks, nn.MaxPool2d(2), nn.Flatten(), head)


def _block(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
