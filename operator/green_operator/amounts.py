"""Amounts as people read them, three digits in the unit that fits; pure."""

from __future__ import annotations

from collections.abc import Sequence

from green_api.units import Emissions, Energy


def format_difference(difference: Emissions, of: Emissions | None) -> str:
    """A signed amount with its share, such as ``+1.2 g (38 %)``."""
    # Micrograms are the smallest unit that is kept; adding zero makes a negative zero one.
    shown = Emissions(round(difference.grams, 6) + 0.0)
    text = f"{'+' if shown.grams >= 0 else ''}{format_emissions(shown)}"
    if of is None or of.grams <= 0:
        return text
    return f"{text} ({round(100 * shown.grams / of.grams)} %)"


def format_emissions(emissions: Emissions) -> str:
    """From milligrams to tonnes of CO2 equivalent."""
    grams = emissions.grams
    return _scaled(grams, ((1e6, "t"), (1e3, "kg"), (1.0, "g"))) or f"{grams * 1e3:.3g} mg"


def format_energy(energy: Energy) -> str:
    """From joules to megawatt-hours."""
    hours = energy.kilowatt_hours * 1e3
    return _scaled(hours, ((1e6, "MWh"), (1e3, "kWh"), (1.0, "Wh"))) or f"{energy.joules:.0f} J"


def _scaled(value: float, units: Sequence[tuple[float, str]]) -> str | None:
    """In the first unit, largest first, that the value fills."""
    return next((f"{value / size:.3g} {unit}" for size, unit in units if abs(value) >= size), None)
