"""What a person sees while jobs run: transitions as lines, progress live below them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, Self

from green_api.status import JobStatus, State
from green_api.units import Emissions, Energy
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from green_operator.amounts import format_emissions, format_energy
from green_operator.cli.roles import roles_parts
from green_operator.lifecycle.text import printable
from green_operator.local.job import LocalJob
from green_operator.plan.types import Outlook, Slot

_COLOURS = {
    State.PLANNED: "yellow",
    State.RUNNING: "green",
    State.SUSPENDED: "yellow",
    State.SUCCEEDED: "bold green",
    State.FAILED: "bold red",
}


# Where nothing is drawn live, progress is told in steps of so many per cent.
_STEP: Final = 10


class Display:
    """Transitions and failures, a line each; progress live below them, or as lines too.

    Args:
        console: where; live if it is a terminal.
        jobs: what is known of them already is not told anew.
        replay_speed: how much faster than time a day is replayed, if it is.

    """

    def __init__(
        self, console: Console, jobs: Sequence[LocalJob], replay_speed: float | None
    ) -> None:
        self._console = console
        self._speed = replay_speed
        self._said: dict[str, tuple[State, str]] = {}
        self._failures = {job.job.metadata.name: job.failures() for job in jobs}
        self._steps = {job.job.metadata.name: _step_of(job) for job in jobs}
        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def changed(self, job: LocalJob) -> None:
        """Print a transition: another state, or another reason to wait."""
        status = job.state.status
        if status is None:
            return
        self._tell_failures(job)
        name, said = job.job.metadata.name, (status.state, status.message)
        if said == self._said.get(name):
            return
        self._said[name] = said
        self._print(job, status.state.value, _COLOURS.get(status.state, ""), status.message)

    def stopping(self) -> None:
        """Say what is waited for."""
        text = "Stopping: attempts save what they have. Ctrl-C again ends them at once."
        self._console.print(text, soft_wrap=True)

    def tick(self, jobs: Sequence[LocalJob], now: datetime, outlook: Outlook | None) -> None:
        """Draw the live part anew."""
        if self._console.is_terminal:
            slot = outlook.at(now) if outlook else None
            parts = [_clock_line(now, slot, self._speed), _table(jobs), *_roles(jobs)]
            self._live.update(Group(*parts))
            return
        for job in jobs:
            self._tell_progress(job)

    def _tell_failures(self, job: LocalJob) -> None:
        before = self._failures.get(job.job.metadata.name, {})
        failures = self._failures[job.job.metadata.name] = job.failures()
        for role, messages in failures.items():
            known = len(before.get(role, ()))
            for number, message in enumerate(messages[known:], start=known + 1):
                whose = f" of {role}" if len(failures) > 1 else ""
                self._print(job, "Failure", "red", f"{number}{whose}: {printable(message)}")

    def _tell_progress(self, job: LocalJob) -> None:
        step, name = _step_of(job), job.job.metadata.name
        if step > self._steps.get(name, 0) and not job.is_final:
            progress = job.state.status.progress if job.state.status else None
            phase = progress.phase if progress is not None else ""
            self._print(job, f"{step * _STEP} %", "", phase)
        self._steps[name] = step

    def _print(self, job: LocalJob, word: str, style: str, text: str) -> None:
        when = job.now.strftime("%a %H:%M") if job.now else ""
        line = Text(f"{when}  {job.job.metadata.name}  ")
        self._console.print(line.append(f"{word:<10}", style=style).append(text), soft_wrap=True)


def _step_of(job: LocalJob) -> int:
    """How many steps of progress a job has made; none where nothing was told."""
    progress = job.state.status.progress if job.state.status else None
    return (progress.progress_percentage or 0) // _STEP if progress is not None else 0


def _clock_line(now: datetime, slot: Slot | None, speed: float | None) -> Text:
    text = Text(f"{now:%a %d %b %H:%M} UTC", style="bold")
    if slot is not None:
        text.append(f"  {slot.intensity.grams_per_kilowatt_hour:.0f} gCO2e/kWh")
    return text.append(f"  replayed {speed:g} times faster", style="dim") if speed else text


def _table(jobs: Sequence[LocalJob]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("Job", "State", "Progress", "", "Phase", "Energy", "Emitted", "Difference"):
        table.add_column(column, header_style="dim")
    for job in jobs:
        if job.state.status is not None:
            table.add_row(*_row(job.job.metadata.name, job.state.status))
    return table


def _roles(jobs: Sequence[LocalJob]) -> Iterable[Table | Text]:
    """The roles of federated jobs that run."""
    for job in jobs:
        status = job.state.status
        if status is not None and status.roles and job.is_active:
            yield Text(f"\n{job.job.metadata.name}", style="bold")
            yield from roles_parts(status)


def _row(name: str, status: JobStatus) -> list[Text | ProgressBar | str]:
    progress, energy, emissions = status.progress, status.energy, status.emissions
    share = progress.progress_percentage if progress else None
    return [
        name,
        Text(status.state.value, style=_COLOURS.get(status.state, "")),
        ProgressBar(total=100, completed=share or 0, width=20),
        f"{share} %" if share is not None else "",
        progress.phase if progress else "",
        format_energy(Energy(energy.joules)) if energy else "",
        format_emissions(Emissions(emissions.micrograms / 1e6)) if emissions else "",
        status.difference or "",
    ]
