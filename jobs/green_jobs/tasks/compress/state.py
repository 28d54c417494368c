"""Where a pipeline stands: all that a resumed attempt needs, to and from a checkpoint."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Annotated, Self

import torch
from green_api.base import Model
from green_api.contract import digest
from green_api.task import Compress
from pydantic import Field, ValidationError
from torch import Tensor

from green_jobs.checkpoint import Checkpoint
from green_jobs.learning.training import Momentum
from green_jobs.models import Net, NetRecord


class StageFigures(Model):
    """What a finished stage showed."""

    name: str
    """The stage."""
    seconds: Annotated[float, Field(ge=0)]
    """Wall time over all attempts, evaluation included."""
    parameters: Annotated[int, Field(ge=0)]
    """Of the net after it."""
    multiply_accumulates: Annotated[int, Field(ge=0)]
    """Of one example after it."""
    accuracy: Annotated[float, Field(ge=0, le=1)]
    """Share of the test set that is classified right after it."""


class _Saved(Model):
    """The part of a checkpoint that is no tensor."""

    task: str
    stage: int
    step: int
    seconds: float
    current: NetRecord
    original: NetRecord | None
    figures: list[StageFigures]


@dataclass
class State:
    """Where the pipeline stands.

    Args:
        current: the net being worked on.
        original: the finished original, once there is one.
        stage: the stage being done.
        step: how much of it is done, in batches; 1 where it is not a training.
        seconds: time spent on it.
        momentum: the optimiser's, while a training runs.
        figures: of the finished stages.

    """

    current: Net
    original: Net | None = None
    stage: int = 0
    step: int = 0
    seconds: float = 0.0
    momentum: Momentum = field(default_factory=dict)
    figures: list[StageFigures] = field(default_factory=list)

    def close_stage(self, figures: StageFigures) -> None:
        """Go on to the next stage; the net that leaves the first one is the original."""
        if self.original is None:
            self.original = copy.deepcopy(self.current)
        self.figures.append(figures)
        self.stage += 1
        self.step = 0
        self.seconds = 0.0
        self.momentum = {}

    def to(self, device: torch.device) -> None:
        """Move the nets; a momentum follows when its training goes on."""
        for net in filter(None, (self.current, self.original)):
            net.module.to(device)

    def to_checkpoint(self, task: Compress) -> Checkpoint:
        """Everything, copied to the CPU."""
        saved = _Saved(
            task=_identity(task),
            stage=self.stage,
            step=self.step,
            seconds=self.seconds,
            current=self.current.record(),
            original=self.original.record() if self.original else None,
            figures=self.figures,
        )
        tensors = _prefixed("current", self.current.tensors())
        tensors |= _prefixed("original", self.original.tensors() if self.original else {})
        tensors |= _prefixed("momentum", {n: t.cpu() for n, t in self.momentum.items()})
        return Checkpoint(tensors, saved.model_dump_json(by_alias=True))

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, task: Compress) -> Self | None:
        """The state on the CPU; None where the checkpoint is of another task or format.

        Raises:
            TaskConfigError: an entrypoint gives no net any more.
            WidthsError: an entrypoint gives another net than before.

        """
        try:
            saved = _Saved.model_validate_json(checkpoint.state)
        except ValidationError:
            return None
        if saved.task != _identity(task):
            return None
        parts = {name: _part(name, checkpoint.tensors) for name in ("current", "original")}
        return cls(
            current=Net.rebuild(saved.current, parts["current"]),
            original=Net.rebuild(saved.original, parts["original"]) if saved.original else None,
            stage=saved.stage,
            step=saved.step,
            seconds=saved.seconds,
            momentum=_part("momentum", checkpoint.tensors),
            figures=saved.figures,
        )


def _identity(task: Compress) -> str:
    return digest(task.model_dump_json().encode())


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def _part(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
