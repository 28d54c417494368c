"""What a person sees at the end: why it ran when it did, what it used, what came out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from green_api.base import Provenance, Signal
from green_api.contract import ModelFigures, Result
from green_api.status import JobStatus, State
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from green_operator.account.statement import Statement
from green_operator.amounts import format_difference, format_emissions, format_energy
from green_operator.cli import words
from green_operator.cli.roles import roles_parts
from green_operator.local.chart import Chart, in_terminal
from green_operator.local.job import LocalJob
from green_operator.local.rounds import accuracies_in_terminal

SIGNAL_TEXT = {
    Signal.AVERAGE_LIFECYCLE: "average, life-cycle",
    Signal.AVERAGE_DIRECT: "average, direct",
    Signal.MARGINAL_LIFECYCLE: "marginal, life-cycle",
    Signal.MARGINAL_DIRECT: "marginal, direct",
}
_MODEL_COLUMNS = ("Model", "Runtime", "Accuracy", "Size", "Parameters")
_TIME_COLUMNS = ("Latency", "CPU time")
_HOW = {
    Provenance.MEASURED: "device counters",
    Provenance.ATTRIBUTED: "a share of the node's counters",
    Provenance.ESTIMATED: "CPU time or reserved hardware times the power table",
}


def show_result(
    console: Console,
    job: LocalJob,
    chart: Chart | None,
    accuracies: Sequence[float],
    folder: Path,
) -> None:
    """Print a job's result.

    Args:
        console: where.
        job: the job.
        chart: of the intensity; None where it is not known.
        accuracies: after each round of a federated training.
        folder: the job's own in the output.

    """
    status = job.state.status
    if status is None:
        return
    console.print()
    console.rule(_headline(job, status), align="left")
    parts = [*_plan(job), *_chart(chart, console), *account_tables(job.statement)]
    parts += [*_roles(status), *model_tables(status.result)]
    parts += [*_accuracies(accuracies, console), *_files(folder, status)]
    console.print(Padding(Group(*parts), (0, 0, 1, 2)))


def _headline(job: LocalJob, status: JobStatus) -> Text:
    colour = {State.SUCCEEDED: "green", State.FAILED: "red"}.get(status.state, "yellow")
    text = Text(f"{job.job.metadata.name} ", style="bold")
    return text.append(status.state.value, style=f"bold {colour}")


def _plan(job: LocalJob) -> Iterable[RenderableType]:
    status, first = job.state.status, job.state.first_plan
    if status is not None and status.message:
        yield Text(status.message)
    if status is not None and (late := words.missed_by(status)):
        yield Text(f"It ended {words.span(late)} after its deadline.", style="yellow")
    if first is not None:
        yield Text(f"First plan: {first.message}", style="dim")


def _chart(chart: Chart | None, console: Console) -> Iterable[RenderableType]:
    if chart is not None:
        yield Text()
        yield in_terminal(chart, min(console.width - 4, 100))


def _roles(status: JobStatus) -> Iterable[RenderableType]:
    if status.roles:
        yield Text()
        yield from roles_parts(status)


def _accuracies(accuracies: Sequence[float], console: Console) -> Iterable[RenderableType]:
    if accuracies:
        yield Text()
        yield accuracies_in_terminal(accuracies, min(console.width - 4, 100))


def account_tables(statement: Statement | None) -> Iterable[RenderableType]:
    """Energy by provenance, emissions with the counterfactual and the signed difference."""
    if statement is None:
        return
    table = Table(box=None, pad_edge=False, title_justify="left")
    for column in ("Energy", "", "How it was found"):
        table.add_column(column, header_style="dim")
    for provenance, how in _HOW.items():
        if (energy := statement.of(provenance)).joules:
            table.add_row(provenance.value, format_energy(energy), how)
    yield Text()
    yield table
    yield from _emissions(statement)


def _emissions(statement: Statement) -> Iterable[RenderableType]:
    if statement.signal is None or statement.zone is None:
        yield Text("Emissions are not known: there was no carbon intensity to compute them with.")
        return
    kinds = " and ".join(SIGNAL_TEXT[signal] for signal in statement.signals)
    table = Table(box=None, pad_edge=False)
    for column in ("Emissions", "", "What it is"):
        table.add_column(column, header_style="dim")
    table.add_row("Actual", format_emissions(statement.emissions), "all attempts, gross")
    if statement.counterfactual is not None:
        table.add_row(
            "Counterfactual",
            format_emissions(statement.counterfactual),
            "the useful work without pauses, from the earliest feasible start",
        )
    if statement.difference is not None:
        word = "avoided" if statement.signal.is_marginal else "counterfactual less actual"
        amount = format_difference(statement.difference, statement.counterfactual)
        table.add_row("Difference", Text(amount, style="bold"), word)
    if statement.unaccounted.joules:
        table.add_row(
            "Not counted", format_energy(statement.unaccounted), "hours without intensity"
        )
    yield Text()
    yield table
    zones = ", ".join(statement.zones)
    many = "zones" if len(statement.zones) > 1 else "zone"
    yield Text(f"Location-based, {many} {zones}, {kinds} intensity.", style="dim")
    if statement.is_mixed:
        yield Text(
            "Several kinds of intensity cannot be compared, so that no difference is told.",
            style="dim",
        )


def model_tables(result: Result | None) -> Iterable[RenderableType]:
    """Models before and after, and what the task reported last."""
    if result is None:
        return
    figures = [
        ("Original", result.original),
        ("Original", result.original_onnx),
        ("Final", result.final),
    ]
    rows = [(name, model) for name, model in figures if model is not None]
    if rows:
        timed = any(model.latency_ms is not None for _, model in rows)
        table = Table(box=None, pad_edge=False)
        for column in (*_MODEL_COLUMNS, *(_TIME_COLUMNS if timed else ())):
            table.add_column(column, header_style="dim")
        for name, model in rows:
            table.add_row(name, *_model_row(model), *(_times(model) if timed else ()))
        yield Text()
        yield table
        if timed:
            yield Text("One example, one thread, median, on the machine that ran it.", style="dim")
    if result.metrics:
        yield Text()
        yield Text("  ".join(f"{k} {v:.4g}" for k, v in result.metrics.items()))


def _model_row(model: ModelFigures) -> list[str]:
    return [
        model.runtime,
        f"{100 * model.accuracy:.2f} %",
        f"{model.bytes / 1000:,.1f} kB",
        f"{model.parameters:,}",
    ]


def _times(model: ModelFigures) -> list[str]:
    return [
        "" if model.latency_ms is None else f"{model.latency_ms:.3g} ms",
        "" if model.latency_cpu_ms is None else f"{model.latency_cpu_ms:.3g} ms",
    ]


def _files(folder: Path, status: JobStatus) -> Iterable[RenderableType]:
    if folder.is_dir():
        yield Text()
        whole, begun = "Models, report, logs and picture", "Logs, picture and checkpoints"
        kinds = whole if status.state.is_final else begun
        yield Text(f"{kinds}: {folder}/", style="dim")
