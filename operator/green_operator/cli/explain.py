"""``kubectl green explain``: one job in plain sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Annotated, Final

import typer
from green_api.status import (
    AttemptStatus,
    ConditionType,
    JobStatus,
    PlanStatus,
    State,
)
from green_api.task import ONLY_ROLE
from green_api.units import Energy, Power
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from green_operator.account.book import Book
from green_operator.account.roles import accounts_in, books_of, sum_of
from green_operator.account.statement import Statement, statement_of
from green_operator.amounts import format_difference, format_energy
from green_operator.cli import words
from green_operator.cli.kubectl import Cluster, ClusterError, StoredEvent, StoredJob
from green_operator.cli.options import Context, Kubeconfig, Namespace
from green_operator.cli.problems import Problem, problems
from green_operator.cli.result import account_tables, model_tables
from green_operator.cli.roles import roles_parts
from green_operator.lifecycle.status import PLAN
from green_operator.local.runner import wall_clock
from green_operator.objects.names import JOB_LABEL, folder_name

_EVENTS: Final = 8
_NO_POWER: Final = Power(0.0)
"""Nothing is added to stored books, so no tail is estimated."""

Parts = Iterator[RenderableType]


def explain(
    name: Annotated[str, typer.Argument(help="The job.")],
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Say of a job in a cluster why it waits or runs, until when, and what it used."""
    cluster = Cluster.open(namespace, context, kubeconfig)
    job = cluster.job(name)
    try:
        events: list[StoredEvent] | str = cluster.events(job)
    except ClusterError as error:
        events = f"They cannot be read: {error}"
    show_job(plain_console(), job, events, wall_clock())


def plain_console() -> Console:
    """A console that takes no text for markup: what it shows was written by others."""
    return Console(highlight=False, markup=False, emoji=False)


def show_job(
    console: Console, job: StoredJob, events: Sequence[StoredEvent] | str, now: datetime
) -> None:
    """Print the page of a job; events are its own, or why they are not to be had."""
    console.rule(headline(job), align="left")
    status = job.status
    if status is not None:
        _section(console, "", _standing(job, status, now))
    _section(console, "Problems", _problems(problems(job, now)))
    if status is not None:
        _section(console, "Used so far" if not status.state.is_final else "Used", _used(job))
        _section(console, "Roles", _roles(status))
        _section(console, "Attempts", _attempts(job, status, now))
        _section(console, "What came out", _outcome(job, status))
    _section(console, "Events", _events(events, now))


def headline(job: StoredJob) -> Text:
    """Name, namespace and state."""
    text = Text(job.name, style="bold").append(f" in {job.namespace}", style="not bold")
    if job.status is None:
        return text
    state = job.status.state
    return text.append(f" {state.value}", style=words.STATE_STYLES.get(state, ""))


def _section(console: Console, title: str, parts: Parts) -> None:
    body = list(parts)
    if not body:
        return
    if title:
        console.print(Text(title, style="bold"))
    console.print(Padding(Group(*body), (0, 0, 1, 2)))


# -- why it waits or runs


def _standing(job: StoredJob, status: JobStatus, now: datetime) -> Parts:
    yield Text(_state_sentence(status, now))
    if not status.state.is_final and status.plan is not None:
        yield from _worth(status.plan, status)
    yield from _limits(status, now)
    yield from _progress(status)
    yield from _source(status)
    if status.state is State.RUNNING:
        log = f"kubectl logs -n {job.namespace} -l {JOB_LABEL}={job.name}"
        yield Text(f"What it prints: {log}", style="dim")


def _state_sentence(status: JobStatus, now: datetime) -> str:
    if words.reason(status) == PLAN and status.planned_start is not None:
        verb = "resumes" if status.start_time is not None else "starts"
        return f"Waits for cleaner power; it {verb} at {words.clock(status.planned_start, now)}."
    if status.state.is_final:
        return _ended(status, now)
    if words.reason(status) in words.OBSTACLES:
        return f"It is to run by its plan, but cannot: {words.obstacle(status)}."
    message = words.sentence(status.message) or "It has not been planned yet."
    if status.state is State.RUNNING and status.start_time is not None:
        return f"{message} It started first at {words.clock(status.start_time, now)}."
    return message


