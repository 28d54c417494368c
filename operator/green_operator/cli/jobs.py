"""``kubectl green list``: a cluster's jobs at a glance."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

import typer
from green_api.base import format_time
from green_api.status import ConditionType, JobStatus, State
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from green_operator.cli import words
from green_operator.cli.kubectl import Cluster, StoredJob
from green_operator.cli.options import Context, Kubeconfig, Namespace
from green_operator.local.runner import wall_clock

_PIPE_WIDTH: Final = 1000
_ORDER: Final = (
    State.RUNNING,
    State.SUSPENDED,
    State.PLANNED,
    State.ACCEPTED,
    State.FAILED,
    State.SUCCEEDED,
)


class Output(StrEnum):
    """How a list is printed."""

    TABLE = "table"
    JSON = "json"


def list_jobs(
    namespace: Namespace = None,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="The jobs of all namespaces.")
    ] = False,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="A table, or JSON with whole statuses.")
    ] = Output.TABLE,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """List the jobs of a cluster: what they do or wait for, until when, and what that saves."""
    cluster = Cluster.open(namespace, context, kubeconfig)
    jobs = cluster.jobs(everywhere=all_namespaces)
    if output is Output.JSON:
        typer.echo(_document(jobs))
        return
    console = _console()
    if not jobs:
        where = "any namespace" if all_namespaces else f"namespace {cluster.namespace}"
        console.print(f"There are no jobs in {where}.")
        return
    show_jobs(console, jobs, wall_clock(), with_namespace=all_namespaces)


def _console() -> Console:
    """A console that folds nothing where nobody looks, unless it is told how wide it is."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PIPE_WIDTH
    return console


def _document(jobs: Sequence[StoredJob]) -> str:
    """The same form as ``greenctl run --json`` has for several jobs."""
    items = [
        {
            "metadata": {
                "namespace": job.namespace,
                "name": job.name,
                "uid": job.uid,
                "creationTimestamp": format_time(job.created),
            },
            "status": job.raw_status,
        }
        for job in jobs
    ]
    return json.dumps({"items": items}, indent=2)


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    cell: Callable[[StoredJob, datetime], Text]
    is_optional: bool = False
    """Left out where the terminal is too narrow, the last ones first."""


def show_jobs(
    console: Console, jobs: Sequence[StoredJob], now: datetime, *, with_namespace: bool
) -> None:
    """Print the table: what runs first, then what starts next, then what ended last."""
    ordered = sorted(jobs, key=lambda job: (job.namespace, *_place(job)))
    columns = [c for c in _COLUMNS if with_namespace or c.title != "Namespace"]
    left_out: list[str] = []
    table = _table(columns, ordered, now)
    while _natural_width(console, table) > console.width:
        last = next((c for c in reversed(columns) if c.is_optional), None)
        if last is None:
            break
        columns.remove(last)
        left_out.insert(0, last.title)
        table = _table(columns, ordered, now)
    console.print(table)
    if left_out:
        text = f"Not enough room for: {', '.join(left_out)}."
        console.print(text, style="dim")


def _natural_width(console: Console, table: Table) -> int:
    options = console.options.update(width=_PIPE_WIDTH, max_width=_PIPE_WIDTH)
    return Measurement.get(console, options, table).maximum


def _place(job: StoredJob) -> tuple[int, float, str]:
    status = job.status
    if status is None:
        return _ORDER.index(State.ACCEPTED), 0.0, job.name
    if status.state.is_final:
        ended = status.completion_time
        return _ORDER.index(status.state), -ended.timestamp() if ended else 0.0, job.name
    start = status.planned_start
    return _ORDER.index(status.state), start.timestamp() if start else 0.0, job.name


def _table(columns: Sequence[_Column], jobs: Sequence[StoredJob], now: datetime) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.title, header_style="dim")
    for job in jobs:
        table.add_row(*(column.cell(job, now) for column in columns))
    return table


def _state(job: StoredJob, now: datetime) -> Text:
    del now
    if job.status is None:
        return Text(str(job.raw_status.get("state", "-")), style="dim")
    return Text(job.status.state.value, style=words.STATE_STYLES.get(job.status.state, ""))


def _doing(job: StoredJob, now: datetime) -> Text:
    if job.status is None:
        said = "of another version" if job.is_reconciled else "never reconciled"
        return Text(said, style="red")
    is_blocked = bool(words.obstacle(job.status))
    return Text(words.doing(job.status, now), style="red" if is_blocked else "")


def _deadline(job: StoredJob, now: datetime) -> Text:
    if job.status is None:
        return Text()
    is_late = job.status.deadline is not None and job.status.deadline < now
    at_risk = words.holds(job.status, ConditionType.DEADLINE_AT_RISK)
    warns = not job.status.state.is_final and (is_late or at_risk)
    return Text(words.deadline(job.status, now), style="bold yellow" if warns else "")


def _of_status(text: Callable[[JobStatus], str]) -> Callable[[StoredJob, datetime], Text]:
    return lambda job, now: Text(text(job.status) if job.status is not None else "")


def _energy(status: JobStatus) -> str:
    return words.energy(status.energy.joules) if status.energy and words.has_used(status) else ""


_COLUMNS: Final = (
    _Column("Namespace", lambda job, now: Text(job.namespace)),
    _Column("Name", lambda job, now: Text(job.name, style="bold")),
    _Column("State", _state),
    _Column("Now", _doing),
    _Column("Deadline", _deadline),
    _Column("Difference", _of_status(words.difference), is_optional=True),
    _Column("Energy", _of_status(_energy), is_optional=True),
    _Column("Zone", _of_status(words.zone), is_optional=True),
)
