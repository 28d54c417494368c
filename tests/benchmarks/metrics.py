"""What a scrape costs: 10,000 live jobs, of which as many have series of their own as may.

The jobs' statuses are those of a job that ran on several days. Figures go to
build/bench/metrics.json; beside them stands what the same scrape costs with a hundred jobs.

    python -m tests.benchmarks.metrics [--jobs N] [--limit N] [--repeats N]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import urllib.request
from datetime import timedelta
from pathlib import Path

from green_api.status import EnergyStatus, JobStatus, State
from green_operator.metrics import DEFAULT_JOB_LIMIT, Metrics, OperatorMetrics, standing

from tests.cluster.harness.processes import free_port
from tests.unit.factories import T0, job
from tests.unit.test_metrics import FULL, a_statement

OUTPUT = Path(__file__).resolve().parents[2] / "build" / "bench" / "metrics.json"
MOST_SECONDS = 1.0
MOST_SERIES = 16
NAMESPACES = 40


def fill(metrics: Metrics, count: int) -> None:
    """Record so many live jobs, half of them running, in several namespaces."""
    plain, standings = job(), []
    for number in range(count):
        meta = {"name": f"job-{number}", "namespace": f"team-{number % NAMESPACES}"}
        one = plain.model_copy(update={"metadata": plain.metadata.model_copy(update=meta)})
        changes = {
            "state": State.RUNNING if number % 2 else State.SUSPENDED,
            "start_time": T0 + timedelta(seconds=number),
            "energy": EnergyStatus(joules=number + 100, measured_joules=number + 100),
        }
        status: JobStatus = FULL.model_copy(update=changes)
        metrics.record(one, status, a_statement(100))
        standings.append(standing(one, status))
    metrics.count_jobs(standings)


def measure(jobs: int, limit: int, repeats: int) -> dict[str, float]:
    """Wall time and CPU time of a scrape over HTTP, its size and its series."""
    metrics = Metrics(limit)
    OperatorMetrics(metrics.registry)
    fill(metrics, jobs)
    port = free_port()
    metrics.serve(port)
    wall, cpu, page = [], [], b""
    for _ in range(repeats):
        began, used = time.perf_counter(), time.process_time()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            page = answer.read()
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
    lines = [line for line in page.decode().splitlines() if not line.startswith("#")]
    of_jobs = sum('name="job-' in line for line in lines)
    return {
        "jobs": jobs,
        "series": len(lines),
        "seriesOfJobs": of_jobs,
        "seriesPerJob": of_jobs / min(jobs, limit),
        "bytes": len(page),
        "wallSeconds": statistics.median(wall),
        # What it takes where nobody else wants the processors.
        "leastWallSeconds": min(wall),
        "cpuSeconds": statistics.median(cpu),
    }


def main() -> int:
    """Measure and write; the exit code says whether the bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--limit", type=int, default=DEFAULT_JOB_LIMIT)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    found = [measure(count, given.limit, given.repeats) for count in (100, given.jobs)]
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(found, indent=2))
    for each in found:
        print(
            f"{each['jobs']:>6} jobs: {each['series']} series ({each['seriesPerJob']:.0f} of a job), "
            f"{each['bytes'] / 1e6:.1f} MB, {each['wallSeconds'] * 1000:.0f} ms "
            f"(least {each['leastWallSeconds'] * 1000:.0f}), "
            f"CPU {each['cpuSeconds'] * 1000:.0f} ms"
        )
    holds = found[1]["leastWallSeconds"] < MOST_SECONDS and found[1]["seriesPerJob"] <= MOST_SERIES
    print("within bounds" if holds else f"over {MOST_SECONDS} s or {MOST_SERIES} series")
    return 0 if holds else 1


raise SystemExit(main())
