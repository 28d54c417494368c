"""Units as types: a bare float of joules, watts or grams crosses no module boundary.

Energy in joules, power in watts, intensity in grams of CO2 equivalent per kilowatt-hour, emissions
in grams of CO2 equivalent. 1 kWh = 3.6e6 J by definition.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, overload

JOULES_PER_KILOWATT_HOUR: Final = 3.6e6


@dataclass(frozen=True, order=True, slots=True)
class Emissions:
    """Greenhouse gas in grams of CO2 equivalent; negative only as a difference."""

    grams: float

    def __add__(self, other: Emissions) -> Emissions:
        return Emissions(self.grams + other.grams)

    def __sub__(self, other: Emissions) -> Emissions:
        return Emissions(self.grams - other.grams)

    @property
    def micrograms(self) -> int:
        """The amount as the status carries it: whole micrograms, rounded to nearest."""
        return round(self.grams * 1e6)


@dataclass(frozen=True, order=True, slots=True)
class Intensity:
    """Carbon intensity of electricity, grams of CO2 equivalent per kilowatt-hour."""

    grams_per_kilowatt_hour: float


@dataclass(frozen=True, order=True, slots=True)
class Energy:
    """Energy in joules."""

    joules: float

    def __add__(self, other: Energy) -> Energy:
        return Energy(self.joules + other.joules)

    def __sub__(self, other: Energy) -> Energy:
        return Energy(self.joules - other.joules)

    @overload
    def __mul__(self, factor: Intensity) -> Emissions: ...
    @overload
    def __mul__(self, factor: float) -> Energy: ...
    def __mul__(self, factor: Intensity | float) -> Emissions | Energy:
        if isinstance(factor, Intensity):
            return Emissions(self.kilowatt_hours * factor.grams_per_kilowatt_hour)
        return Energy(self.joules * factor)

    @property
    def kilowatt_hours(self) -> float:
        """The amount in kWh."""
        return self.joules / JOULES_PER_KILOWATT_HOUR


@dataclass(frozen=True, order=True, slots=True)
class Power:
    """Power in watts."""

    watts: float

    def __add__(self, other: Power) -> Power:
        return Power(self.watts + other.watts)

    def __mul__(self, duration: timedelta) -> Energy:
        return Energy(self.watts * duration.total_seconds())


ZERO_ENERGY: Final = Energy(0.0)
ZERO_EMISSIONS: Final = Emissions(0.0)
