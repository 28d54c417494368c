"""What one attempt of a federated role is told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from green_api.contract import CREDENTIALS_DIR_ENV, Federation, digest
from green_api.errors import ContractError
from green_api.federate import SERVER, Federate

from green_jobs.tasks.attempt import TaskAttempt

FIELD: Final = "spec.task.federate"
"""The task's path in the manifest, for messages."""


class Attempt(TaskAttempt[Federate]):
    """One attempt of the server or of a site."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """The attempt that this process is.

        Raises:
            ContractError: the document holds another task, or no role of this one.
            KeyError: a variable is missing; the supervisor sets them all.

        """
        attempt = cls.read(environment, lambda task: task.federate)
        if attempt.role not in attempt.task.roles:
            msg = f"the document is for {attempt.role!r}, which is no role of the task"
            raise ContractError(msg)
        return attempt

    @property
    def role(self) -> str:
        """``server``, or the site's name."""
        return self.document.role

    @property
    def is_server(self) -> bool:
        """It makes the rounds."""
        return self.role == SERVER

    @property
    def folder(self) -> Path:
        """The role's own, on its claim."""
        return self.claim / self.document.folder

    @property
    def federation(self) -> Federation:
        """Where the server is.

        Raises:
            ContractError: the document does not say.

        """
        if self.document.federation is None:
            msg = "the document says nothing of the federation"
            raise ContractError(msg)
        return self.document.federation


def credentials_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where this role's keys and certificates lie.

    Raises:
        ContractError: nobody said.

    """
    folder = environment.get(CREDENTIALS_DIR_ENV)
    if not folder:
        msg = f"{CREDENTIALS_DIR_ENV} is not set; the operator and `greenctl run` set it"
        raise ContractError(msg)
    return Path(folder)


def flower_home(folder: Path, ca: bytes) -> Path:
    """Where Flower's processes of one run keep files: another run has other keys, so another place.

    Args:
        folder: the role's own.
        ca: the certificate of the run's authority.

    """
    return folder / "flower" / digest(ca)[:16]
