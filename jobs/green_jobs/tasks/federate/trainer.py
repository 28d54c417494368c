"""A site's work in a round: the global weights, trained on its own data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from flwr.app import ConfigRecord, RecordDict
from green_api.errors import TaskConfigError
from green_api.federate import Federate, StrategyName
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from green_jobs import data
from green_jobs.learning.schedule import Schedule
from green_jobs.learning.training import Loss, train
from green_jobs.seeds import derive
from green_jobs.tasks.federate.attempt import FIELD
from green_jobs.tasks.federate.records import ARRAYS, CONFIG, reply, unpack
from green_jobs.tasks.federate.state import Weights

_ROUND: Final = "server-round"


@dataclass(frozen=True)
class _Steady(Schedule):
    """The same learning rate at every step."""

    def rate(self, step: int) -> float:
        del step
        return self.peak


class Trainer:
    """Keeps net and data from round to round.

    Args:
        task: what is asked for.
        site: this site's name.
        module: the net, on the device to train on.
        dataset: this site's training data.
        seed: the job's.

    Raises:
        TaskConfigError: the site has no data, or too little for a batch of two.

    """

    def __init__(
        self, task: Federate, site: str, module: nn.Module, dataset: data.MapDataset, seed: int
    ) -> None:
        if len(dataset) < 2:
            msg = f"site {site} has {len(dataset)} examples; it needs two at least"
            raise TaskConfigError(msg)
        self._task = task
        self._site = site
        self._module = module
        self._dataset = dataset
        self._seed = seed

    @property
    def examples(self) -> int:
        """Size of this site's training data."""
        return len(self._dataset)

    def handle(self, content: RecordDict) -> RecordDict:
        """One round's work: from the server's message to the reply.

        Raises:
            TaskConfigError: the net is not the server's, or the loss is no number any more.

        """
        weights = unpack(content[ARRAYS])  # type: ignore[arg-type]
        self._take(weights)
        schedule = self._schedule(round_of(content))
        loss = accuracy = 0.0
        for step in train(self._module, self._dataset, schedule, self._loss(), {}, start=0):
            loss, accuracy = step.loss, step.accuracy
        return reply(
            get_weights(self._module),
            {"num-examples": len(self._dataset), "loss": loss, "accuracy": accuracy},
        )

    def _take(self, weights: Weights) -> None:
        odd = _odd_one(get_weights(self._module), weights)
        if odd:
            msg = f"site {self._site}: {FIELD}.model: is another net than the server's: {odd}"
            raise TaskConfigError(msg)
        set_weights(self._module, weights)

    def _schedule(self, number: int) -> Schedule:
        return _Steady(
            field=FIELD,
            epochs=self._task.local_epochs,
            peak=self._task.learning_rate,
            batch_size=min(self._task.data.batch_size, len(self._dataset)),
            examples=len(self._dataset),
            seed=derive(self._seed, self._site, number),
        )

    def _loss(self) -> Loss:
        if self._task.strategy.name is not StrategyName.FED_PROX:
            return lambda _inputs, logits, targets: cross_entropy(logits, targets)
        mu = self._task.strategy.mu
        origin = {n: p.detach().clone() for n, p in self._module.named_parameters()}

        def near_the_origin(_inputs: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
            distance = sum(((p - origin[n]) ** 2).sum() for n, p in self._module.named_parameters())
            return cross_entropy(logits, targets) + mu / 2 * distance

        return near_the_origin


def round_of(content: RecordDict) -> int:
    """The number of the round that a message asks for."""
    config = content[CONFIG]
    assert isinstance(config, ConfigRecord)  # noqa: S101 - the server's own
    return int(str(config[_ROUND]))


def _odd_one(own: Weights, theirs: Weights) -> str:
    """The first parameter in which two nets differ; empty where none does."""
    for name in [*own, *theirs]:
        here, there = own.get(name), theirs.get(name)
        if here is None or there is None:
            return f"{name} is on one side alone"
        if here.shape != there.shape:
            return f"{name} is {list(here.shape)} here and {list(there.shape)} there"
    return ""


def trained_names(module: nn.Module) -> list[str]:
    """Names of the net's parameters; one that two layers share has both its names."""
    return [name for name, _ in module.named_parameters(remove_duplicate=False)]


def get_weights(module: nn.Module) -> Weights:
    """The net's whole state, buffers too, in its order."""
    return {
        name: value.detach().cpu().numpy().copy() for name, value in module.state_dict().items()
    }


def set_weights(module: nn.Module, weights: Weights) -> None:
    """Put weights into a net.

    Raises:
        RuntimeError: they are another net's.

    """
    module.load_state_dict({n: torch.from_numpy(w.copy()) for n, w in weights.items()})
