"""What the jobs are at and what they use; counters grow by what a status has made durable."""

from __future__ import annotations

from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, NamedTuple

from green_api.base import Provenance, Signal
from green_api.job import GreenTrainingJob
from green_api.status import ConditionStatus, ConditionType, JobStatus, State
from green_api.units import JOULES_PER_KILOWATT_HOUR, Intensity
from prometheus_client import (
    CollectorRegistry,
    Histogram,
    disable_created_metrics,
    start_http_server,
)

from green_operator.account.statement import Part, Statement
from green_operator.metrics.per_job import DEFAULT_JOB_LIMIT, JobSeries
from green_operator.metrics.series import Labels, Shown, Totals

# When a series began is in no use here and doubles the counters.
disable_created_metrics()  # type: ignore[no-untyped-call]

_TOTALS: Final = ("namespace", "zone", "task", "provenance")
_DEADLINE_EXCEEDED: Final = "DeadlineExceeded"


class Standing(NamedTuple):
    """How a job is counted among all."""

    namespace: str
    task: str
    state: State
    waits_for: str
    """The reason of the condition Running, empty where the job does not wait."""
    conditions: tuple[tuple[str, str, str], ...] = ()
    """Type, status and reason of its conditions; none once it has ended."""
    is_late: bool = False
    """It ended after its deadline, or failed because of it."""


def standing(job: GreenTrainingJob, status: JobStatus | None) -> Standing:
    """How a job is counted, from its status."""
    namespace, task = job.metadata.namespace, job.spec.task.kind
    if status is None:
        return Standing(namespace, task, State.ACCEPTED, "")
    if status.state.is_final:
        return Standing(namespace, task, status.state, "", is_late=_is_late(status))
    said = {c.type: c for c in status.conditions}
    running = said.get(ConditionType.RUNNING)
    waits = running is not None and running.status is ConditionStatus.FALSE
    return Standing(
        namespace,
        task,
        status.state,
        running.reason if running is not None and waits else "",
        tuple((c.type.value, c.status.value, c.reason) for c in status.conditions),
    )


def _is_late(status: JobStatus) -> bool:
    failed = next((c for c in status.conditions if c.type is ConditionType.FAILED), None)
    if failed is not None and failed.reason == _DEADLINE_EXCEEDED:
        return True
    ended, deadline = status.completion_time, status.deadline
    return ended is not None and deadline is not None and ended > deadline


@dataclass(slots=True)
class _Used:
    """What a job has used, by the labels of the counters: joules and grams."""

    joules: dict[Labels, float] = field(default_factory=lambda: defaultdict(float))
    grams: dict[Labels, float] = field(default_factory=lambda: defaultdict(float))


