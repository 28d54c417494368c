"""What one attempt is told by its environment, and its only way to write to the output."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from green_api.contract import (
    ATTEMPT_ENV,
    CHECKPOINT_DIR_ENV,
    CLAIM_ENV,
    OUTPUT_DIR_ENV,
    TASK_FILE_ENV,
    TaskDocument,
)
from green_api.errors import ContractError
from green_api.task import Compress

from green_jobs.files import write_atomically
from green_jobs.lock import Lock


@dataclass(frozen=True)
class Attempt:
    """One attempt at a compression."""

    document: TaskDocument
    task: Compress
    claim: Path
    checkpoints: Path
    output: Path
    lock: Lock

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """The attempt that this process is.

        Raises:
            ContractError: the document holds another task.
            KeyError: a variable is missing; the supervisor sets them all.

        """
        text = Path(environment[TASK_FILE_ENV]).read_text()
        document = TaskDocument.model_validate_json(text)
        if document.task.compress is None:
            msg = f"the document holds no compress task but {document.task.kind}"
            raise ContractError(msg)
        claim = Path(environment[CLAIM_ENV])
        return cls(
            document=document,
            task=document.task.compress,
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
