"""Series of single jobs: gauges that say what a job's status says, of so many jobs at most."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from green_api.base import Provenance
from green_api.config import OperatorConfig
from green_api.contract import Result
from green_api.federate import SERVER
from green_api.status import ConditionStatus, ConditionType, JobStatus, State
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from green_operator.metrics.series import Labels, Shown

DEFAULT_JOB_LIMIT: Final = OperatorConfig().jobs_with_metrics
"""So many jobs have series of their own."""

_JOB: Final = ("namespace", "name")
_BY_PROVENANCE: Final = "energy_by_provenance_joules"
_EMISSIONS: Final = "emissions_grams"
_DIFFERENCE: Final = "emissions_difference_grams"
_ZONE: Final = "zone_info"
_LABEL: Final = {
    _BY_PROVENANCE: "provenance",
    _EMISSIONS: "signal",
    _DIFFERENCE: "signal",
    _ZONE: "zone",
}
"""What some say beside the job: figures of two kinds of intensity are never added up."""
_MIXED: Final = "Mixed"
"""In the place of a signal, where a job's emissions rest on several."""
_TEXTS: Final = {
    "energy_joules": "Energy so far, measured, attributed and estimated.",
    _BY_PROVENANCE: "Energy so far, by how it was found.",
    _EMISSIONS: "Location-based emissions so far, by the kind of intensity; Mixed where a job met "
    "several.",
    "unaccounted_energy_joules": "Energy of hours whose carbon intensity is not known; absent "
    "where there is none. A job that has some has no difference.",
    _DIFFERENCE: "Counterfactual less actual emissions, signed; the "
    "counterfactual is the useful work without pauses from the earliest feasible start.",
    "progress_ratio": "Share of the work that is done; a job with a size_ratio is done.",
    "planned_start_timestamp_seconds": "When its first start was planned, on the planner's clock.",
    "start_timestamp_seconds": "First start.",
    "deadline_timestamp_seconds": "When it must have ended.",
    "attempts": "Attempts so far.",
    "active_seconds": "Run time so far, pauses not counted.",
    _ZONE: "1, with the grid zone that it runs in; of a federated job the server's.",
    "running": "1 while a pod works, else 0.",
    "running_changed_timestamp_seconds": "When it last began or ceased to run.",
    "accuracy_ratio": "Accuracy of the global model after the last round, on the server's test "
    "data; of federated jobs.",
    "accuracy_change_ratio": "Accuracy of the final less that of the original model, as shares of "
    "the test set; of compressed models.",
    "size_ratio": "Size of the final model's file to the original's; of compressed models.",
}
Figures = dict[tuple[str, str], float]
"""Of one job, by the metric's short name and its further label, empty where it has none."""


@dataclass(frozen=True, slots=True)
class _Job:
    figures: Figures
    started: datetime
    ended: datetime | None

    @property
    def rank(self) -> tuple[bool, datetime]:
        """The higher, the longer it keeps its series: unfinished ones, then the latest."""
        return (self.ended is None, self.ended or self.started)


