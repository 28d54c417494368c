"""An attempt as a subprocess: what the kubelet does with a pod."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from green_api.contract import (
    ATTEMPT_ENV,
    CLAIM_ENV,
    CREDENTIALS_DIR_ENV,
    MAX_SUMMARY_BYTES,
    PORT_ENV,
    TASK_FILE_ENV,
    TERMINATION_FILE_ENV,
    Summary,
    TaskDocument,
)
from pydantic import ValidationError


@dataclass(frozen=True, slots=True)
class Launch:
    """What it takes to start an attempt."""

    uid: str
    document: TaskDocument
    claim: Path
    workplace: Path
    """Folder of the manifest: the attempt's working directory, where its code is found."""
    private: Path
    """The runner's own folder, for the document and the termination message."""
    env: Mapping[str, str]
    """The job's own variables."""
    credentials: Path | None = None
    """Folder with the keys and certificates of a federated role."""


def start(launch: Launch, port: int) -> subprocess.Popen[bytes]:
    """Start an attempt with the environment that a pod would have."""
    task_file = launch.private / f"{launch.uid}.task.json"
    task_file.write_text(launch.document.model_dump_json(by_alias=True, exclude_none=True))
    with (launch.private / f"{launch.uid}.log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - the user's own command is the point
            _command(launch.document),
            cwd=launch.workplace,
            env=_environment(launch, task_file, port),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Its own session: Ctrl-C reaches the runner alone, which then stops it in order.
            start_new_session=True,
        )


def _command(document: TaskDocument) -> Sequence[str]:
    wrapper = [sys.executable, "-m", "green_jobs"]
    if document.task.train is not None:
        return [*wrapper, "exec", "--", *document.task.train.command]
    return [*wrapper, "run"]


def _environment(launch: Launch, task_file: Path, port: int) -> dict[str, str]:
    credentials = (
        {} if launch.credentials is None else {CREDENTIALS_DIR_ENV: str(launch.credentials)}
    )
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GREEN_")}
    return {
        **inherited,
        # `python` in a command means the interpreter that has the job's packages.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": f"{launch.workplace}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        **launch.env,
        TASK_FILE_ENV: str(task_file),
        ATTEMPT_ENV: launch.uid,
        CLAIM_ENV: str(launch.claim),
        PORT_ENV: str(port),
        TERMINATION_FILE_ENV: str(termination_file(launch.private, launch.uid)),
        **credentials,
    }


def termination_file(private: Path, uid: str) -> Path:
    """Where an attempt leaves its summary."""
    return private / f"{uid}.termination.json"


def read_summary(private: Path, uid: str) -> Summary | None:
    """The attempt's summary; a tenant's word, so its size, form and name are checked."""
    try:
        with termination_file(private, uid).open("rb") as file:
            summary = Summary.model_validate_json(file.read(MAX_SUMMARY_BYTES + 1))
    except (OSError, ValidationError):
        return None
    return summary if summary.attempt == uid else None


def log_tail(private: Path, uid: str) -> str:
    """The last line of what the attempt printed, for an end that left no summary."""
    with suppress(OSError):
        lines = (private / f"{uid}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else ""
    return ""


def free_port() -> int:
    """A TCP port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find(uid: str) -> list[psutil.Process]:
    """The processes of an attempt that are alive, its supervisor first, by their environment."""
    found = []
    for candidate in psutil.process_iter():
        with suppress(psutil.Error):
            if candidate.environ().get(ATTEMPT_ENV) == uid:
                found.append(candidate)
    return sorted(found, key=lambda process: process.pid)


def was_started(private: Path, uid: str) -> bool:
    """Whether the attempt came as far as to have a process."""
    return (private / f"{uid}.log").exists()
