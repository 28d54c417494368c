"""A simulated month of 500 jobs, planned, decided and accounted by the product's own code.

Made up are the grid (three zones with days, nights and weather), what people ask for, the power
that their pods draw, and some mishaps. Everything that a metric says of it comes from the planner,
the books and the decisions of the product, by way of its own collectors.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final

from green_api.base import Provenance, Signal
from green_api.contract import (
    Component,
    Counter,
    Mark,
    Method,
    ModelFigures,
    Outcome,
    Progress,
    Result,
    RoundsProgress,
    SiteProgress,
    Summary,
)
from green_api.job import GreenTrainingJob
from green_api.status import JobStatus
from green_api.units import Intensity, Power
from green_operator.account.book import AttemptBook, Book
from green_operator.account.readings import Sample
from green_operator.account.statement import statement_of
from green_operator.lifecycle.decide import decide
from green_operator.lifecycle.types import Obstacle, RoleView, RunEnd, RunView, Snapshot
from green_operator.metrics import Metrics, OperatorMetrics, Standing, standing
from green_operator.plan.planner import plan_fleet
from green_operator.plan.types import Fleet, JobRequest, Outlook, Plan, Slot

BEGIN: Final = datetime(2026, 6, 1, tzinfo=UTC)
END: Final = BEGIN + timedelta(days=30)
STEP: Final = timedelta(minutes=15)
HOUR: Final = timedelta(hours=1)
MARGIN: Final = timedelta(minutes=15)
KEPT: Final = timedelta(days=2)
JOBS: Final = 500
JOB_LIMIT: Final = 40
"""Fewer than are there at times: some that have started have no series."""
FALLBACK: Final = ("de", BEGIN + timedelta(days=26), timedelta(hours=12))
"""A zone whose provider is away, since when and how long: a fallback takes over after six hours."""
UNKNOWN: Final = ("gb", BEGIN + timedelta(days=27), timedelta(hours=12))
"""A zone whose intensity was forecast, and of which nobody then says what it is."""
NAMESPACES: Final = ("language", "speech", "vision", "weather")
ZONES: Final = {
    "de": (Signal.AVERAGE_LIFECYCLE, 380, 190),
    "fr": (Signal.AVERAGE_LIFECYCLE, 55, 20),
    "gb": (Signal.AVERAGE_DIRECT, 170, 90),
}
_GPU_WATTS: Final = 330.0
_CPU_WATTS: Final = 45.0


def _is_in(span: tuple[str, datetime, timedelta], zone: str, moment: datetime) -> bool:
    """Whether a moment in a zone is in a span."""
    where, begin, length = span
    return zone == where and begin <= moment < begin + length


def outlooks(seed: random.Random) -> dict[str, Outlook]:
    """Half-hours of a month and some days: clean noons and nights, and weather over days."""
    found = {}
    for zone, (signal, mean, swing) in ZONES.items():
        wind, slots = 0.0, []
        for number in range(34 * 48):
            at = BEGIN + number * HOUR / 2
            hour = at.hour + at.minute / 60
            wind = 0.995 * wind + seed.gauss(0, 0.06)
            day = 0.6 * math.cos((hour - 19) / 24 * 4 * math.pi) + 0.4 * math.cos(
                (hour - 19) / 12 * math.pi
            )
            grams = max(mean + swing * (0.6 * day - 0.5 * math.tanh(wind)), 8)
            slots.append(Slot(at, at + HOUR / 2, Intensity(round(grams, 1))))
        found[zone] = Outlook(zone, signal, tuple(slots))
    return found


@dataclass
class Work:
    """One job, its pods' behaviour and the product's view of it."""

    job: GreenTrainingJob
    zone: str
    created: datetime
    deadline: datetime
    duration: timedelta
    outlook: Outlook
    gpus: int
    measured: bool
    """Its pods can read the counters of their GPUs."""
    mishap: str = ""
    book: Book = field(init=False)
    known: Outlook = field(init=False)
    """What energy is accounted with."""
    plan: Plan | None = None
    status: JobStatus | None = None
    attempt: AttemptBook | None = None
    started: datetime | None = None
    joules: dict[Component, float] = field(default_factory=dict)
    done: timedelta = timedelta(0)
    late_by: timedelta = timedelta(0)
    """So long its pods cannot start once they ought to."""
    stalled_for: timedelta = timedelta(0)
    """So long its sites do not suffice, after a third of the work."""
    changes: list[tuple[datetime, bool]] = field(default_factory=list)
    """When a pod began to work (true) or ceased to, in their order."""

    def __post_init__(self) -> None:
        self.book = Book(Power(400.0 * self.gpus + 16), self.created)
        slots = self.outlook.slots
        told = tuple(s for s in slots if not _is_in(UNKNOWN, self.zone, s.start))
        self.known = replace(self.outlook, slots=told)

    @property
    def is_final(self) -> bool:
        return self.status is not None and self.status.state.is_final

    @property
    def is_stalled(self) -> bool:
        return self.stalled_for > timedelta(0) and self.done >= self.duration / 3


def works(seed: random.Random, grids: dict[str, Outlook]) -> list[Work]:
    """What people ask for in a month, more on weekdays and by day."""
    found = []
    homes = {
        "language": ("de", "fr"),
        "speech": ("gb",),
        "vision": ("de", "gb"),
        "weather": ("fr",),
    }
    mishaps = [""] * 40 + [
        "unseen end",
        "not answering",
        "unschedulable",
        "lost",
        "too much",
        "fails",
        "site away",
    ]
    for number in range(JOBS):
        created = BEGIN + seed.random() * timedelta(days=30)
        created = created.replace(minute=created.minute // 15 * 15, second=0, microsecond=0)
        namespace = seed.choice(NAMESPACES)
        zone = seed.choice(homes[namespace])
        hours = seed.choice((1, 2, 3, 4, 6, 8, 12))
        mishap = seed.choice(mishaps)
        within = math.ceil(hours * seed.uniform(1.5, 4)) + 6
        kind = "train"
        if namespace in {"vision", "speech"}:
            kind = seed.choice(("compress", "compress", "compress", "federate", "train"))
        if mishap == "site away":
            kind = "federate"
        job = _job(namespace, f"{kind}-{number:03}", within, hours, _TASKS[kind])
        slots = tuple(
            s for s in grids[zone].slots
            if s.end > created and s.start < created + timedelta(hours=within + 72)
        )  # fmt: skip
        took = timedelta(hours=hours) * (2.5 if mishap == "too much" else seed.uniform(0.8, 1.0))
        found.append(
            Work(
                job, zone, created, created + timedelta(hours=within), took,
                Outlook(zone, grids[zone].signal, slots), seed.choice((1, 1, 2, 4)),
                measured=namespace != "weather", mishap=mishap,
                late_by=timedelta(hours=2) if mishap in {"unschedulable", "lost"} else timedelta(0),
                stalled_for=HOUR if mishap == "site away" else timedelta(0),
            )
        )  # fmt: skip
    return sorted(found, key=lambda w: w.created)


_TASKS: Final[dict[str, dict[str, object]]] = {
    "train": {"train": {"command": ["python", "train.py"]}},
    "compress": {
        "compress": {
            "model": {"builtin": "fashion-cnn", "trainEpochs": 2},
            "data": {"builtin": "fashion-mnist"},
            "steps": [{"prune": {"ratio": 0.5}}],
        }
    },
    "federate": {
        "federate": {
            "model": {"builtin": "fashion-cnn"},
            "data": {"builtin": "fashion-mnist"},
            "rounds": 40,
            "partition": {"sites": 3},
        }
    },
}


def _job(
    namespace: str, name: str, within: int, hours: int, task: dict[str, object]
) -> GreenTrainingJob:
    document = {
        "apiVersion": "greentraining.io/v1alpha1",
        "kind": "GreenTrainingJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "task": task,
            "schedule": {"completeWithin": f"{within}h", "expectedDuration": f"{hours}h",
                         "interruptible": True},
            "storage": {"claimName": "models"},
            "ttlSecondsAfterFinished": int(KEPT.total_seconds()),
        },
    }  # fmt: skip
    return GreenTrainingJob.parse(document, name)


def _turn(work: Work, now: datetime, seed: random.Random) -> None:
    """What became of a job since the last look, and what is decided now."""
    end, obstacle = None, None
    if work.attempt is not None:
        end = _advance(work, now, seed)
    plan = work.plan
    if plan is None or plan.windows[0].end <= now:
        work.plan = plan = _planned(work, now)
    if work.status is None:
        # What is planned is told before any pod is made.
        work.status = decide(_snapshot(work, now, None, None)).status
    due = plan.runs_at(now) and end is None
    if due and work.late_by > timedelta(0):
        work.late_by -= STEP
        reason = "Unschedulable" if work.mishap == "unschedulable" else "PodNotEnding"
        obstacle = Obstacle(reason, "0/8 nodes are available")
    elif due and work.attempt is None:
        work.started = work.started or now
        work.joules = {}
        work.attempt = work.book.begin(
            f"{work.job.metadata.name}-{work.book.attempts}", now, work.zone
        )
        work.changes.append((now, True))
    elif not due and work.attempt is not None and end is None:
        _stop(work, now, succeeded=False)
    snapshot = _snapshot(work, now, end, obstacle)
    work.status = decide(snapshot).status


def _planned(work: Work, now: datetime) -> Plan:
    remaining = max(work.duration - work.done, timedelta(minutes=20))
    expected = work.job.spec.schedule.expected_duration or remaining
    request = JobRequest(
        key="job", zones=(work.zone,), remaining=min(remaining, expected) if not work.done else remaining,
        power=work.book.reserved, deadline=work.deadline, interruptible=True,
    )  # fmt: skip
    return plan_fleet(Fleet((request,), {work.zone: work.outlook}, MARGIN), now)["job"]


def _advance(work: Work, now: datetime, seed: random.Random) -> RunEnd | None:
    """Let the pod work for a step; how its run ended, if it did."""
    attempt = work.attempt
    assert attempt is not None
    if work.is_stalled:
        work.stalled_for -= STEP
    else:
        work.done += STEP
    seconds = STEP.total_seconds()
    parts = ((Component.GPU, _GPU_WATTS * work.gpus), (Component.CPU, _CPU_WATTS * work.gpus))
    for part, watts in parts:
        work.joules[part] = work.joules.get(part, 0) + watts * seed.uniform(0.8, 1.1) * seconds
    if work.mishap == "fails" and work.done > work.duration / 2:
        _stop(work, now, succeeded=False)
        return RunEnd.FAILED
    if work.done >= work.duration:
        _stop(work, now, succeeded=True)
        return RunEnd.COMPLETE
    if work.mishap != "not answering":
        work.book.enter(attempt, _sample(work, now, Mark.SAVED), work.known)
    return None


def _stop(work: Work, now: datetime, *, succeeded: bool) -> None:
    attempt = work.attempt
    assert attempt is not None
    if work.mishap != "unseen end" or succeeded:
        work.book.enter(attempt, _sample(work, now, Mark.ENDED), work.known)
    work.book.end(attempt, now, succeeded=succeeded, intensity=work.known)
    work.changes.append((now, False))
    work.attempt = None


def _sample(work: Work, now: datetime, mark: Mark) -> Sample:
    gpu = (
        (Provenance.MEASURED, Method.NVML_COUNTER)
        if work.measured else (Provenance.ESTIMATED, Method.RESERVED)
    )  # fmt: skip
    cpu = (
        (Provenance.ATTRIBUTED, Method.RAPL_SHARE)
        if work.measured else (Provenance.ESTIMATED, Method.PROCESS_CPU_TIME)
    )  # fmt: skip
    counters = tuple(
        Counter(component=part, provenance=kind, method=method, joules=work.joules.get(part, 0))
        for part, (kind, method) in ((Component.GPU, gpu), (Component.CPU, cpu))
    )
    return Sample(now, mark, counters)


def _snapshot(work: Work, now: datetime, end: RunEnd | None, obstacle: Obstacle | None) -> Snapshot:
    runs = work.attempt is not None
    run = RunView(
        number=1, suspend=not runs and obstacle is None, active=int(runs or obstacle is not None),
        running=int(runs), failed_attempts=int(end is RunEnd.FAILED), end=end,
        reason="BackoffLimitExceeded" if end is RunEnd.FAILED else "",
        message="more attempts failed than retries allow" if end is RunEnd.FAILED else "",
        summary=_summary(work) if end is RunEnd.COMPLETE else None,
        name="run", uid="run", obstacle=obstacle,
    )  # fmt: skip
    blind = work.mishap == "not answering"
    return Snapshot(
        job=work.job, now=now, deadline=work.deadline, plan=work.plan, intensity_known=True,
        intensity_source="simulated", run=run, started=work.started, attempts=work.book.attempts,
        active_time=work.book.active_time(now),
        progress=None if blind else _progress(work),
        progress_problem="its port refuses" if blind and runs else "",
        statement=statement_of(work.book) if work.book.attempts else None,
        previous=work.status, account=work.book.to_status(), roles=_roles(work, run),
    )  # fmt: skip


def _progress(work: Work) -> Progress:
    """How far it is; a federated job's rounds, a few updates of one site dropped."""
    share = min(work.done / work.duration, 0.99)
    task, rounds = work.job.spec.task.federate, None
    if task is not None:
        done = int(share * task.rounds)
        sites = [
            SiteProgress(
                name=name, rounds=done - (lost := done // 9 if name == "site-1" else 0),
                dropped=lost, bytes=500_000 * done, examples=20_000,
            )
            for name in task.names
        ]  # fmt: skip
        accuracy = 0.9 - 0.8 * math.exp(-done / 6)
        stalled = "site-2 is missing" if work.is_stalled else ""
        rounds = RoundsProgress(rounds=done, accuracy=accuracy, sites=sites, stalled=stalled)
    return Progress(percentage=100 * share, rounds=rounds)


def _roles(work: Work, run: RunView) -> tuple[RoleView, ...]:
    """Server and sites; the books of this month are kept for the job as a whole."""
    task = work.job.spec.task.federate
    if task is None or not work.book.attempts:
        return ()
    return tuple(RoleView(role, run, work.zone, None) for role in task.roles)


def _summary(work: Work) -> Summary:
    original = ModelFigures(parameters=61_042, bytes=247_000, accuracy=0.902, runtime="PyTorch")
    size = 20_000 + hash_of(work.job.metadata.name) % 30_000
    final = original.model_copy(update={"bytes": size, "accuracy": 0.896 + size % 100 / 1e4})
    result = (
        Result(original=original, final=final) if work.job.spec.task.kind == "compress" else None
    )
    return Summary(
        attempt="a", outcome=Outcome.SUCCEEDED, message="the task is complete", result=result,
        report_path="report.json", report_sha256="0" * 64,
    )  # fmt: skip


def hash_of(name: str) -> int:
    """A number of a name that is the same in every process."""
    return sum(ord(c) * 31**i for i, c in enumerate(name))


@dataclass
class Month:
    """The month as it goes by: after each step the metrics are as they are scraped then."""

    metrics: Metrics = field(default_factory=lambda: Metrics(JOB_LIMIT))
    finished: list[Work] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.seed = random.Random(500)
        self.grids = outlooks(self.seed)
        self.own = OperatorMetrics(self.metrics.registry)
        self.own.leader.set(1)

    def run(self) -> Iterator[datetime]:
        """Each step's time."""
        coming, live = works(self.seed, self.grids), list[Work]()
        now = BEGIN
        while now <= END:
            while coming and coming[0].created <= now:
                live.append(coming.pop(0))
            for work in live:
                if not work.is_final:
                    self._look_at(work, now)
            for work in [w for w in live if self._expired(w, now)]:
                live.remove(work)
                self.metrics.forget(work.job.metadata.namespace, work.job.metadata.name)
            self._count(live, now)
            yield now
            now += STEP
        self.finished += live

    def _look_at(self, work: Work, now: datetime) -> None:
        first = work.started is None
        _turn(work, now, self.seed)
        assert work.status is not None
        statement = statement_of(work.book) if work.book.attempts else None
        self.metrics.record(work.job, work.status, statement)
        if first and work.started is not None:
            self.metrics.started(work.job.metadata.namespace, now - work.created)
        self.own.reconcile_seconds.observe(self.seed.lognormvariate(-4.5, 0.5))
        self.own.plan_seconds.observe(self.seed.lognormvariate(-6, 0.4))
        self.own.requests.labels("apply", "greentrainingjobs", "200").inc()
        self.own.requests.labels("GET", "pods", "200").inc(self.seed.randrange(3))
        if self.seed.random() < 0.01:
            self.own.requests.labels("apply", "greentrainingjobs", "409").inc()
            self.own.reconcile_errors.labels("Conflict").inc()
        if self.seed.random() < 0.001:
            self.own.requests.labels("GET", "pods", "503").inc()
            self.own.reconcile_errors.labels("Refused").inc()

    def _expired(self, work: Work, now: datetime) -> bool:
        ended = work.status.completion_time if work.status is not None else None
        if ended is None or now < ended + KEPT:
            return False
        self.finished.append(work)
        return True

    def _count(self, live: list[Work], now: datetime) -> None:
        standings: list[Standing] = [standing(w.job, w.status) for w in live]
        self.metrics.count_jobs(standings)
        known = {z: o.slots[(now - BEGIN) // (HOUR / 2)].intensity for z, o in self.grids.items()}
        unknown = {z for z in ZONES if _is_in(UNKNOWN, z, now)}
        away = {z for z in ZONES if _is_in(FALLBACK, z, now)} | unknown
        waited = (now - FALLBACK[1]).total_seconds()
        on_fallback = {z for z in away - unknown if waited >= 6 * 3600}
        self.metrics.show_intensities(
            {z: (self.grids[z].signal, known[z]) for z in ZONES if z not in unknown}
        )
        age = {(z,): 20.0 for z in ZONES if z not in unknown}
        self.own.zone_data_age.show(age | {(z,): waited for z in away - unknown - on_fallback})
        self.own.zone_source.show(
            {(z,): -1.0 if z in unknown else float(z in on_fallback) for z in ZONES}
        )
        for zone in ZONES:
            self.own.zone_polls.labels(zone, "failed" if zone in away else "succeeded").inc()
        due = self.seed.choice((0, 0, 0, 1, 2))
        self.own.queue_depth.set(due)
        self.own.queue_oldest.set(due / 10)
        self.own.last_reconcile.set(now.timestamp())


@lru_cache(maxsize=100_000)
def _series(name: str, labels: tuple[tuple[str, str], ...]) -> str:
    inside = ",".join(f'{k}="{v}"' for k, v in labels)
    return f"{name}{{{inside}}}"


def write(month: Month, file: Path) -> int:
    """Write the month as scrapes in OpenMetrics; how many samples that are."""
    count = 0
    scraped = (("instance", "10.42.0.7:8080"), ("job", "green-training"))
    with file.open("w") as out:
        for now in month.run():
            stamp = int(now.timestamp())
            lines = [
                f"{_series(s.name, (*scraped, *s.labels.items()))} {s.value} {stamp}\n"
                for family in month.metrics.registry.collect()
                for s in family.samples
            ]
            count += len(lines)
            out.writelines(lines)
        out.write("# EOF\n")
    return count