class JobSeries(Collector):
    """The series of jobs that have started, at most 16 each.

    Args:
        limit: of so many jobs; of more, those that ended first have none, and if that is not
            enough those that started first.
        registry: where they are scraped.

    """

    def __init__(self, limit: int, registry: CollectorRegistry) -> None:
        self.metrics = tuple(
            Shown(
                f"green_job_{name}",
                text,
                (*_JOB, _LABEL[name]) if name in _LABEL else _JOB,
            )
            for name, text in _TEXTS.items()
        )
        self.left_out = Shown(
            "green_jobs_without_series",
            "Jobs that have started and have no series of their own, because too many have.",
            (),
            registry,
        )
        self._limit = limit
        self._jobs: dict[tuple[str, str], _Job] = {}
        self._choose()
        registry.register(self)

    def show(self, namespace: str, name: str, status: JobStatus) -> None:
        """Show what the status says, and no more than that."""
        if status.start_time is None:
            # Ten thousand jobs that wait are counted, not listed.
            self._jobs.pop((namespace, name), None)
        else:
            ended = status.completion_time
            self._jobs[namespace, name] = _Job(figures_of(status), status.start_time, ended)

    def forget(self, namespace: str, name: str) -> None:
        """The job is gone, and its series with it."""
        self._jobs.pop((namespace, name), None)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The families without samples."""
        return [family for metric in self.metrics for family in metric.describe()]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The families as they are now."""
        values: dict[str, dict[Labels, float]] = defaultdict(dict)
        for (namespace, name), job in self._choose():
            for (short, label), value in job.figures.items():
                labels = (namespace, name, *filter(None, [label]))
                values[f"green_job_{short}"][labels] = value
        for metric in self.metrics:
            metric.show(values[metric.name])
            yield from metric.collect()

    def _choose(self) -> list[tuple[tuple[str, str], _Job]]:
        jobs = list(self._jobs.items())
        excess = max(len(jobs) - self._limit, 0)
        self.left_out.show({(): float(excess)})
        if not excess:
            return jobs
        return heapq.nlargest(self._limit, jobs, key=lambda item: item[1].rank)


def figures_of(status: JobStatus) -> Figures:
    """What a status says of its job in figures; what it does not say is absent."""
    figures: dict[str, float | None] = {
        "running": float(status.state is State.RUNNING),
        "planned_start_timestamp_seconds": _time(status.first_planned_start),
        "start_timestamp_seconds": _time(status.start_time),
        "deadline_timestamp_seconds": _time(status.deadline),
        "running_changed_timestamp_seconds": next(
            (_time(c.last_transition_time) for c in status.conditions if c.type is _RUNNING), None
        ),
    }
    parts: Figures = {}
    if status.energy is not None:
        energy = status.energy
        figures["energy_joules"] = energy.joules
        parts[_BY_PROVENANCE, Provenance.MEASURED.value] = energy.measured_joules
        parts[_BY_PROVENANCE, Provenance.ATTRIBUTED.value] = energy.attributed_joules
        parts[_BY_PROVENANCE, Provenance.ESTIMATED.value] = energy.estimated_joules
    if status.emissions is not None:
        difference, signal = status.emissions.difference_micrograms, _signal(status)
        parts[_EMISSIONS, signal] = status.emissions.micrograms / 1e6
        if status.emissions.unaccounted_joules:
            figures["unaccounted_energy_joules"] = status.emissions.unaccounted_joules
        elif difference is not None:
            parts[_DIFFERENCE, signal] = difference / 1e6
    server = next((role for role in status.roles or () if role.name == SERVER), None)
    if server is not None:
        figures["accuracy_ratio"] = server.accuracy
    if status.run is not None:
        figures["attempts"] = status.run.attempts
        figures["active_seconds"] = status.run.active_seconds
    progress, compressed = status.progress, _compressed(status.result)
    if compressed:
        figures |= compressed
    elif progress is not None and progress.progress_percentage is not None:
        figures["progress_ratio"] = progress.progress_percentage / 100
    zone = _zone(status)
    if zone is not None:
        parts[_ZONE, zone] = 1
    return {(name, ""): float(v) for name, v in figures.items() if v is not None} | parts


_RUNNING: Final = ConditionType.RUNNING


def _signal(status: JobStatus) -> str:
    is_mixed = any(
        c.type is ConditionType.SIGNAL_CONSISTENT and c.status is ConditionStatus.FALSE
        for c in status.conditions
    )
    if is_mixed or status.emissions is None:
        return _MIXED
    return status.emissions.signal.value


def _zone(status: JobStatus) -> str | None:
    """Where it ran, or else where it was planned."""
    if status.emissions is not None:
        return status.emissions.zone
    return status.plan.zone if status.plan is not None else None


def _compressed(result: Result | None) -> dict[str, float]:
    original, final = (result.original, result.final) if result is not None else (None, None)
    if original is None or final is None or not original.bytes:
        return {}
    return {
        "accuracy_change_ratio": final.accuracy - original.accuracy,
        "size_ratio": final.bytes / original.bytes,
    }


def _time(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
