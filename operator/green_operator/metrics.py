"""Prometheus metrics; the names are the operator's, on one machine and in a cluster.

Counters grow by what a status has just made durable; per-job series are gauges read from it.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from green_api.base import Signal
from green_api.job import GreenTrainingJob
from green_api.status import ConditionStatus, ConditionType, JobStatus, State
from green_api.units import JOULES_PER_KILOWATT_HOUR, Intensity
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.metrics import MetricWrapperBase

from green_operator.account.statement import Statement

# When a series began is in no use here and doubles the counters.
disable_created_metrics()  # type: ignore[no-untyped-call]

Standing = tuple[str, str, State, str]
"""A job's namespace, task and state, and what it waits for, empty where it does not."""


def standing(job: GreenTrainingJob, status: JobStatus | None) -> Standing:
    """How a job is counted among all."""
    state = status.state if status is not None else State.ACCEPTED
    running = next((c for c in status.conditions if c.type is _RUNNING), None) if status else None
    waits = running is not None and running.status is ConditionStatus.FALSE and not state.is_final
    reason = running.reason if running is not None and waits else ""
    return (job.metadata.namespace, job.spec.task.kind, state, reason)


_RUNNING: Final = ConditionType.RUNNING
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
        self.waiting = Gauge(
            "green_jobs_waiting",
            "Jobs that wait, by what they wait for (the reason of the condition Running).",
            ("namespace", "reason"),
            registry=self.registry,
        )
        self.start_delay = Histogram(
            "green_job_start_delay_seconds",
            "From a job's creation to its first start.",
            ("namespace",),
            buckets=(60, 600, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 48 * 3600, 7 * 86400),
            registry=self.registry,
        )
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
        self._counted: dict[tuple[str, str], dict[tuple[str, ...], float]] = {}
        self._gauges = [g for g in vars(self).values() if isinstance(g, Gauge) and _is_of_job(g)]

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"green_job_{name}", text, _JOB, registry=self.registry)

    def count_jobs(self, jobs: Iterable[Standing]) -> None:
        """Count jobs by state; a state without jobs is zero, so that a graph falls to it."""
        standings = Tally(jobs)
        self.jobs.clear()
        self.waiting.clear()
        for (namespace, task, state, reason), count in standings.items():
            for each in State:
                here = count if each is state else 0
                self.jobs.labels(namespace, task, each.value).inc(here)
            if reason:
                self.waiting.labels(namespace, reason).inc(count)

    def begin_after(self, job: GreenTrainingJob, statement: Statement) -> None:
        """Leave out of the counters what an earlier process has counted."""
        key = (job.metadata.namespace, job.metadata.name)
        self._counted.setdefault(key, dict(self._totals(job, statement)))

    def started(self, namespace: str, delay: timedelta) -> None:
        """A job had its first start."""
        self.start_delay.labels(namespace).observe(delay.total_seconds())

    def forget(self, namespace: str, name: str) -> None:
        """The job is gone: its series go too; what it used stays in the counters."""
        self._counted.pop((namespace, name), None)
        for gauge in self._gauges:
            with suppress(KeyError):
                gauge.remove(namespace, name)

    def record(self, job: GreenTrainingJob, status: JobStatus, statement: Statement | None) -> None:
        """Take over a job's status and account, after they were made durable."""
        self.show(job, status)
        if statement is None:
            return
        counted = self._counted.setdefault((job.metadata.namespace, job.metadata.name), {})
        for key, value in self._totals(job, statement):
            rise = value - counted.get(key, 0.0)
            if rise > 0:
                name, *labels = key
                self._counters[name].labels(*labels).inc(rise)
                counted[key] = value

    @staticmethod
    def _totals(
        job: GreenTrainingJob, statement: Statement
    ) -> Iterator[tuple[tuple[str, ...], float]]:
        """What the job has used so far: the counter with its labels, and the value."""
        sums: dict[tuple[str, ...], float] = defaultdict(float)
        for part in statement.parts:
            labels = (
                job.metadata.namespace,
                part.zone or "",
                job.spec.task.kind,
                part.provenance.value,
            )
            sums["energy", *labels] += part.amount.energy.joules
            sums["emissions", *labels] += part.amount.emissions.grams
        return iter(sums.items())

    def show(self, job: GreenTrainingJob, status: JobStatus) -> None:
        """Show a job's own figures as its status has them."""
        if status.start_time is None:
            # Ten thousand jobs that wait are counted, not listed.
            return
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

    def serve(self, port: int) -> None:
        """Answer scrapes on a port of every interface, in a thread of its own."""
        start_http_server(port, registry=self.registry)


def _is_of_job(gauge: Gauge) -> bool:
    return bool(gauge._labelnames == _JOB)


class OperatorMetrics:
    """How the operator itself fares; in the registry of the jobs' metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.leader = Gauge(
            "green_leader", "1 where this replica is the one that acts.", registry=registry
        )
        self.reconcile_seconds = Histogram(
            "green_reconcile_duration_seconds",
            "From taking a job from the queue to its status being written.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self.reconcile_errors = Counter(
            "green_reconcile_errors",
            "Reconciliations that failed and are tried again.",
            ("reason",),
            registry=registry,
        )
        self.queue_depth = Gauge(
            "green_queue_depth", "Jobs that are due to be reconciled.", registry=registry
        )
        self.last_reconcile = Gauge(
            "green_last_reconcile_timestamp_seconds",
            "When a job was last reconciled without an error.",
            registry=registry,
        )
        self.plan_seconds = Histogram(
            "green_plan_duration_seconds",
            "Planning of the jobs whose inputs changed.",
            buckets=(0.001, 0.01, 0.1, 0.5, 1, 5, 20, 60),
            registry=registry,
        )
        self.requests = Counter(
            "green_api_requests",
            "Requests to the Kubernetes API, watches not included.",
            ("verb", "resource", "code"),
            registry=registry,
        )
        self.zone_data_age = Gauge(
            "green_zone_data_age_seconds",
            "Age of the intensity data in use; absent where none is.",
            ("zone",),
            registry=registry,
        )
        self.zone_polls = Counter(
            "green_zone_polls",
            "Questions to providers of intensity.",
            ("zone", "result"),
            registry=registry,
        )


def describe(*groups: object) -> list[Description]:
    """All metrics of these groups by name, as they are scraped."""
    found = []
    values = (value for group in groups for value in vars(group).values())
    for collector in (v for v in values if isinstance(v, MetricWrapperBase)):
        (metric,) = collector.describe()
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        labels = tuple(collector._labelnames)
        found.append(Description(name, metric.type, labels, metric.documentation))
    return sorted(found, key=lambda d: d.name)
