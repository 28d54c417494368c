"""``kubectl green logs``: what all attempts of a job have printed."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from typing import Annotated, Final

import typer
from green_api.task import ONLY_ROLE

from green_operator.cli.claim import open_claim
from green_operator.cli.claim_files import Content
from green_operator.cli.kubectl import Cluster, ClusterError, StoredJob
from green_operator.cli.options import Context, Kubeconfig, Namespace

_LONGEST_LINE: Final = 64 * 1024
_STEERING: Final = re.compile(r"[^\t\x20-\x7e\xa0-\U0010ffff]")
_ESCAPE: Final = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)")


def logs(
    name: Annotated[str, typer.Argument(help="The job.")],
    role: Annotated[
        str, typer.Option(help="Of a federated job the site; by default its server.")
    ] = ONLY_ROLE,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Print what all attempts of a job have printed, oldest first, from the copies on its claim.

    A pod of your own reads them, so you need the rights to create and delete pods and to execute in
    them. What a running pod prints live: kubectl logs -f.
    """
    cluster = Cluster.open(namespace, context, kubeconfig)
    job = cluster.job(name)
    _check_role(job, role)
    has_any = False
    with open_claim(cluster, job, role) as claim, claim.read("logs") as files:
        for file in files:
            has_any = True
            head = f"==> attempt {file.path.stem}, last written {file.modified:%Y-%m-%d %H:%M} UTC"
            sys.stdout.write(f"{head} <==\n")
            sys.stdout.writelines(printable_lines(file.content))
            sys.stdout.flush()
    if not has_any:
        msg = f"job {name!r}: no attempt has left a log on claim {job.claim_of(role)!r} yet"
        raise ClusterError(msg)


def _check_role(job: StoredJob, role: str) -> None:
    rows = job.status.roles if job.status is not None else None
    names = [row.name for row in rows or ()]
    if role == ONLY_ROLE or role in names:
        return
    has = f"its roles are {', '.join(names)}" if names else "it has no roles"
    msg = f"--role: {role!r}: job {job.name!r} has no such role: {has}"
    raise ClusterError(msg)


def printable_lines(content: Content) -> Iterator[str]:
    """Lines without what would steer a terminal; of a line overwritten, its last state."""
    text = io.TextIOWrapper(io.BufferedReader(_Raw(content)), errors="replace", newline="\n")
    while line := text.readline(_LONGEST_LINE):
        shown = line.rstrip("\r\n").rpartition("\r")[2]
        yield _STEERING.sub("", _ESCAPE.sub("", shown)) + "\n"


class _Raw(io.RawIOBase):
    """A file's content, which knows no more than ``read``."""

    def __init__(self, content: Content) -> None:
        self._content = content

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        block = self._content.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)
