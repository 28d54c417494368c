"""What the jobs are at and what they use; counters grow by what a status has made durable."""

from __future__ import annotations

from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

from green_api.base import Provenance, Signal
from green_api.federate import SERVER
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

_PLACE: Final = ("namespace", "zone", "task", "provenance")
_RESULTS: Final = ("Counted", "Dropped")
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


def standing(job: GreenTrainingJob, status: JobStatus | None) -> Standing:
    """How a job is counted, from its status."""
    return _shared(_standing(job, status))


@lru_cache(maxsize=1024)
def _shared(standing: Standing) -> Standing:
    """Thousands of jobs stand alike, and each of them would keep its own."""
    return standing


def _standing(job: GreenTrainingJob, status: JobStatus | None) -> Standing:
    namespace, task = job.metadata.namespace, job.spec.task.kind
    if status is None:
        return Standing(namespace, task, State.ACCEPTED, "")
    if status.state.is_final:
        return Standing(namespace, task, status.state, "")
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


def rejected_standing(body: Mapping[str, Any], status: Mapping[str, Any]) -> Standing:
    """How a job is counted that cannot be read: by what can be made out of it.

    Args:
        body: the object as it is stored.
        status: its status, with the condition that it is not accepted.

    """
    task = next(iter(body["spec"].get("task") or {}), "")
    said = status.get("state")
    state = State(said) if said in set(State) else State.ACCEPTED
    conditions = [] if state.is_final else status.get("conditions", [])
    kept = tuple((c["type"], c["status"], c["reason"]) for c in conditions)
    return Standing(body["metadata"]["namespace"], task, state, "", kept)


def _is_late(status: JobStatus) -> bool:
    """Whether a job ended after its deadline, or failed because of it."""
    failed = next((c for c in status.conditions if c.type is ConditionType.FAILED), None)
    if failed is not None and failed.reason == _DEADLINE_EXCEEDED:
        return True
    ended, deadline = status.completion_time, status.deadline
    return ended is not None and deadline is not None and ended > deadline