def _ended(status: JobStatus, now: datetime) -> str:
    text = words.sentence(status.message)
    if status.completion_time is None:
        return text
    text += f" It ended at {words.clock(status.completion_time, now)}"
    if status.state is State.FAILED:
        return f"{text}, without success ({words.reason(status)})."
    if status.deadline is None:
        return f"{text}."
    early = status.deadline - status.completion_time
    if early >= timedelta(0):
        return f"{text}, {words.span(early)} before its deadline."
    return f"{text}, {words.span(-early)} after its deadline."


def _worth(plan: PlanStatus, status: JobStatus) -> Parts:
    """What waiting saves and what starting now would cost."""
    then, at_once = plan.expected_emissions_micrograms, plan.run_now_emissions_micrograms
    if then is None or at_once is None:
        return
    left = "What is left of it" if words.has_used(status) else "It"
    energy = words.energy(plan.expected_energy_joules)
    if at_once <= then:
        waiting = "" if status.state is State.RUNNING else " Waiting would save nothing."
        yield Text(
            f"{left} is expected to use {energy} (estimated) and to emit {words.amount(then)}."
            f"{waiting}"
        )
        return
    difference = format_difference(words.grams(at_once - then), words.grams(at_once))
    yield Text(
        f"{left} is expected to use {energy} (estimated) and to emit {words.amount(then)} as "
        f"planned, at {words.intensity(plan.intensity_grams_per_kilowatt_hour)}, instead of "
        f"{words.amount(at_once)} if run at once, at "
        f"{words.intensity(plan.run_now_intensity_grams_per_kilowatt_hour)}: an expected "
        f"difference of {difference}. Starting now would cost "
        f"{words.amount(at_once - then)} more."
    )


def _limits(status: JobStatus, now: datetime) -> Parts:
    if status.state.is_final or status.deadline is None:
        return
    text = f"Its deadline is {words.clock(status.deadline, now)}."
    latest = status.plan.latest_start if status.plan is not None else None
    if latest is not None and status.state is not State.RUNNING and latest > now:
        waits = words.reason(status) == PLAN
        by = "Whatever the grid is like, it starts by" if waits else "To meet it, it must run by"
        text += f" {by} {words.clock(latest, now)}."
    yield Text(text)


def _progress(status: JobStatus) -> Parts:
    progress = status.progress
    if progress is None or status.state.is_final or progress.progress_percentage is None:
        return
    text = f"It is {progress.progress_percentage} % done"
    if progress.estimated_remaining_seconds is not None:
        left = words.span(timedelta(seconds=progress.estimated_remaining_seconds))
        text += f"; about {left} of work are left, pauses not counted"
    yield Text(f"{text}: {progress.phase}." if progress.phase else f"{text}.")


def _source(status: JobStatus) -> Parts:
    known = words.condition(status, ConditionType.INTENSITY_AVAILABLE)
    if known is not None and words.holds(status, known.type) and not status.state.is_final:
        yield Text(f"Intensity: {known.message}.", style="dim")


# -- what it used


def _used(job: StoredJob) -> Parts:
    statement = statement_of_books(job)
    if statement is None:
        return
    yield from list(account_tables(statement))[1:]
    if statement.unaccounted.joules and statement.signal is not None:
        yield Text(
            "The intensity of some of its hours is not known, so that no difference is told.",
            style="dim",
        )


def statement_of_books(job: StoredJob) -> Statement | None:
    """The account that the status carries; None where nothing was used."""
    books = _books(job)
    if not books:
        return None
    statement = sum_of([statement_of(book) for book in books.values()])
    return statement if statement.energy.joules else None


def _books(job: StoredJob) -> dict[str, Book]:
    """By role, what the status carries of them."""
    status = job.status
    if status is None:
        return {}
    if status.account is not None:
        return {ONLY_ROLE: Book.from_status(status.account, _NO_POWER, job.created)}
    accounts = status.accounts or []
    return books_of(accounts, {a.role: _NO_POWER for a in accounts}, job.created)


