"""What the roles of a federated job on one machine share: an address, keys and certificates."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from green_operator.local.process import free_port

_HOST: Final = "127.0.0.1"


def free_address() -> str:
    """Where a server can listen that only this machine reaches."""
    return f"{_HOST}:{free_port()}"


def credentials_folder(private: Path, run: str, sites: Sequence[str], now: datetime) -> Path:
    """The folder with one folder of keys for each role; made once for each run.

    Args:
        private: the runner's own folder.
        run: names the run.
        sites: names of the job's sites.
        now: the moment.

    """
    folder = private / "credentials" / run
    if folder.is_dir():
        return folder
    # Imported here: a tenth of a second that only a new run needs.
    from green_operator.objects.credentials import make_credentials

    half = folder.with_name(f".{run}.tmp")
    shutil.rmtree(half, ignore_errors=True)
    for role, bundle in make_credentials(sites, [_HOST], now, secrets.token_bytes).items():
        place = half / role
        place.mkdir(parents=True, mode=0o700)
        for name, content in bundle.items():
            with open(place / name, "wb", opener=_private_file) as file:
                file.write(content)
    # Whole or not at all, whenever the runner is killed.
    half.rename(folder)
    return folder


def _private_file(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
