"""Collectors that say what is so now, and sums that begin where Prometheus can see it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

Labels = tuple[str, ...]
"""The values of a metric's labels, in their order."""


class Shown(Collector):
    """A gauge whose series are replaced as a whole: what is no longer so is gone."""

    def __init__(
        self, name: str, text: str, labels: Labels, registry: CollectorRegistry | None = None
    ) -> None:
        self.name, self.text, self.labels = name, text, labels
        self._values: Mapping[Labels, float] = {}
        if registry is not None:
            registry.register(self)

    def show(self, values: Mapping[Labels, float]) -> None:
        """Take these series in place of all earlier ones; a scrape sees the ones or the others."""
        self._values = dict(values)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The family without samples."""
        yield self._family()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The family as it is now."""
        family = self._family()
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        yield family

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(self.name, self.text, labels=self.labels)


class Totals(Collector):
    """A counter that every new series begins at zero, for one scrape.

    ``increase()`` does not see the rise from no series to the first value. A process that has just
    taken over enters within a second what was used since its predecessor's last write; without
    the zero before it that would be missing from every graph.
    """

    is_for_prometheus: bool = True
    """Whether the next reader adds up increases; another one sees the values as they are."""

    def __init__(self, name: str, text: str, labels: Labels, registry: CollectorRegistry) -> None:
        self.name, self.text, self.labels = f"{name}_total", text, labels
        self._values: dict[Labels, float] = {}
        self._scraped: set[Labels] = set()
        registry.register(self)

    def begin(self, labels: Labels) -> None:
        """Have the series, at zero if it is new."""
        self._values.setdefault(labels, 0.0)

    def add(self, labels: Labels, amount: float) -> None:
        """Let the series grow."""
        self._values[labels] = self._values.get(labels, 0.0) + amount

    def value(self, labels: Labels) -> float:
        """What was added to the series so far; zero where there is none."""
        return self._values.get(labels, 0.0)

    def describe(self) -> Iterable[CounterMetricFamily]:
        """The family without samples."""
        yield self._family()

    def collect(self) -> Iterable[CounterMetricFamily]:
        """The family as it is now."""
        family = self._family()
        for labels, value in list(self._values.items()):
            is_new = self.is_for_prometheus and labels not in self._scraped
            family.add_metric(labels, 0.0 if is_new else value)
            if is_new:
                self._scraped.add(labels)
        yield family

    def _family(self) -> CounterMetricFamily:
        return CounterMetricFamily(self.name, self.text, labels=self.labels)
