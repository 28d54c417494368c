"""When a training sees which examples, at which learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from green_jobs import data
from green_jobs.seeds import derive

_RISE: Final = 0.3


@dataclass(frozen=True)
class Schedule:
    """How a stage trains.

    Args:
        field: the stage's path in the manifest, for messages.
        epochs: passes over the data.
        peak: highest learning rate.
        batch_size: examples per step; the last, incomplete batch of an epoch is left out.
        examples: size of the training set.
        seed: of this stage.

    """

    field: str
    epochs: int
    peak: float
    batch_size: int
    examples: int
    seed: int

    @property
    def batches(self) -> int:
        """Batches per epoch."""
        return max(1, self.examples // self.batch_size)

    @property
    def steps(self) -> int:
        """Batches of all epochs."""
        return self.epochs * self.batches

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return one_cycle(step, self.steps, self.peak)

    def order(self, epoch: int) -> list[Tensor]:
        """The indexes of each batch of an epoch, counted from 0."""
        generator = torch.Generator().manual_seed(derive(self.seed, epoch))
        order = torch.randperm(self.examples, generator=generator)
        return data.chunks(order, self.batch_size)[: self.batches]

    def seed_of(self, epoch: int, batch: int) -> int:
        """What all generators are seeded with before a batch is fetched."""
        return derive(self.seed, epoch, batch)


def one_cycle(step: int, steps: int, peak: float) -> float:
    """The learning rate of a step (Smith and Topin 2018, arXiv:1708.07120).

    Along half cosines from a 25th of the peak up to it in the first 30 % of the steps, then down to
    1/250,000 of it; a step counts at its middle, so that even a single one trains.
    """
    place = (step + 0.5) / steps
    if place < _RISE:
        return _half_cosine(peak / 25, peak, place / _RISE)
    return _half_cosine(peak, peak / 2.5e5, (place - _RISE) / (1 - _RISE))


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