_Used = dict[tuple[Totals, Labels], float]
"""What a job has used, by the counter and its labels."""


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
        self.late = Totals(
            "green_jobs_late",
            "Jobs that ended after their deadline or failed because of it.",
            ("namespace",),
            registry,
        )
        self.energy = Totals(
            "green_energy_joules", "Energy of all attempts, by how it was found.", _PLACE, registry
        )
        self.unaccounted = Totals(
            "green_unaccounted_energy_joules",
            "Energy of hours whose carbon intensity is not known: it is in no emissions.",
            _PLACE,
            registry,
        )
        self.emissions = Totals(
            "green_emissions_grams",
            "Location-based emissions, CO2 equivalent, of energy whose hour's intensity is known; "
            "figures of two signals cannot be compared.",
            (*_PLACE, "signal"),
            registry,
        )
        self.updates = Totals(
            "green_federated_updates",
            "Updates of the sites of federated jobs: Counted in a round, or Dropped.",
            ("namespace", "result"),
            registry,
        )
        self.traffic = Totals(
            "green_federated_traffic_bytes",
            "Weights sent to the sites of federated jobs and back.",
            ("namespace",),
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
        self._signals: Mapping[str, Signal] = {}
        self._counted: dict[tuple[str, str], _Used] = {}
        self._whole: dict[tuple[str, str], _Used] = {}
        self._ended: set[tuple[str, str]] = set()

    def count_jobs(self, jobs: Iterable[Standing]) -> None:
        """Count jobs by state; a state without jobs is zero, so that a graph falls to it."""
        states: dict[Labels, float] = {}
        waiting: Tally[Labels] = Tally()
        conditions: Tally[Labels] = Tally()
        for each, count in Tally(jobs).items():
            for state in State:
                key = (each.namespace, each.task, state.value)
                states[key] = states.get(key, 0) + (count if each.state is state else 0)
            if each.waits_for:
                waiting[each.namespace, each.waits_for] += count
            for condition in each.conditions:
                conditions[(each.namespace, *condition)] += count
            # From zero on, well before the first: an increase from nothing is not seen.
            self.late.begin((each.namespace,))
            self.start_delay.labels(each.namespace)
        self.jobs.show(states)
        self.waiting.show(waiting)
        self.conditions.show(conditions)

    def begin_after(self, job: GreenTrainingJob, status: JobStatus, statement: Statement) -> None:
        """Leave out of the counters what an earlier process has counted.

        Args:
            job: one that this process has not recorded yet.
            status: what is stored of it.
            statement: what that says it has used.

        """
        key = _key(job)
        if key in self._counted:
            return
        ended = status.state.is_final
        if ended:
            self._ended.add(key)
        if not statement.parts:
            return
        self._counted[key] = used = self._used(job, status, statement, with_tails=ended)
        self._whole[key] = self._used(job, status, statement, with_tails=True)
        for total, labels in used:
            total.begin(labels)

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
            self._begin(job, zone)
        if job.spec.task.federate is not None:
            for result in _RESULTS:
                self.updates.begin((job.metadata.namespace, result))
            self.traffic.begin((job.metadata.namespace,))
        key = _key(job)
        if key in self._ended:
            return
        if status.state.is_final:
            self._ended.add(key)
            if _is_late(status):
                self.late.add((job.metadata.namespace,), 1)
        if statement is None:
            return
        used = self._used(job, status, statement, with_tails=status.state.is_final)
        counted = self._counted.setdefault(key, {})
        self._grow(counted, used)
        self._whole[key] = self._used(job, status, statement, with_tails=True)

    def show(self, job: GreenTrainingJob, status: JobStatus) -> None:
        """Show a job's own figures as its status has them."""
        self.series.show(*_key(job), status)

    def show_intensities(self, zones: Mapping[str, tuple[Signal, Intensity]]) -> None:
        """The intensity now of the zones where it is known; of any other nothing is shown."""
        self._signals = {zone: signal for zone, (signal, _) in zones.items()}
        self.intensity.show(
            {
                (zone, signal.value): intensity.grams_per_kilowatt_hour / JOULES_PER_KILOWATT_HOUR
                for zone, (signal, intensity) in zones.items()
            }
        )

    def answer(self, *, prometheus: bool) -> None:
        """Who reads next: Prometheus, or somebody who must not take its first look at a series."""
        amounts = (self.energy, self.unaccounted, self.emissions)
        for total in (*amounts, self.late, self.updates, self.traffic):
            total.is_for_prometheus = prometheus

    def serve(self, port: int) -> None:
        """Answer scrapes on a port of every interface, in a thread of its own."""
        start_http_server(port, registry=self.registry)

    def _grow(self, counted: _Used, used: _Used) -> None:
        for key, value in used.items():
            total, labels = key
            total.begin(labels)
            rise = value - counted.get(key, 0.0)
            if rise > 0:
                total.add(labels, rise)
                counted[key] = value

    def _used(
        self, job: GreenTrainingJob, status: JobStatus, statement: Statement, *, with_tails: bool
    ) -> _Used:
        used: _Used = defaultdict(float)
        namespace = job.metadata.namespace
        for site in (role for role in status.roles or () if role.name != SERVER):
            for result, count in zip(_RESULTS, (site.rounds, site.dropped_updates), strict=True):
                used[self.updates, (namespace, result)] += count
            used[self.traffic, (namespace,)] += site.bytes
        for part, sign in _signed(statement, with_tails=with_tails):
            amount = part.amount
            place = (namespace, part.zone or "", job.spec.task.kind, part.provenance.value)
            used[self.energy, place] += sign * amount.energy.joules
            used[self.unaccounted, place] += sign * amount.unaccounted.joules
            if part.signal is not None:
                used[self.emissions, (*place, part.signal.value)] += sign * amount.emissions.grams
        return used

    def _begin(self, job: GreenTrainingJob, zone: str) -> None:
        """Well before the first joule, so that every scraper sees where the series begins."""
        signal = self._signals.get(zone)
        for provenance in Provenance:
            place = (job.metadata.namespace, zone, job.spec.task.kind, provenance.value)
            self.energy.begin(place)
            self.unaccounted.begin(place)
            if signal is not None:
                self.emissions.begin((*place, signal.value))


def _key(job: GreenTrainingJob) -> tuple[str, str]:
    return (job.metadata.namespace, job.metadata.name)


def _signed(statement: Statement, *, with_tails: bool) -> Iterable[tuple[Part, int]]:
    yield from ((part, 1) for part in statement.parts)
    if not with_tails:
        yield from ((part, -1) for part in statement.tails)
