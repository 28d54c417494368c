"""``greenctl``, which is ``kubectl green`` too.

Exit codes: 0 every job succeeded; 1 a job failed, or the cluster cannot be read; 2 the command line
is wrong; 65 a manifest or a trace is wrong; 75 stopped before the end: the same command goes on.
"""

from __future__ import annotations

import sys

import typer
from green_api.contract import ExitCode
from green_api.errors import UserError
from rich.console import Console

from green_operator.cli.explain import explain
from green_operator.cli.fetch import fetch
from green_operator.cli.jobs import list_jobs
from green_operator.cli.kubectl import ClusterError
from green_operator.cli.logs import logs
from green_operator.cli.plan import plan
from green_operator.cli.run import run

app = typer.Typer(
    name="greenctl",
    help="Plan and run green training jobs here, and look at those of a cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(run)
app.command()(plan)
app.command("list")(list_jobs)
app.command()(explain)
app.command()(logs)
app.command()(fetch)


def main() -> None:
    """Run the command line; a person's mistake gets its message, not a stack trace."""
    try:
        app()
    except UserError as error:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        for line in str(error).splitlines():
            console.print(f"error: {line}", markup=False)
        refused = isinstance(error, ClusterError)
        sys.exit(ExitCode.FAILED if refused else ExitCode.CONFIG)
