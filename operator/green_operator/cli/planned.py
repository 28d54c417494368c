"""The stored plan of a job in a cluster, with its windows on a time axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from green_api.status import JobStatus, PlanStatus, State, Window
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from green_operator.cli import words
from green_operator.cli.explain import headline
from green_operator.cli.kubectl import StoredJob
from green_operator.cli.result import SIGNAL_TEXT
from green_operator.lifecycle.status import PLAN

_WIDEST: Final = 100
_MOST_WINDOWS: Final = 12


def show_plan(console: Console, job: StoredJob, now: datetime) -> None:
    """Print when and where the job is to run, and what that saves."""
    console.rule(headline(job), align="left")
    console.print(Padding(Group(*_parts(console, job, now)), (0, 0, 1, 2)))


def _parts(console: Console, job: StoredJob, now: datetime) -> Iterator[RenderableType]:
    status = job.status
    if status is None or status.plan is None:
        yield Text(f"There is no plan yet; kubectl green explain {job.name} says why.")
        return
    plan = status.plan
    yield Text(_why(status, plan))
    yield Text()
    yield comparison(plan)
    ahead = [w for w in plan.windows if w.end > now]
    if ahead and not status.state.is_final:
        yield Text()
        yield _windows(ahead, now)
        yield Text()
        yield _axis(status, ahead, now, min(console.width - 4, _WIDEST))
    yield Text()
    yield from _notes(job, status, now)


def _why(status: JobStatus, plan: PlanStatus) -> str:
    if status.state.is_final:
        return "It has ended; this was its last plan."
    as_planned = status.state is State.RUNNING or words.reason(status) == PLAN
    return plan.message if as_planned else words.sentence(status.message)


def comparison(plan: PlanStatus) -> Table:
    """As planned and if run at once."""
    table = Table(box=None, pad_edge=False)
    for column in ("", "Intensity", "Energy, Estimated", "Emissions"):
        table.add_column(column, header_style="dim")
    energy = words.energy(plan.expected_energy_joules)
    table.add_row(
        "As planned",
        words.intensity(plan.intensity_grams_per_kilowatt_hour),
        energy,
        words.amount(plan.expected_emissions_micrograms),
    )
    table.add_row(
        "Run at once",
        words.intensity(plan.run_now_intensity_grams_per_kilowatt_hour),
        energy,
        words.amount(plan.run_now_emissions_micrograms),
    )
    return table


def _windows(ahead: Sequence[Window], now: datetime) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("From", "To, UTC", "For", ""):
        table.add_column(column, header_style="dim")
    for window in ahead[:_MOST_WINDOWS]:
        far = "now" if window.start <= now else words.from_now(window.start, now)
        length = words.span(window.end - window.start)
        table.add_row(f"{window.start:%a %d %b %H:%M}", _end(window), length, far)
    if len(ahead) > _MOST_WINDOWS:
        table.add_row(f"and {len(ahead) - _MOST_WINDOWS} more")
    return table


def _end(window: Window) -> str:
    same = window.start.date() == window.end.date()
    return f"{window.end:%H:%M}" if same else f"{window.end:%a %d %b %H:%M}"


def _axis(status: JobStatus, ahead: Sequence[Window], now: datetime, width: int) -> Text:
    """From now to the deadline: where the job runs, and its latest start."""
    end = max([ahead[-1].end, *([status.deadline] if status.deadline else [])])
    step = (end - now) / width
    text = Text()
    latest = status.plan.latest_start if status.plan is not None else None
    if latest is not None and now < latest < end and status.start_time is None:
        text.append(_mark("latest start", (latest - now) / (end - now), width), style="dim")
    for column in range(width):
        part = (now + column * step, now + (column + 1) * step)
        runs = any(w.start < part[1] and w.end > part[0] for w in ahead)
        text.append("█" if runs else "░", style="green" if runs else "bright_black")
    right = f"{end:%a %d %b %H:%M} UTC"
    left = f"{now:%a %d %b %H:%M}"
    text.append(f"\n{left}{right.rjust(width - len(left))}\n", style="dim")
    text.append("█ job runs ", style="green")
    return text.append("░ job waits", style="bright_black")


def _mark(label: str, share: float, width: int) -> str:
    """A line whose arrow points at a share of the width."""
    place = min(int(share * width), width - 1)
    if place >= len(label) + 1:
        return f"{label} ▼".rjust(place + 1) + "\n"
    return " " * place + f"▼ {label}\n"


def _notes(job: StoredJob, status: JobStatus, now: datetime) -> Iterator[Text]:
    plan = status.plan
    if plan is None:
        return
    begun = status.start_time is not None or status.state.is_final
    if plan.latest_start is not None and not begun:
        yield Text(f"Latest start: {words.clock(plan.latest_start, now)}")
    if status.deadline is not None:
        yield Text(f"Deadline: {words.clock(status.deadline, now)}")
    if plan.renewable_percent is not None:
        yield Text(f"Renewable share of the windows: {plan.renewable_percent} %")
    if plan.zone is not None and plan.signal is not None:
        yield Text(f"Zone {plan.zone}, {SIGNAL_TEXT[plan.signal]} intensity.", style="dim")
    if plan.expected_energy_joules is None:
        yield Text("It does not say how long it takes (spec.schedule.expectedDuration).")
    if job.generation > status.observed_generation:
        yield Text("The last change of the spec is not in it yet.", style="yellow")
