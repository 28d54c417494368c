"""What a scrape costs: 10,000 live jobs, of which as many have series of their own as may.

The page is the operator's own, which counts all jobs anew at each scrape. The jobs' statuses are
those of jobs that ran on several days; some run, some wait, some are compressed, some federated.
Figures go to build/bench/metrics.json; beside them stands what the same scrape costs with a hundred
jobs.

    python -m tests.benchmarks.metrics [--jobs N] [--limit N] [--repeats N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, cast

from green_api.contract import Result
from green_api.job import GreenTrainingJob
from green_api.status import ConditionType, EnergyStatus, JobStatus, RoleState, RoleStatus, State
from green_operator.cluster.http import serve
from green_operator.cluster.operator import Operator
from green_operator.metrics import (
    DEFAULT_JOB_LIMIT,
    Metrics,
    OperatorMetrics,
    Standing,
    standing,
)

from tests.cluster.harness.processes import free_port
from tests.unit.factories import T0, job
from tests.unit.test_metrics import FIGURES, FULL, a_statement, condition

OUTPUT: Final = Path(__file__).resolve().parents[2] / "build" / "bench" / "metrics.json"
MOST_SECONDS: Final = 1.0
MOST_SERIES: Final = 16
NAMESPACES: Final = 40
_OF_JOB: Final = re.compile(r'name="(job-\d+)"')


@dataclass
class Fleet:
    """Stands in for the operator: what a scrape asks of it, over so many jobs."""

    metrics: Metrics
    standings: list[Standing] = field(default_factory=list)

    def collect(self) -> None:
        """As the operator does it."""
        self.metrics.count_jobs(self.standings)

    def take(self, job: GreenTrainingJob, status: JobStatus) -> None:
        """Have one more job."""
        self.metrics.record(job, status, a_statement(100))
        self.standings.append(standing(job, status))


# What the jobs are at, in turn.
KINDS: Final[tuple[dict[str, Any], ...]] = (
    {"state": State.RUNNING, "conditions": [condition(ConditionType.RUNNING, True, "PodRunning")]},
    {"state": State.SUSPENDED},
    {
        "state": State.RUNNING,
        "roles": [RoleStatus(name="server", state=RoleState.RUNNING, accuracy=0.5)],
        "conditions": [
            condition(ConditionType.RUNNING, True, "PodRunning"),
            condition(ConditionType.STALLED, True, "SitesMissing"),
        ],
    },
    {
        "state": State.SUSPENDED,
        "conditions": [
            condition(ConditionType.RUNNING, False, "Unschedulable"),
            condition(ConditionType.DEADLINE_AT_RISK, True, "DoesNotFit"),
        ],
    },
    {"state": State.SUCCEEDED, "result": Result(original=FIGURES, final=FIGURES)},
)


def fill(fleet: Fleet, count: int) -> None:
    """Record so many jobs in several namespaces."""
    plain = job()
    for number in range(count):
        meta = {"name": f"job-{number}", "namespace": f"team-{number % NAMESPACES}"}
        one = plain.model_copy(update={"metadata": plain.metadata.model_copy(update=meta)})
        changes = {
            "start_time": T0 + timedelta(seconds=number),
            "energy": EnergyStatus(joules=number + 100, measured_joules=number + 100),
            **KINDS[number % len(KINDS)],
        }
        fleet.take(one, FULL.model_copy(update=changes))


def measure(jobs: int, limit: int, repeats: int) -> dict[str, float]:
    """Wall time and CPU time of a scrape over HTTP, its size and its series."""
    metrics = Metrics(limit)
    OperatorMetrics(metrics.registry)
    fleet = Fleet(metrics)
    fill(fleet, jobs)
    url = _served(fleet)
    wall, cpu, page = [], [], b""
    for _ in range(repeats):
        began, used = time.perf_counter(), time.process_time()
        with urllib.request.urlopen(url, timeout=60) as answer:
            page = answer.read()
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
    lines = [line for line in page.decode().splitlines() if not line.startswith("#")]
    of_jobs = Counter(found[1] for line in lines if (found := _OF_JOB.search(line)))
    return {
        "jobs": jobs,
        "jobsWithSeries": len(of_jobs),
        "series": len(lines),
        "mostSeriesOfAJob": max(of_jobs.values()),
        "bytes": len(page),
        "medianSeconds": statistics.median(wall),
        "mostSeconds": max(wall),
        "medianCpuSeconds": statistics.median(cpu),
    }


def _served(fleet: Fleet) -> str:
    """The address of the operator's page, once it answers; it does until the process ends."""
    port = free_port()
    page = serve(cast("Operator", fleet), port)
    threading.Thread(target=asyncio.run, args=(page,), daemon=True).start()
    url = f"http://127.0.0.1:{port}/metrics"
    while True:
        try:
            urllib.request.urlopen(url, timeout=60).read()
        except urllib.error.URLError:
            time.sleep(0.1)
        else:
            return url


def main() -> int:
    """Measure and write; the exit code says whether the bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--limit", type=int, default=DEFAULT_JOB_LIMIT)
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()
    found = [measure(count, given.limit, given.repeats) for count in (100, given.jobs)]
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(found, indent=2))
    for each in found:
        print(
            f"{each['jobs']:>6} jobs: {each['series']} series (of a job {each['mostSeriesOfAJob']} "
            f"at most), {each['bytes'] / 1e6:.1f} MB, {each['medianSeconds'] * 1000:.0f} ms "
            f"(at most {each['mostSeconds'] * 1000:.0f}), "
            f"CPU {each['medianCpuSeconds'] * 1000:.0f} ms"
        )
    whole = found[-1]
    holds = whole["medianSeconds"] < MOST_SECONDS and whole["mostSeriesOfAJob"] <= MOST_SERIES
    print("within bounds" if holds else f"over {MOST_SECONDS} s or {MOST_SERIES} series")
    return 0 if holds else 1


raise SystemExit(main())
