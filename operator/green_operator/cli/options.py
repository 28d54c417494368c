"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Files = Annotated[
    list[Path], typer.Argument(help="Manifests: GreenTrainingJob and GridZone documents.")
]
FilesOrJob = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...|NAME",
        help="Manifests as for run, or the name of a job in a cluster.",
        show_default=False,
    ),
]
Traces = Annotated[
    list[str] | None,
    typer.Option(
        "--trace",
        metavar="ZONE=FILE.csv",
        help="Stands for the ConfigMap of a zone's trace source.",
    ),
]
Secrets = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        metavar="NAME/KEY=VARIABLE",
        help="Stands for the Secret of a provider's key: the environment variable that holds it.",
    ),
]
Speed = Annotated[
    float | None,
    typer.Option(
        min=1.0,
        max=100_000.0,
        help="Replay the zone's trace so many times faster, from its first time on. The "
        "manifest's times are then the trace's; joules are never scaled.",
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="Where the job is; by default the context's own."),
]
Context = Annotated[
    str | None, typer.Option(help="The cluster, by its context; by default the current one.")
]
Kubeconfig = Annotated[str | None, typer.Option(help="The kubeconfig file.")]
