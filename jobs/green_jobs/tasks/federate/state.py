"""What a federated training is between two rounds, as one checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
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
    """By site that answered, size of weights sent to it and back."""
    examples: dict[str, int] = {}
    """By site, how many it trained on."""
    accuracies: dict[str, float] = {}
    """By site, of its own training, on its own data."""
    lengths: dict[str, float] = {}
    """By site, how far its update was from the global weights: what later ones are held against."""
    seconds: float = 0.0
    """How long it took."""


class InVain(Model):
    """What a site did in rounds that did not stand."""

    dropped: int = 0
    """Updates of it that did not count."""
    reason: str = ""
    """Why, where that was so in the last round that was tried."""
    bytes: int = 0
    """Size of weights sent to it and back."""


class _Record(Model):
    """What stands beside the tensors."""

    task: Federate
    order: list[str]
    """safetensors keeps no order, and strategies go by it."""
    rounds: list[Round]
    in_vain: dict[str, InVain] = {}


class State(Model):
    """A training after its last whole round."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    weights: Weights
    """The global weights."""
    moments: Weights = {}
    """The strategy's own state."""
    rounds: list[Round] = []
    """All rounds so far, oldest first."""
    in_vain: dict[str, InVain] = {}
    """By site, what is in none of them."""

    @property
    def next_round(self) -> int:
        """The number of the round that comes."""
        return len(self.rounds) + 1

    def after_vain(self, dropped: Mapping[str, str], traffic: Mapping[str, int]) -> Self:
        """The state after one more round that did not stand: the weights are what they were.

        Args:
            dropped: by site, why its update does not count.
            traffic: by site, bytes sent to it and back.

        """
        sites = self.in_vain.keys() | dropped.keys() | traffic.keys()
        told = {site: self.in_vain.get(site, InVain()) for site in sorted(sites)}
        in_vain = {
            site: InVain(
                dropped=was.dropped + (site in dropped),
                reason=dropped.get(site, ""),
                bytes=was.bytes + traffic.get(site, 0),
            )
            for site, was in told.items()
        }
        return self.model_copy(update={"in_vain": in_vain})

    def after_round(self, weights: Weights, moments: Weights, done: Round) -> Self:
        """The state after one more round that stands."""
        mended = {s: was.model_copy(update={"reason": ""}) for s, was in self.in_vain.items()}
        rounds = [*self.rounds, done]
        return self.model_copy(
            update={"weights": weights, "moments": moments, "rounds": rounds, "in_vain": mended}
        )

    def to_checkpoint(self, task: Federate) -> Checkpoint:
        """The state as it is stored."""
        record = _Record(
            task=task, order=list(self.weights), rounds=self.rounds, in_vain=self.in_vain
        )
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
        return cls(weights=weights, moments=moments, rounds=record.rounds, in_vain=record.in_vain)


def _essence(task: Federate) -> object:
    return task.model_dump(
        exclude={"rounds", "stop", "on_stalled", "stalled_timeout", "round_timeout"}
    )
