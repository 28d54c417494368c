"""What one attempt at a compression is told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, Self

from green_api.task import Compress

from green_jobs.tasks.attempt import TaskAttempt

FIELD: Final = "spec.task.compress"
"""The task's path in the manifest, for messages."""


class Attempt(TaskAttempt[Compress]):
    """One attempt at a compression."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """The attempt that this process is.

        Raises:
            ContractError: the document holds another task.
            KeyError: a variable is missing; the supervisor sets them all.

        """
        return cls.read(environment, lambda task: task.compress)
