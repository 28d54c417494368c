"""``greenctl plan``: what would be done, without doing it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from green_api.errors import UserError
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from green_operator.amounts import format_emissions, format_energy
from green_operator.cli.explain import plain_console
from green_operator.cli.kubectl import Cluster, ClusterError
from green_operator.cli.live import watched
from green_operator.cli.options import (
    Context,
    FilesOrJob,
    Kubeconfig,
    Namespace,
    Secrets,
    Speed,
    Traces,
)
from green_operator.cli.planned import show_plan
from green_operator.cli.session import (
    Input,
    begin_clock,
    local_jobs,
    read_input,
    silent_sources,
)
from green_operator.local.chart import Chart, in_terminal
from green_operator.local.runner import plan_jobs, wall_clock
from green_operator.plan.explain import explain
from green_operator.plan.types import Expectation, Outlook, Plan


def plan(
    files: FilesOrJob,
    trace: Traces = None,
    secret: Secrets = None,
    speed: Speed = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Show when jobs would run here, or when a job in a cluster will; nothing is started.

    Energy is what the reserved hardware can draw (Estimated), until attempts have measured it.
    """
    if _names_a_job(files):
        if trace or secret or speed is not None:
            msg = f"{files[0]}: is no file; --trace, --secret and --speed go with manifests"
            raise UserError(msg)
        _show_stored(str(files[0]), namespace, context, kubeconfig)
        return
    given = read_input(files, trace or [], secret or [], speed, os.environ)
    console = Console(highlight=False)
    with watched(given, os.environ, None, lambda text: _say(console, text)) as watching:
        _show(watching, console)


def _names_a_job(files: Sequence[Path]) -> bool:
    """One word that is no file and does not look like one."""
    if len(files) != 1 or files[0].is_file():
        return False
    return len(files[0].parts) == 1 and files[0].suffix not in {".yaml", ".yml", ".json"}


def _show_stored(
    name: str, namespace: str | None, context: str | None, kubeconfig: str | None
) -> None:
    try:
        job = Cluster.open(namespace, context, kubeconfig).job(name)
    except ClusterError as error:
        msg = f"{name}: there is no such file; taken for a job of a cluster: {error}"
        raise ClusterError(msg) from None
    show_plan(plain_console(), job, wall_clock())


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True)


def _show(given: Input, console: Console) -> None:
    wall = wall_clock()
    clock = begin_clock(given, wall)
    now = clock.at(wall)
    jobs = local_jobs(given, clock, wall, Path("out"), {}, {})
    deadlines = [job.deadline for job in jobs if job.deadline is not None]
    resolution = given.zones.resolve(now, now, max([*deadlines, now + timedelta(days=1)]))
    for line in silent_sources(given):
        _say(console, line)
    for name, chosen in plan_jobs(jobs, clock, wall, resolution.outlook).items():
        console.rule(Text(name, style="bold"), align="left")
        parts: list[Text | Table] = [Text(explain(chosen, now)), Text(), _comparison(chosen)]
        if resolution.outlook is not None:
            parts += [Text(), _chart(chosen, resolution.outlook, now, console.width)]
        parts.append(Text(f"Intensity: {resolution.description}", style="dim"))
        if chosen.assumed:
            hours = chosen.assumed / timedelta(hours=1)
            parts.append(Text(f"Not known: {hours:.1f} h, taken at the mean of the rest."))
        console.print(Padding(Group(*parts), (0, 0, 1, 2)))


def _comparison(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("", "Intensity", "Energy, Estimated", "Emissions"):
        table.add_column(column, header_style="dim")
    for name, expectation in (("As planned", plan.expected), ("Run at once", plan.run_now)):
        table.add_row(name, *_figures(expectation))
    return table


def _figures(expectation: Expectation) -> list[str]:
    intensity, emissions = expectation.intensity, expectation.emissions
    return [
        f"{intensity.grams_per_kilowatt_hour:.0f} gCO2e/kWh" if intensity else "not known",
        format_energy(expectation.energy),
        format_emissions(emissions) if emissions else "not known",
    ]


def _chart(plan: Plan, outlook: Outlook, now: datetime, width: int) -> Text:
    end = max(plan.deadline or now, plan.windows[-1].end)
    return in_terminal(Chart(outlook.slots, now, end, plan.windows, plan.key), min(width - 4, 100))