# -- attempts


def _roles(status: JobStatus) -> Parts:
    yield from roles_parts(status)


def _attempts(job: StoredJob, status: JobStatus, now: datetime) -> Parts:
    run = status.run
    accounts = accounts_in(status)
    # Of a federated job the server's attempts are the job's; its sites have a table of their own.
    latest = accounts[0].latest if accounts else []
    if run is None or not run.attempts:
        return
    text = "1 attempt" if run.attempts == 1 else f"{run.attempts} attempts"
    if status.state is State.RUNNING and latest:
        # What ticks is written every few minutes only.
        text += f"; its meters were last read {words.from_now(latest[-1].last_time, now)}."
    else:
        active = words.span(timedelta(seconds=run.active_seconds))
        text += f", {active} of run time in all, pauses not counted."
    if run.failed_attempts:
        retries = job.spec.get("retries", 3)
        text += f" {run.failed_attempts} failed; {retries} may (spec.retries)."
    yield Text(text)
    table = Table(box=None, pad_edge=False)
    for title in ("Started", "Ran", "Zone", "Energy", "End"):
        table.add_column(title, header_style="dim")
    for attempt in latest:
        table.add_row(*_attempt_row(attempt, now))
    yield table
    if run.attempts > len(latest):
        yield Text(f"The last {len(latest)} are shown.", style="dim")
    if run.name is not None:
        yield Text(f"Run {run.number} is the Job {run.name}.", style="dim")


def _attempt_row(attempt: AttemptStatus, now: datetime) -> tuple[str, ...]:
    used = [c.millijoules for c in attempt.counters]
    used += [attempt.tail.millijoules] if attempt.tail is not None else []
    end = "done" if attempt.succeeded else "interrupted or failed"
    return (
        f"{attempt.start_time:%Y-%m-%d %H:%M} UTC",
        words.span((attempt.end_time or now) - attempt.start_time),
        attempt.zone or "not known",
        format_energy(Energy(sum(used) / 1000)) if used else "no reading",
        "runs" if attempt.end_time is None else end,
    )


# -- what came out


def _outcome(job: StoredJob, status: JobStatus) -> Parts:
    tables = list(model_tables(status.result))
    yield from tables[1:]
    if status.report_path is not None and job.claim is not None:
        folder = PurePosixPath(status.report_path).parent
        yield Text(
            f"On the claim {job.claim}, in {folder}/: output/ holds the models, logs/ what each "
            f"attempt printed, {PurePosixPath(status.report_path).name} all figures "
            f"(SHA-256 {(status.report_sha256 or 'not known')[:12]}…)."
        )
        yield Text(f"Copy it here: kubectl green fetch -n {job.namespace} {job.name}", style="dim")
    elif status.start_time is not None and job.claim is not None:
        yield Text(
            f"On the claim {job.claim}, in {folder_name(job.name, job.uid)}/: checkpoints/ and, "
            "of each attempt, logs/."
        )
        yield Text(f"Read them: kubectl green logs -n {job.namespace} {job.name}", style="dim")
    elif status.state.is_final and job.claim is None:
        yield Text("It has no claim (spec.storage): what its pods wrote went with them.")


# -- problems and events


def _problems(found: Sequence[Problem]) -> Parts:
    for problem in found:
        text = Text(f"{problem.name}: ", style="bold red")
        yield text.append(words.sentence(problem.message), style="not bold default")
        if problem.fix:
            fix = Text("To mend it: ", style="bold")
            yield Padding(fix.append(f"{problem.fix}.", style="not bold"), (0, 0, 0, 2))


def _events(events: Sequence[StoredEvent] | str, now: datetime) -> Parts:
    if isinstance(events, str):
        yield Text(events, style="dim")
        return
    if not events:
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for event in events[-_EVENTS:]:
        style = "yellow" if event.is_warning else ""
        table.add_row(words.from_now(event.time, now), Text(event.reason, style=style), event.note)
    yield table
