"""Prometheus metrics; the names are the operator's, on one machine and in a cluster.

Counters grow by what a status has just made durable; per-job series are gauges read from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from green_api.base import Signal
from green_api.job import GreenTrainingJob
from green_api.status import JobStatus, State
from green_api.units import JOULES_PER_KILOWATT_HOUR, Intensity
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server
from prometheus_client.metrics import MetricWrapperBase

from green_operator.account.statement import Statement

_JOB: Final = ("namespace", "name")
_TOTALS: Final = ("namespace", "zone", "task", "provenance")


@dataclass(frozen=True, slots=True)
class Description:
    """A metric as the reference describes it."""

    name: str
    type: str
    labels: tuple[str, ...]
    text: str


class Metrics:
    """The collectors, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.jobs = Gauge(
            "green_jobs", "Jobs by state.", ("namespace", "task", "state"), registry=self.registry
        )
        self.energy = Counter(
            "green_energy_joules",
            "Energy of all attempts, by how it was found.",
            _TOTALS,
            registry=self.registry,
        )
        self.emissions = Counter(
            "green_emissions_grams",
            "Location-based emissions, CO2 equivalent, of energy whose hour's intensity is known.",
            _TOTALS,
            registry=self.registry,
        )
        self.job_energy = self._gauge("energy_joules", "Energy so far.")
        self.job_emissions = self._gauge("emissions_grams", "Location-based emissions so far.")
        self.job_unaccounted = self._gauge(
            "unaccounted_energy_joules", "Energy of hours whose carbon intensity is not known."
        )
        self.job_difference = self._gauge(
            "emissions_difference_grams",
            "Counterfactual less actual emissions, signed; the counterfactual is the useful work "
            "without pauses from the earliest feasible start.",
        )
        self.job_progress = self._gauge("progress_ratio", "Share of the work that is done.")
        self.job_planned_start = self._gauge(
            "planned_start_timestamp_seconds", "Next planned start, on the planner's clock."
        )
        self.job_attempts = self._gauge("attempts", "Attempts so far.")
        self.job_active = self._gauge("active_seconds", "Run time so far, pauses not counted.")
        self.intensity = Gauge(
            "green_zone_carbon_intensity_grams_per_joule",
            "Carbon intensity now, CO2 equivalent; times 3.6e6 is g/kWh.",
            ("zone", "signal"),
            registry=self.registry,
        )
        self._counters = {
            "energy": self.energy,
            "emissions": self.emissions,
        }
        self._counted: dict[tuple[str, ...], float] = {}

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"green_job_{name}", text, _JOB, registry=self.registry)

    def count_jobs(self, jobs: Iterable[tuple[GreenTrainingJob, JobStatus | None]]) -> None:
        """Count jobs by state; a state without jobs is zero, so that a graph falls to it."""
        self.jobs.clear()
        for job, status in jobs:
            for state in State:
                here = status is not None and status.state is state
                self.jobs.labels(job.metadata.namespace, job.spec.task.kind, state.value).inc(
                    1.0 if here else 0.0
                )

    def begin_after(self, job: GreenTrainingJob, statement: Statement) -> None:
        """Leave out of the counters what an earlier process has counted."""
        for name, labels, value in self._totals(job, statement):
            self._counted[name, job.metadata.namespace, job.metadata.name, *labels] = value

    def record(self, job: GreenTrainingJob, status: JobStatus, statement: Statement | None) -> None:
        """Take over a job's status and account, after they were made durable."""
        self._record_gauges(job, status)
        if statement is None:
            return
        for name, labels, value in self._totals(job, statement):
            key = (name, job.metadata.namespace, job.metadata.name, *labels)
            rise = value - self._counted.get(key, 0.0)
            if rise > 0:
                self._counters[name].labels(*labels).inc(rise)
                self._counted[key] = value

    @staticmethod
    def _totals(
        job: GreenTrainingJob, statement: Statement
    ) -> Iterator[tuple[str, tuple[str, ...], float]]:
        """What the job has used so far: the counter, its labels and the value."""
        for provenance, amount in statement.by_provenance.items():
            labels = (
                job.metadata.namespace,
                statement.zone or "",
                job.spec.task.kind,
                provenance.value,
            )
            yield "energy", labels, amount.energy.joules
            yield "emissions", labels, amount.emissions.grams

    def _record_gauges(self, job: GreenTrainingJob, status: JobStatus) -> None:
        name = (job.metadata.namespace, job.metadata.name)
        if status.planned_start is not None:
            self.job_planned_start.labels(*name).set(status.planned_start.timestamp())
        if status.energy is not None:
            self.job_energy.labels(*name).set(status.energy.joules)
        if status.emissions is not None:
            self.job_emissions.labels(*name).set(status.emissions.micrograms / 1e6)
            self.job_unaccounted.labels(*name).set(status.emissions.unaccounted_joules)
            if status.emissions.difference_micrograms is not None:
                difference = status.emissions.difference_micrograms / 1e6
                self.job_difference.labels(*name).set(difference)
        if status.progress is not None and status.progress.progress_percentage is not None:
            self.job_progress.labels(*name).set(status.progress.progress_percentage / 100)
        if status.run is not None:
            self.job_attempts.labels(*name).set(status.run.attempts)
            self.job_active.labels(*name).set(status.run.active_seconds)

    def set_intensity(self, zone: str, signal: Signal, intensity: Intensity) -> None:
        """The zone's intensity now."""
        grams_per_joule = intensity.grams_per_kilowatt_hour / JOULES_PER_KILOWATT_HOUR
        self.intensity.labels(zone, signal.value).set(grams_per_joule)

    def describe(self) -> list[Description]:
        """All metrics by name, as they are scraped."""
        found = []
        for collector in (c for c in vars(self).values() if isinstance(c, MetricWrapperBase)):
            (metric,) = collector.describe()
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            labels = tuple(collector._labelnames)
            found.append(Description(name, metric.type, labels, metric.documentation))
        return sorted(found, key=lambda d: d.name)

    def serve(self, port: int) -> None:
        """Answer scrapes on a port of every interface, in a thread of its own."""
        start_http_server(port, registry=self.registry)