class Metrics:
    """The collectors of jobs and zones, in a registry of their own.

    Args:
        job_limit: so many jobs have series of their own.

    """

    def __init__(self, job_limit: int = DEFAULT_JOB_LIMIT) -> None:
        self.registry = registry = CollectorRegistry()
        self.jobs = Shown("green_jobs", "Jobs by state.", ("namespace", "task", "state"), registry)
        self.waiting = Shown(
            "green_jobs_waiting",
            "Jobs that wait, by what they wait for (the reason of the condition Running).",
            ("namespace", "reason"),
            registry,
        )
        self.conditions = Shown(
            "green_jobs_by_condition",
            "Jobs that have not ended, by what their conditions say.",
            ("namespace", "condition", "status", "reason"),
            registry,
        )
        self.late = Shown(
            "green_jobs_ended_late",
            "Jobs that ended after their deadline or failed because of it, until they are deleted.",
            ("namespace",),
            registry,
        )
        self.energy = Totals(
            "green_energy_joules", "Energy of all attempts, by how it was found.", _TOTALS, registry
        )
        self.emissions = Totals(
            "green_emissions_grams",
            "Location-based emissions, CO2 equivalent, of energy whose hour's intensity is known.",
            _TOTALS,
            registry,
        )
        self.start_delay = Histogram(
            "green_job_start_delay_seconds",
            "From a job's creation to its first start.",
            ("namespace",),
            buckets=(60, 600, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 48 * 3600, 7 * 86400),
            registry=registry,
        )
        self.intensity = Shown(
            "green_zone_carbon_intensity_grams_per_joule",
            "Carbon intensity now, CO2 equivalent; times 3.6e6 is g/kWh.",
            ("zone", "signal"),
            registry,
        )
        self.series = JobSeries(job_limit, registry)
        self._counted: dict[tuple[str, str], _Used] = {}
        self._whole: dict[tuple[str, str], _Used] = {}
        self._ended: set[tuple[str, str]] = set()

    def count_jobs(self, jobs: Iterable[Standing]) -> None:
        """Count jobs by state; a state without jobs is zero, so that a graph falls to it."""
        states: dict[Labels, float] = {}
        waiting: Tally[Labels] = Tally()
        conditions: Tally[Labels] = Tally()
        late: dict[Labels, float] = {}
        for each, count in Tally(jobs).items():
            for state in State:
                key = (each.namespace, each.task, state.value)
                states[key] = states.get(key, 0) + (count if each.state is state else 0)
            if each.waits_for:
                waiting[each.namespace, each.waits_for] += count
            for condition in each.conditions:
                conditions[(each.namespace, *condition)] += count
            late[(each.namespace,)] = late.get((each.namespace,), 0) + count * each.is_late
        self.jobs.show(states)
        self.waiting.show(waiting)
        self.conditions.show(conditions)
        self.late.show(late)

    def begin_after(self, job: GreenTrainingJob, statement: Statement, *, ended: bool) -> None:
        """Leave out of the counters what an earlier process has counted.

        Args:
            job: one that this process has not recorded yet.
            statement: what its stored status says it has used.
            ended: that status is final.

        """
        key = _key(job)
        if key in self._counted:
            return
        self._counted[key] = used = _used(job, statement, with_tails=ended)
        self._whole[key] = _used(job, statement, with_tails=True)
        if ended:
            self._ended.add(key)
        for labels in used.joules:
            self._begin(labels)

    def started(self, namespace: str, delay: timedelta) -> None:
        """A job had its first start."""
        self.start_delay.labels(namespace).observe(delay.total_seconds())

    def forget(self, namespace: str, name: str) -> None:
        """The job is gone: its series go too; what it used is and stays in the counters."""
        key = (namespace, name)
        counted, whole = self._counted.pop(key, None), self._whole.pop(key, None)
        if counted is not None and whole is not None:
            self._grow(counted, whole)
        self._ended.discard(key)
        self.series.forget(namespace, name)

    def record(self, job: GreenTrainingJob, status: JobStatus, statement: Statement | None) -> None:
        """Take over a job's status and account, after they were made durable.

        The estimated end of an attempt is counted when the job ends or is deleted: until then
        readings may come that take its place, and a counter cannot fall.
        """
        self.show(job, status)
        zone = status.plan.zone if status.plan is not None else None
        if zone is not None:
            # Well before the first joule, so that every scraper sees where the series begins.
            for provenance in Provenance:
                self._begin((job.metadata.namespace, zone, job.spec.task.kind, provenance.value))
        key = _key(job)
        if statement is None or key in self._ended:
            return
        used = _used(job, statement, with_tails=status.state.is_final)
        counted = self._counted.setdefault(key, _Used())
        self._grow(counted, used)
        self._whole[key] = _used(job, statement, with_tails=True)
        if status.state.is_final:
            self._ended.add(key)

    def show(self, job: GreenTrainingJob, status: JobStatus) -> None:
        """Show a job's own figures as its status has them."""
        self.series.show(*_key(job), status)

    def show_intensities(self, zones: Mapping[str, tuple[Signal, Intensity]]) -> None:
        """The intensity now of the zones where it is known; of any other nothing is shown."""
        self.intensity.show(
            {
                (zone, signal.value): intensity.grams_per_kilowatt_hour / JOULES_PER_KILOWATT_HOUR
                for zone, (signal, intensity) in zones.items()
            }
        )

    def answer(self, *, prometheus: bool) -> None:
        """Who reads next: Prometheus, or somebody who must not take its first look at a series."""
        self.energy.is_for_prometheus = self.emissions.is_for_prometheus = prometheus

    def serve(self, port: int) -> None:
        """Answer scrapes on a port of every interface, in a thread of its own."""
        start_http_server(port, registry=self.registry)

    def _grow(self, counted: _Used, used: _Used) -> None:
        _grow(self.energy, counted.joules, used.joules)
        _grow(self.emissions, counted.grams, used.grams)

    def _begin(self, labels: Labels) -> None:
        self.energy.begin(labels)
        self.emissions.begin(labels)


def _key(job: GreenTrainingJob) -> tuple[str, str]:
    return (job.metadata.namespace, job.metadata.name)


def _used(job: GreenTrainingJob, statement: Statement, *, with_tails: bool) -> _Used:
    used = _Used()
    for part, sign in _signed(statement, with_tails=with_tails):
        labels = (
            job.metadata.namespace, part.zone or "", job.spec.task.kind, part.provenance.value,
        )  # fmt: skip
        used.joules[labels] += sign * part.amount.energy.joules
        used.grams[labels] += sign * part.amount.emissions.grams
    return used


def _signed(statement: Statement, *, with_tails: bool) -> Iterable[tuple[Part, int]]:
    yield from ((part, 1) for part in statement.parts)
    if not with_tails:
        yield from ((part, -1) for part in statement.tails)


def _grow(total: Totals, counted: dict[Labels, float], used: Mapping[Labels, float]) -> None:
    for labels, value in used.items():
        total.begin(labels)
        rise = value - counted.get(labels, 0.0)
        if rise > 0:
            total.add(labels, rise)
            counted[labels] = value
