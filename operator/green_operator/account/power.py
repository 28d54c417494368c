"""The power table: what reserved hardware can draw, for plans and for what no meter shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from green_api.units import Power


@dataclass(frozen=True, slots=True)
class PowerTable:
    """Power at full load per unit of hardware.

    Defaults: 400 W a GPU, the board power of an A100 SXM (Llama 2's model card computes with it);
    4 W a core, what CodeCarbon 3.3 takes for a thread of a processor that it does not know.
    """

    gpu: Power = Power(400.0)
    core: Power = Power(4.0)

    def reserved(self, gpus: int, cores: float) -> Power:
        """What a reservation can draw at most (an upper bound; always Estimated)."""
        return Power(self.gpu.watts * gpus + self.core.watts * cores)


DEFAULT_POWER: Final = PowerTable()
