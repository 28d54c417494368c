"""Flower's strategies from a manifest, and what of them has to survive a suspension.

A strategy sees the trained parameters alone. Buffers, such as batch norm's statistics, are no place
to step or to measure distances in: FedAdam's step can make a variance negative, and in Krum's
distances batch norm's counters of steps outweigh all else, so that it chooses by how many examples
a site has. They are merged beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
from flwr.serverapp.strategy import FedAdam, FedAvg, FedProx, FedTrimmedAvg, Krum
from green_api.federate import Federate, StrategyName

from green_jobs.tasks.federate.guard import Update
from green_jobs.tasks.federate.state import Weights

_MOMENTS: Final = ("m_t", "v_t")
"""FedAdam's own state; every other strategy here has none."""
_ROBUST: Final = frozenset({StrategyName.FED_TRIMMED_AVG, StrategyName.KRUM})


def make_strategy(task: Federate) -> FedAvg:
    """The strategy; it never waits for sites by itself, for the rounds look at them first."""
    common: dict[str, Any] = {
        "fraction_train": task.fraction_sites,
        "fraction_evaluate": 0.0,
        "min_train_nodes": task.min_sites,
        "min_available_nodes": task.min_sites,
    }
    spec = task.strategy
    match spec.name:
        case StrategyName.FED_AVG:
            return FedAvg(**common)
        case StrategyName.FED_PROX:
            return FedProx(**common, proximal_mu=spec.mu)
        case StrategyName.FED_ADAM:
            return FedAdam(**common, eta=spec.step)
        case StrategyName.FED_TRIMMED_AVG:
            return FedTrimmedAvg(**common, beta=spec.cut)
        case StrategyName.KRUM:
            return Krum(**common, num_malicious_nodes=spec.malicious_sites or 0)


def merge_buffers(task: Federate, updates: Sequence[Update], buffers: Weights) -> Weights:
    """What is not trained, of several updates: the mean by examples.

    For a strategy that bears malicious sites the median of each element, which no minority moves
    beyond what the others have.

    Args:
        task: names the strategy.
        updates: those that count.
        buffers: the global ones, of the types and in the order to keep.

    """
    examples = [cast("int", update.metrics["num-examples"]) for update in updates]
    merged: Weights = {}
    for name, old in buffers.items():
        values: npt.NDArray[Any] = np.stack([update.arrays[name] for update in updates])
        if task.strategy.name in _ROBUST:
            new = np.median(values, axis=0)
        else:
            new = np.average(values, axis=0, weights=examples)
        # Of whole numbers, such as batch norm's counters, a mean is none.
        whole = np.issubdtype(old.dtype, np.integer)
        merged[name] = np.asarray(np.rint(new) if whole else new).astype(old.dtype)
    return merged


def step_field(task: Federate) -> tuple[str, float]:
    """The field of the task that says how far a round goes, and its value."""
    if task.strategy.name is StrategyName.FED_ADAM:
        return "strategy.adamLearningRate", task.strategy.step
    return "learningRate", task.learning_rate


def moments(strategy: FedAvg) -> dict[str, npt.NDArray[np.generic]]:
    """The strategy's own state, by the moment's and the parameter's name."""
    found: dict[str, npt.NDArray[np.generic]] = {}
    for moment in _MOMENTS:
        for name, value in (getattr(strategy, moment, None) or {}).items():
            found[f"{moment}/{name}"] = np.asarray(value)
    return found


def restore_moments(strategy: FedAvg, state: dict[str, npt.NDArray[np.generic]]) -> None:
    """Give the strategy back what ``moments`` took."""
    for moment in _MOMENTS:
        prefix = f"{moment}/"
        values = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
        if values:
            setattr(strategy, moment, values)
