"""A job's folder and the worker on it, in this process or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from green_api.contract import TaskDocument
from green_api.task import Compress
from green_jobs.lock import Lock
from green_jobs.state import WorkerState
from green_jobs.tasks.compress.attempt import Attempt
from green_jobs.tasks.compress.pipeline import run
from green_jobs.tasks.compress.session import AttemptInterruptedError
from green_jobs.tasks.compress.verdict import Outcome

SMALL: dict[str, Any] = {
    "model": {"builtin": "digits-cnn", "trainEpochs": 2},
    "data": {"builtin": "digits", "batchSize": 128},
    "steps": [{"prune": {"ratio": 0.5}}, {"distill": {"epochs": 2}}, {"finetune": {"epochs": 1}}],
    "exports": ["Safetensors"],
}


class StopAt:
    """Signals that ask for a stop from the given look on; counts the looks."""

    def __init__(self, look: int = 10**9) -> None:
        self.look = look
        self.looks = 0

    @property
    def stop_requested(self) -> bool:
        self.looks += 1
        return self.looks >= self.look


@dataclass
class Job:
    """A job's folder on a claim."""

    claim: Path
    task: dict[str, Any]
    interval: float = 300.0
    uid: str = "attempt-1"

    @property
    def checkpoints(self) -> Path:
        return self.claim / "job" / "checkpoints"

    @property
    def output(self) -> Path:
        return self.claim / "job" / "output"

    @property
    def weights(self) -> bytes:
        return (self.output / "model.safetensors").read_bytes()

    def attempt(self) -> Attempt:
        lock = Lock(self.claim / "job", self.uid)
        for folder in (self.checkpoints, self.output):
            folder.mkdir(parents=True, exist_ok=True)
        lock.take()
        return Attempt(
            document=TaskDocument.model_validate(self._document()),
            task=Compress.model_validate(self.task),
            claim=self.claim,
            checkpoints=self.checkpoints,
            output=self.output,
            lock=lock,
        )

    def run(self, signals: StopAt | None = None) -> Outcome:
        """Work in this process."""
        return run(self.attempt(), signals or StopAt())  # type: ignore[arg-type]

    def run_until_stopped(self, look: int) -> None:
        with pytest.raises(AttemptInterruptedError):
            self.run(StopAt(look))

    def start(self) -> subprocess.Popen[str]:
        """Work in a process of its own."""
        self.attempt()
        document = self.claim / "document.json"
        document.write_text(json.dumps(self._document()))
        environment = {
            "GREEN_TASK_FILE": str(document),
            "GREEN_CLAIM_DIR": str(self.claim),
            "GREEN_CHECKPOINT_DIR": str(self.checkpoints),
            "GREEN_OUTPUT_DIR": str(self.output),
            "GREEN_ATTEMPT_UID": self.uid,
            "GREEN_PROGRESS_FILE": str(self.claim / "state.json"),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "green_jobs.tasks.compress"],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def state(self) -> WorkerState:
        return WorkerState.read(self.claim / "state.json")

    def _document(self) -> dict[str, Any]:
        return {
            "namespace": "team",
            "name": "small",
            "folder": "job",
            "task": {"compress": self.task},
            "cores": 1,
            "gpuWatts": 300,
            "coreWatts": 10,
            "journalIntervalSeconds": self.interval,
        }
