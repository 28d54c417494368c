"""Flower's strategies from a manifest, and what of them has to survive a suspension."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from flwr.serverapp.strategy import FedAdam, FedAvg, FedProx, FedTrimmedAvg, Krum
from green_api.federate import Federate, StrategyName

_MOMENTS: Final = ("m_t", "v_t")
"""FedAdam's own state; every other strategy here has none."""


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
            return FedProx(**common, proximal_mu=spec.proximal_mu)
        case StrategyName.FED_ADAM:
            return FedAdam(**common, eta=spec.adam_learning_rate)
        case StrategyName.FED_TRIMMED_AVG:
            return FedTrimmedAvg(**common, beta=spec.trimmed_share)
        case StrategyName.KRUM:
            return Krum(**common, num_malicious_nodes=spec.malicious_sites)


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
