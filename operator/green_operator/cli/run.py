"""``greenctl run``: plan jobs and run them here, to their end."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from green_api.contract import ExitCode
from green_api.status import State
from rich.console import Console

from green_operator.cli.display import Display
from green_operator.cli.live import watched
from green_operator.cli.options import Files, Secrets, Speed, Traces
from green_operator.cli.result import show_result
from green_operator.cli.session import (
    Input,
    Session,
    open_session,
    read_input,
    silent_sources,
)
from green_operator.local.chart import Chart, to_png
from green_operator.local.job import LocalJob
from green_operator.local.rounds import accuracies_to_png, read_accuracies
from green_operator.local.runner import Runner, Watcher, claimed, wall_clock
from green_operator.metrics import Metrics, standing
from green_operator.plan.types import Outlook, Window


def run(
    files: Files,
    trace: Traces = None,
    secret: Secrets = None,
    speed: Speed = None,
    output: Annotated[
        Path, typer.Option(help="Stands for the claim; a run that was stopped goes on in it.")
    ] = Path("out"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document: the job's status.")
    ] = False,
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Serve Prometheus metrics here.")
    ] = None,
) -> None:
    """Plan jobs and run them on this machine, suspended and resumed as the grid goes.

    Exit codes: 0 every job succeeded; 1 a job failed; 65 a manifest or a trace is wrong; 75
    stopped before the end: the same command goes on.
    """
    given = read_input(files, trace or [], secret or [], speed, os.environ)
    # With --json standard output holds the document alone.
    console = Console(stderr=as_json, highlight=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        # Until there is something to stop: an earlier attempt may have to be waited for.
        signal.signal(number, lambda *_: sys.exit(ExitCode.INTERRUPTED))
    with claimed(output / ".greenctl"):
        session = open_session(given, output, wall_clock())
        _introduce(console, given, session, output)
        with watched(given, os.environ, output, lambda text: _say(console, text)) as watching:
            finished = _run(session, watching, console, metrics_port)
            _report(console, watching, session, output)
    if as_json:
        typer.echo(_document(session.jobs))
    _exit(session.jobs, console, finished=finished)


def _introduce(console: Console, given: Input, session: Session, output: Path) -> None:
    lines = []
    if given.zones.machine is None:
        lines.append("No GridZone was given: jobs start now, and emissions are not known.")
    if given.speed is not None:
        first = session.clock.anchors[0].planned
        lines.append(
            f"Replaying zone {given.zone_name} from {first:%Y-%m-%d %H:%M} UTC, {given.speed:g} "
            "times faster: times are the trace's; energy is that of the real seconds, not scaled."
        )
    lines += [
        f"{job.job.metadata.name} goes on with what {output}/ holds of it."
        for job in session.jobs
        if job.job.metadata.name in session.remembered and not job.is_final
    ]
    lines += [
        f"{job.job.metadata.name} has ended before; nothing is run. To run it anew, choose another "
        "--output."
        for job in session.jobs
        if job.is_final
    ]
    lines += silent_sources(given)
    for line in lines:
        _say(console, line)


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True)


def _run(session: Session, given: Input, console: Console, metrics_port: int | None) -> bool:
    with ExitStack() as stack:
        watchers: list[Watcher] = [stack.enter_context(Display(console, session.jobs, given.speed))]
        if metrics_port is not None:
            watchers.append(_serve_metrics(session, given, metrics_port))
        runner = Runner(
            session.jobs,
            given.zones,
            session.clock,
            session.file,
            session.remembered,
            watchers,
        )
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: runner.stop())
        return runner.run()


class _MetricsWatcher:
    """Feeds the collectors from statuses that were saved."""

    def __init__(self, jobs: Sequence[LocalJob]) -> None:
        self.metrics = Metrics()
        self._jobs = jobs

    def changed(self, job: LocalJob) -> None:
        status = job.state.status
        if status is not None:
            self.metrics.record(job.job, status, job.statement)
        self.metrics.count_jobs(standing(j.job, j.state.status) for j in self._jobs)

    def stopping(self) -> None:
        """No figure depends on it."""

    def tick(self, jobs: Sequence[LocalJob], now: datetime, outlook: Outlook | None) -> None:
        slot = outlook.at(now) if outlook else None
        self.metrics.show_intensities(
            {outlook.zone: (outlook.signal, slot.intensity)} if outlook and slot else {}
        )


def _serve_metrics(session: Session, given: Input, port: int) -> _MetricsWatcher:
    watcher = _MetricsWatcher(session.jobs)
    now = session.clock.at(wall_clock())
    for job in session.jobs:
        known = partial(_recorded, given, job.state.created, now)
        job.account(session.clock, known)
        if job.statement is not None and job.state.status is not None:
            watcher.metrics.begin_after(job.job, job.state.status, job.statement)
    watcher.metrics.serve(port)
    return watcher


def _recorded(given: Input, start: datetime, now: datetime, zone: str | None) -> Outlook | None:
    end = now + timedelta(hours=1)
    return given.zones.resolve_zone(zone, start, now, end).recorded


def _report(console: Console, given: Input, session: Session, output: Path) -> None:
    for job in session.jobs:
        folder = output / job.job.metadata.name
        chart = _chart_of(given, session, job)
        if chart is not None:
            folder.mkdir(parents=True, exist_ok=True)
            to_png(chart, folder / "schedule.png")
        accuracies = read_accuracies(folder / "report.json")
        if accuracies:
            title = f"{job.job.metadata.name}: test accuracy by round"
            accuracies_to_png(accuracies, title, folder / "rounds.png")
        show_result(console, job, chart, accuracies, folder)


def _chart_of(given: Input, session: Session, job: LocalJob) -> Chart | None:
    """The intensity from the job's creation to its end, with the times in which it ran."""
    clock = session.clock
    own = job.state.lead.attempts
    ran = [Window(clock.at(a.started), clock.at(a.ended)) for a in own if a.ended]
    if not ran:
        return None
    start = job.state.created
    end = max(job.deadline or start, ran[-1].end) + timedelta(minutes=1)
    resolution = given.zones.resolve(start, start, end)
    if resolution.outlook is None:
        return None
    title = f"{job.job.metadata.name} in zone {resolution.outlook.zone}"
    return Chart(resolution.outlook.slots, start, end, ran, title)


def _document(jobs: Sequence[LocalJob]) -> str:
    """The status of the one job; of several, a list of objects with name and status."""
    statuses = [job.state.status.to_wire() if job.state.status else {} for job in jobs]
    if len(jobs) == 1:
        return json.dumps(statuses[0], indent=2)
    items = [
        {"metadata": {"name": job.job.metadata.name}, "status": status}
        for job, status in zip(jobs, statuses, strict=True)
    ]
    return json.dumps({"items": items}, indent=2)


def _exit(jobs: Sequence[LocalJob], console: Console, *, finished: bool) -> None:
    states = [job.state.status.state for job in jobs if job.state.status]
    if State.FAILED in states:
        raise typer.Exit(ExitCode.FAILED)
    if not finished:
        console.print("Stopped before the end; the same command goes on.")
        raise typer.Exit(ExitCode.INTERRUPTED)
