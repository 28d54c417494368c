"""What a worker of a builtin task is told by its environment, and how it writes to the output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Self, TypeVar

from green_api.contract import (
    ATTEMPT_ENV,
    CHECKPOINT_DIR_ENV,
    CLAIM_ENV,
    OUTPUT_DIR_ENV,
    TASK_FILE_ENV,
    TaskDocument,
)
from green_api.errors import ContractError
from green_api.task import Task

from green_jobs.files import write_atomically
from green_jobs.lock import Lock

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class TaskAttempt(Generic[Kind]):
    """One attempt at one kind of task."""

    document: TaskDocument
    task: Kind
    claim: Path
    checkpoints: Path
    output: Path
    lock: Lock

    @classmethod
    def read(cls, environment: Mapping[str, str], kind: Callable[[Task], Kind | None]) -> Self:
        """The attempt that this process is.

        Args:
            environment: as the supervisor sets it.
            kind: takes the kind of task that is done here.

        Raises:
            ContractError: the document holds another task.
            KeyError: a variable is missing; the supervisor sets them all.

        """
        text = Path(environment[TASK_FILE_ENV]).read_text()
        document = TaskDocument.model_validate_json(text)
        task = kind(document.task)
        if task is None:
            msg = f"the document holds another task: {document.task.kind}"
            raise ContractError(msg)
        claim = Path(environment[CLAIM_ENV])
        return cls(
            document=document,
            task=task,
            claim=claim,
            checkpoints=Path(environment[CHECKPOINT_DIR_ENV]),
            output=Path(environment[OUTPUT_DIR_ENV]),
            lock=Lock(claim / document.folder, environment[ATTEMPT_ENV]),
        )

    def write_output(self, name: str, data: bytes) -> Path:
        """Commit a file of the output.

        Raises:
            LockLostError: another attempt has taken over; nothing was written.
            OSError: the disk refuses.

        """
        self.lock.ensure()
        path = self.output / name
        write_atomically(path, data)
        return path
