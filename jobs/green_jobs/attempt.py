"""What an attempt is told by its environment, and where it keeps its files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from green_api.contract import (
    ATTEMPT_ENV,
    CLAIM_ENV,
    DEFAULT_PORT,
    MAX_DOCUMENT_BYTES,
    PORT_ENV,
    TASK_FILE_ENV,
    TERMINATION_FILE_ENV,
    TaskDocument,
)
from green_api.errors import ContractError, UserError
from green_api.problems import describe_problems
from pydantic import ValidationError

TERMINATION_FILE: Final = "/dev/termination-log"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class UsageError(UserError):
    """The wrapper was called wrongly; exit 64."""


@dataclass(frozen=True)
class Attempt:
    """One attempt of a job.

    Args:
        uid: the pod's UID, or what stands for it on one machine.
        document: what is to be done.
        claim: the claim's root; a temporary folder where the job has none.
        has_claim: what is left on the claim outlives the attempt.
        state_file: where the worker tells its state.
        port: where progress is told.
        termination_file: where the summary goes.

    """

    uid: str
    document: TaskDocument
    claim: Path
    has_claim: bool
    state_file: Path
    port: int
    termination_file: Path

    @property
    def folder(self) -> Path:
        """The job's own folder."""
        return self.claim / self.document.folder

    @property
    def checkpoints(self) -> Path:
        """What a later attempt resumes from."""
        return self.folder / "checkpoints"

    @property
    def output(self) -> Path:
        """What comes out."""
        return self.folder / "output"

    @property
    def journals(self) -> Path:
        """The journals of all attempts."""
        return self.folder / "journal"

    @property
    def log(self) -> Path:
        """The copy of this attempt's log."""
        return self.folder / "logs" / f"{self.uid}.log"

    @property
    def report(self) -> Path:
        """The full report."""
        return self.folder / "report.json"

    @property
    def done_marker(self) -> Path:
        """Written last, when the work is complete."""
        return self.folder / "done.json"

    def make_folders(self) -> None:
        """Create what is missing.

        Raises:
            OSError: the claim cannot be written.

        """
        for folder in (self.checkpoints, self.output, self.journals, self.log.parent):
            folder.mkdir(parents=True, exist_ok=True)


def read_attempt(environment: Mapping[str, str], scratch: Path) -> Attempt:
    """The attempt that the environment describes.

    Args:
        environment: as the contract has it.
        scratch: a private folder of this attempt.

    Raises:
        UsageError: a variable is missing or makes no sense.
        ContractError: the task document does not fit the contract.

    """
    uid = _required(environment, ATTEMPT_ENV)
    if not _NAME.fullmatch(uid):
        msg = f"{ATTEMPT_ENV}: {uid[:80]!r} cannot name a file; give the pod's UID"
        raise UsageError(msg)
    claim = environment.get(CLAIM_ENV)
    return Attempt(
        uid=uid,
        document=_read_document(Path(_required(environment, TASK_FILE_ENV))),
        claim=Path(claim or scratch / "claim").absolute(),
        has_claim=bool(claim),
        state_file=scratch / "state.json",
        port=_read_port(environment.get(PORT_ENV)),
        termination_file=Path(environment.get(TERMINATION_FILE_ENV) or TERMINATION_FILE),
    )


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name)
    if not value:
        msg = f"{name} is not set; the operator and `greenctl run` set it"
        raise UsageError(msg)
    return value


def _read_port(text: str | None) -> int:
    if not text:
        return DEFAULT_PORT
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        msg = f"{PORT_ENV}: {text[:80]!r} is no port; give a number from 1 to 65535"
        raise UsageError(msg)
    return int(text)


def _read_document(file: Path) -> TaskDocument:
    try:
        data = file.read_bytes()
    except OSError as error:
        msg = f"{TASK_FILE_ENV}: {error}"
        raise UsageError(msg) from error
    if len(data) > MAX_DOCUMENT_BYTES:
        msg = f"{file}: the task document has {len(data)} bytes; at most {MAX_DOCUMENT_BYTES}"
        raise ContractError(msg)
    try:
        document = TaskDocument.model_validate_json(data)
    except ValidationError as error:
        raise ContractError("; ".join(describe_problems(error, TaskDocument, str(file)))) from error
    folder = PurePosixPath(document.folder)
    if folder.is_absolute() or ".." in folder.parts or not folder.parts:
        msg = f"{file}: folder: {document.folder!r}: is not a folder on the claim"
        raise ContractError(msg)
    return document
