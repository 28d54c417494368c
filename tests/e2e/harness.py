"""Running ``greenctl`` as a person does, and looking at what it left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from green_api.contract import ATTEMPT_ENV, Report
from green_operator.local.state import AttemptState, JobState, RunnerState, StateFile

ROOT = Path(__file__).resolve().parents[2]
GREENCTL = Path(sys.executable).parent / "greenctl"


@dataclass
class Greenctl:
    """One command line, run once or several times in the same output folder."""

    arguments: Sequence[str]
    output: Path
    env: dict[str, str] = field(default_factory=dict)

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(GREENCTL), "run", *self.arguments, "--output", str(self.output)],
            cwd=ROOT,
            env={**os.environ, "NO_COLOR": "1", "COLUMNS": "120", **self.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        process = self.start()
        out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    @property
    def state(self) -> RunnerState:
        state = StateFile(self.output / ".greenctl").load()
        assert state is not None
        return state

    def job(self, name: str) -> JobState:
        return self.state.jobs[name]

    def report(self, name: str) -> Report:
        return Report.model_validate_json((self.output / name / "report.json").read_bytes())

    def active(self) -> list[AttemptState]:
        try:
            jobs = self.state.jobs.values()
        except AssertionError:
            return []
        return [a for job in jobs for a in job.attempts if a.ended is None]


def status_of(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(finished.stdout)
    return status


def wait_for(condition: Callable[[], Any], timeout: float = 60) -> Any:
    """The condition's first true value."""
    give_up = time.monotonic() + timeout
    while time.monotonic() < give_up:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"nothing within {timeout} s")


def processes_of(uid: str) -> list[psutil.Process]:
    """The supervisor first, then its worker."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(ATTEMPT_ENV) == uid:
                found.append(process)
        except psutil.Error:
            continue
    return sorted(found, key=lambda p: p.create_time())


def kill(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


# A zone whose trace stands for any ConfigMap and repeats its day.
TRACE_ZONE: dict[str, Any] = {
    "apiVersion": "greentraining.io/v1alpha1",
    "kind": "GridZone",
    "metadata": {"name": "demo"},
    "spec": {
        "sources": [
            {
                "trace": {
                    "configMapKeyRef": {"name": "a", "key": "b"},
                    "repeat": "Daily",
                    "signal": "AverageLifecycle",
                }
            }
        ]
    },
}
