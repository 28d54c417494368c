"""A site: its SuperNode beside, its trainer here, until the server says that all is done."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flwr.app import ConfigRecord, RecordDict

from green_jobs.signals import Signals
from green_jobs.tasks.federate.flower.release import release
from green_jobs.tasks.federate.flower.runtime import Endpoint
from green_jobs.tasks.federate.flower.tasks import serve_tasks
from green_jobs.tasks.federate.processes import Companion
from green_jobs.tasks.federate.records import CONFIG, DECLARE, FINISH, WHAT, reply
from green_jobs.tasks.federate.trainer import Trainer

_WATCH_SECONDS: Final = 0.2
_FAREWELL_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class SiteFiles:
    """What a site is given, and where it may write."""

    superlink: Endpoint
    """Its server's."""
    ca: Path
    """The authority that its server's certificate is checked against."""
    private_key: Path
    """The site's key, in OpenSSH's format."""
    secret: Path
    """Shared by SuperNode and trainer; of this pod alone."""
    folder: Path
    """The site's own, on its claim."""


class Site:
    """Serves the rounds.

    Args:
        files: keys and folders.
        trainer: does the work.
        signals: whether the site is to stop.

    """

    def __init__(self, files: SiteFiles, trainer: Trainer, signals: Signals) -> None:
        self._files = files
        self._trainer = trainer
        self._signals = signals
        self._stop = threading.Event()
        self._is_finished = False

    def run(self) -> bool:
        """Work until the server has finished; False where a signal came before."""
        runtime = Endpoint(f"127.0.0.1:{_free_port()}")
        node = self._node(runtime)
        secret = self._files.secret.read_bytes()
        server = threading.Thread(
            target=serve_tasks, name="tasks", daemon=True,
            args=(runtime, secret, self._handle, self._stop, self._remember),
        )  # fmt: skip
        self._release()
        with node, node.kept(before=self._release):
            server.start()
            while server.is_alive() and not self._signals.stop_requested:
                self._signals.wait(_WATCH_SECONDS)
            self._stop.set()
            server.join(_FAREWELL_SECONDS)
            if self._is_finished:
                self._signals.wait(_FAREWELL_SECONDS)  # the SuperNode passes the last reply on
        return self._is_finished

    def _handle(self, content: RecordDict) -> RecordDict:
        config = content[CONFIG]
        what = config.get(WHAT) if isinstance(config, ConfigRecord) else None
        if what == DECLARE:
            return reply({}, {"examples": self._trainer.examples})
        if what == FINISH:
            self._is_finished = True
            self._stop.set()
            return reply({}, {"examples": self._trainer.examples})
        return self._trainer.handle(content)

    def _node(self, runtime: Endpoint) -> Companion:
        files = self._files
        host, _, port = runtime.address.partition(":")
        arguments = [
            "--superlink", files.superlink.address, "--root-certificates", files.ca,
            "--auth-supernode-private-key", files.private_key, "--isolation", "process",
            "--superexec-auth-secret-file", files.secret, "--host", host, "--port", port,
        ]  # fmt: skip
        return Companion("supernode", arguments, files.folder / "flower")

    @property
    def _memory(self) -> Path:
        return self._files.folder / "node"

    def _remember(self, node_id: int) -> None:
        """Needed to be let in again at once, should this site be killed."""
        self._files.folder.mkdir(parents=True, exist_ok=True)
        self._memory.write_text(str(node_id))

    def _release(self) -> None:
        try:
            node_id = int(self._memory.read_text())
        except (OSError, ValueError):
            return
        release(self._files.superlink, self._files.private_key.read_bytes(), node_id)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
