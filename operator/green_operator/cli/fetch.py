"""``kubectl green fetch``: what came out of a job, from its claim to a folder here."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final

import typer
from green_api.contract import Report
from pydantic import ValidationError

from green_operator.cli.claim import Claim, open_claim
from green_operator.cli.claim_files import save
from green_operator.cli.kubectl import Cluster, ClusterError, StoredJob
from green_operator.cli.options import Context, Kubeconfig, Namespace

_PARTS: Final = ("output", "logs", "report.json")
_RESERVE: Final = 256 * 2**20
"""Bytes that are left free on the disk."""


def fetch(
    name: Annotated[str, typer.Argument(help="The job.")],
    output: Annotated[
        Path | None, typer.Option(help="The folder, made anew; by default the job's name.")
    ] = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Copy a job's output, logs and report from its claim to a folder, and check their digests.

    A pod of your own reads them, so you need the rights to create and delete pods and to execute in
    them. Checkpoints stay where they are.
    """
    folder = output if output is not None else Path(name)
    _check_target(folder)
    cluster = Cluster.open(namespace, context, kubeconfig)
    job = cluster.job(name)
    with tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=".fetch-") as scratch:
        whole = Path(scratch, "whole")
        whole.mkdir()
        with open_claim(cluster, job) as claim:
            count, size = _copy(claim, whole)
        if not count:
            msg = f"job {name!r}: there is nothing in {claim.folder}/ on claim {job.claim!r} yet"
            raise ClusterError(msg)
        # All or nothing: an interrupted copy leaves no folder that looks whole.
        whole.rename(folder)
    typer.echo(f"{count} files, {size:,} bytes: {folder}/")
    wrong = list(_differences(job, claim.folder, folder))
    if wrong:
        raise ClusterError("\n".join(wrong))
    if job.status is not None and job.status.report_sha256 is None:
        typer.echo("There is no report yet: the job has not ended, or ended without one.")


def _check_target(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        msg = f"--output: {str(folder)!r}: is there already; choose another folder"
        raise ClusterError(msg)
    if not folder.absolute().parent.is_dir():
        msg = f"--output: {str(folder)!r}: is in no folder that exists; make {folder.parent} first"
        raise ClusterError(msg)


def _copy(claim: Claim, folder: Path) -> tuple[int, int]:
    """Number and bytes of the files that were copied, as many as the disk has room for."""
    room = max(0, shutil.disk_usage(folder).free - _RESERVE)
    count = size = 0
    with claim.read(*_PARTS) as files:
        for file in files:
            save(file, folder, room - size)
            count += 1
            size += file.size
    return count, size


def _differences(job: StoredJob, on_claim: PurePosixPath, folder: Path) -> Iterator[str]:
    """What is not as the status and the report say."""
    expected = job.status.report_sha256 if job.status is not None else None
    if expected is None:
        return
    report = folder / "report.json"
    if not report.is_file() or _sha256(report) != expected:
        yield "report.json: is missing, or not the one whose digest the status has"
        return
    try:
        artifacts = Report.model_validate(_parsed(report)).artifacts
    except (ValidationError, ValueError):
        yield "report.json: another version wrote it, so the other files were not checked"
        return
    for artifact in artifacts:
        path = PurePosixPath(artifact.path)
        if not path.is_relative_to(on_claim) or ".." in path.parts:
            yield f"{artifact.path!r}: the report names it, but it is not in the job's folder"
            continue
        name = str(path.relative_to(on_claim))
        if not (folder / name).is_file() or _sha256(folder / name) != artifact.sha256:
            yield f"{name!r}: is missing, or not the file that the report names"


def _parsed(path: Path) -> Any:  # noqa: ANN401 - a JSON value
    return json.loads(path.read_bytes())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
