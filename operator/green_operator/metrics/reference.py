"""The metrics as their reference describes them, from the collectors themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client.metrics import MetricWrapperBase

from green_operator.metrics.per_job import JobSeries
from green_operator.metrics.series import Shown, Totals

_UNITS: Final = {
    "grams_per_joule": "grams CO2e per joule",
    "timestamp_seconds": "seconds since 1970",
    "joules": "joules",
    "grams": "grams CO2e",
    "seconds": "seconds",
    "ratio": "ratio",
    "bytes": "bytes",
}


@dataclass(frozen=True, slots=True)
class Description:
    """A metric as the reference describes it."""

    name: str
    type: str
    labels: tuple[str, ...]
    text: str
    is_of_job: bool = False
    """Each job that has started has series of it."""

    @property
    def unit(self) -> str:
        """Its unit, which its name ends with; a number of things where it names none."""
        name = self.name.removesuffix("_total")
        return next((unit for end, unit in _UNITS.items() if name.endswith(f"_{end}")), "number")


def describe(*groups: object) -> list[Description]:
    """All metrics of these groups by name, as they are scraped."""
    values = (value for group in groups for value in vars(group).values())
    return sorted((d for v in values for d in _described(v)), key=lambda d: d.name)


def _described(value: object) -> Iterator[Description]:
    if isinstance(value, JobSeries):
        yield from (
            Description(m.name, "gauge", m.labels, m.text, is_of_job=True) for m in value.metrics
        )
        yield from _described(value.left_out)
    elif isinstance(value, Shown):
        yield Description(value.name, "gauge", value.labels, value.text)
    elif isinstance(value, Totals):
        yield Description(value.name, "counter", value.labels, value.text)
    elif isinstance(value, MetricWrapperBase):
        (metric,) = value.describe()
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        yield Description(name, metric.type, tuple(value._labelnames), metric.documentation)
