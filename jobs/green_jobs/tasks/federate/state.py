"""What a federated training is between two rounds, as one checkpoint."""

from __future__ import annotations

from typing import Final, Self

import numpy as np
import numpy.typing as npt
import torch
from green_api.base import Model
from green_api.federate import Federate
from pydantic import ConfigDict, ValidationError

from green_jobs.checkpoint import Checkpoint

_WEIGHTS: Final = "weights/"
_MOMENTS: Final = "moments/"

Weights = dict[str, npt.NDArray[np.generic]]
"""By parameter's name, in the model's order."""


class Round(Model):
    """What a round brought."""

    number: int
    """Counted from 1."""
    accuracy: float
    """Of the new global weights on the server's test data, 0 to 1."""
    loss: float
    """Mean of the sites' training losses, by examples."""
    sites: list[str]
    """Whose updates count."""
    dropped: dict[str, str] = {}
    """By site, why its update does not."""
    bytes: dict[str, int] = {}
    """By site, size of weights sent to it and back."""
    examples: dict[str, int] = {}
    """By site, how many it trained on."""
    accuracies: dict[str, float] = {}
    """By site, of its own training, on its own data."""
    lengths: dict[str, float] = {}
    """By site, how far its update was from the global weights: what later ones are held against."""
    seconds: float = 0.0
    """How long it took."""


class _Record(Model):
    """What stands beside the tensors."""

    task: Federate
    order: list[str]
    """safetensors keeps no order, and strategies go by it."""
    rounds: list[Round]


class State(Model):
    """A training after its last whole round."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    weights: Weights
    """The global weights."""
    moments: Weights = {}
    """The strategy's own state."""
    rounds: list[Round] = []
    """All rounds so far, oldest first."""

    @property
    def next_round(self) -> int:
        """The number of the round that comes."""
        return len(self.rounds) + 1

    def to_checkpoint(self, task: Federate) -> Checkpoint:
        """The state as it is stored."""
        record = _Record(task=task, order=list(self.weights), rounds=self.rounds)
        tensors = {_WEIGHTS + n: torch.from_numpy(np.array(w)) for n, w in self.weights.items()}
        tensors |= {_MOMENTS + n: torch.from_numpy(np.array(m)) for n, m in self.moments.items()}
        return Checkpoint(tensors, record.model_dump_json(by_alias=True))

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, task: Federate) -> Self | None:
        """The state of a checkpoint; None where it is of another task.

        More rounds, or another end, are the same task: a job may be told to go on.
        """
        try:
            record = _Record.model_validate_json(checkpoint.state)
        except ValidationError:
            return None
        if _essence(record.task) != _essence(task):
            return None
        arrays = {name: tensor.numpy() for name, tensor in checkpoint.tensors.items()}
        moments = {n.removeprefix(_MOMENTS): a for n, a in arrays.items() if n.startswith(_MOMENTS)}
        weights = {name: arrays[_WEIGHTS + name] for name in record.order}
        return cls(weights=weights, moments=moments, rounds=record.rounds)


def _essence(task: Federate) -> object:
    return task.model_dump(
        exclude={"rounds", "stop", "on_stalled", "stalled_timeout", "round_timeout"}
    )
