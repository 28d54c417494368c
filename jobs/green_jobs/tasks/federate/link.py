"""The server's SuperLink, which starts while the server itself still loads its libraries.

Imports nothing heavy for that reason.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from green_jobs.tasks.federate.attempt import Attempt, credentials_folder, flower_home
from green_jobs.tasks.federate.processes import Companion


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """What the server is given, and where it may write."""

    listen: str
    """Host and port that its SuperLink listens on."""
    credentials: Path
    """Folder with ``ca.pem``, ``server.pem``, ``server.key`` and ``secret``."""
    public_keys: Mapping[str, bytes]
    """By site's name."""
    home: Path
    """Where its SuperLink keeps what it knows, of this run."""


def server_files(attempt: Attempt) -> ServerFiles:
    """What this attempt is given.

    Raises:
        ContractError: the environment or the document does not say.
        OSError: a file is missing.

    """
    credentials = credentials_folder()
    home = flower_home(attempt.folder, (credentials / "ca.pem").read_bytes())
    return ServerFiles(
        listen=attempt.federation.listen,
        credentials=credentials,
        public_keys={
            site: (credentials / f"{site}.pub").read_bytes() for site in attempt.task.names
        },
        home=home,
    )


def superlink(files: ServerFiles) -> Companion:
    """The SuperLink, not started yet; what was known of earlier runs goes, as their keys have."""
    _drop_others(files.home)
    files.home.mkdir(parents=True, exist_ok=True)
    host, _, port = files.listen.rpartition(":")
    folder = files.credentials
    arguments = [
        "--host", host.strip("[]"), "--port", port,
        "--enable-supernode-auth", "--isolation", "process",
        "--ssl-certfile", folder / "server.pem", "--ssl-keyfile", folder / "server.key",
        "--ssl-ca-certfile", folder / "ca.pem",
        "--superexec-auth-secret-file", folder / "secret", "--database", files.home / "state.db",
    ]  # fmt: skip
    return Companion("superlink", arguments, files.home)


def _drop_others(home: Path) -> None:
    if home.parent.is_dir():
        for other in home.parent.iterdir():
            if other != home:
                shutil.rmtree(other, ignore_errors=True)
