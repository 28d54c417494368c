"""Real attempts on a claim in a temporary folder."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from green_api.contract import JournalEntry, Mark, ProgressReply, Report, Summary
from green_jobs.journal import read_journals

TRAIN = {"train": {"command": ["given", "on", "the", "command", "line"]}}


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait for something that must come; the limit only ends a test that has failed."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return int(server.getsockname()[1])


@dataclass
class Attempt:
    """A running or ended attempt."""

    process: subprocess.Popen[bytes]
    port: int
    termination_file: Path
    log_file: Path

    def wait(self) -> int:
        return self.process.wait(timeout=120)

    def stop(self) -> int:
        self.process.terminate()
        return self.wait()

    @property
    def printed(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def summary(self) -> Summary:
        return Summary.model_validate_json(self.termination_file.read_bytes())

    def ask(self, after: int = 0) -> ProgressReply:
        url = f"http://127.0.0.1:{self.port}/v1/progress?after={after}"
        with urllib.request.urlopen(url, timeout=10) as reply:
            return ProgressReply.model_validate_json(reply.read())


@dataclass
class Claim:
    """A claim with one job's folder."""

    root: Path
    scratch: Path
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.root / "jobs/j"

    @property
    def journal(self) -> list[JournalEntry]:
        return read_journals(self.folder / "journal")

    def marks(self, uid: str = "a1") -> list[Mark]:
        return [e.mark for e in self.journal if e.attempt == uid and e.mark is not Mark.BOUNDARY]

    @property
    def report(self) -> Report:
        return Report.model_validate_json((self.folder / "report.json").read_bytes())

    @property
    def is_done(self) -> bool:
        return (self.folder / "done.json").exists()

    def start(
        self,
        *command: str,
        uid: str = "a1",
        arguments: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        prefix: list[str] | None = None,
        **document: Any,
    ) -> Attempt:
        task_file = self.scratch / f"{uid}.json"
        task_file.write_text(json.dumps({**DOCUMENT, **document}))
        attempt_files = self.scratch / f"{uid}.termination", self.scratch / f"{uid}.printed"
        port = free_port()
        arguments = arguments or ("exec", "--", *command)
        given = {
            **os.environ,
            "GREEN_TASK_FILE": str(task_file),
            "GREEN_ATTEMPT_UID": uid,
            "GREEN_CLAIM_DIR": str(self.root),
            "GREEN_PROGRESS_PORT": str(port),
            "GREEN_TERMINATION_FILE": str(attempt_files[0]),
            **(environment or {}),
        }
        with attempt_files[1].open("wb") as printed:
            process = subprocess.Popen(
                [*(prefix or ()), sys.executable, "-m", "green_jobs", *arguments],
                env={name: value for name, value in given.items() if value},
                stdout=printed,
                stderr=subprocess.STDOUT,
            )
        self.attempts.append(Attempt(process, port, *attempt_files))
        return self.attempts[-1]

    def run(self, *command: str, **options: Any) -> Attempt:
        attempt = self.start(*command, **options)
        attempt.wait()
        return attempt


DOCUMENT: dict[str, Any] = {
    "namespace": "team-a",
    "name": "j",
    "folder": "jobs/j",
    "task": TRAIN,
    "gpus": 0,
    "cores": 2,
    "coreWatts": 10,
    "gpuWatts": 300,
    "journalIntervalSeconds": 300,
    "gracePeriodSeconds": 60,
}
