"""A site: its SuperNode beside, its trainer here, until the server says that all is done."""

from __future__ import annotations

import socket
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import httpx
from flwr.app import ConfigRecord, RecordDict
from green_api.errors import TaskConfigError

from green_jobs.signals import Signals
from green_jobs.tasks.federate.errors import RefusedError
from green_jobs.tasks.federate.flower.release import release
from green_jobs.tasks.federate.flower.runtime import Endpoint
from green_jobs.tasks.federate.flower.tasks import serve_tasks
from green_jobs.tasks.federate.processes import Companion
from green_jobs.tasks.federate.records import CONFIG, DECLARE, FINISH, WHAT, reply

_WATCH_SECONDS: Final = 0.2
_FAREWELL_SECONDS: Final = 2.0
_MOST_REFUSALS: Final = 5
"""At a start a server may not have let its sites in yet."""


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
    home: Path
    """Where its SuperNode keeps files, of this run."""


class Worker(Protocol):
    """Does a site's work."""

    @property
    def examples(self) -> int:
        """How many the site trains on."""

    def handle(self, content: RecordDict) -> RecordDict:
        """One round's work: from the server's message to the reply."""


class Site:
    """Serves the rounds.

    Args:
        name: the site's.
        files: keys and folders.
        trainer: does the work.
        signals: whether the site is to stop.

    """

    def __init__(self, name: str, files: SiteFiles, trainer: Worker, signals: Signals) -> None:
        self._name = name
        self._files = files
        self._trainer = trainer
        self._signals = signals
        self._stop = threading.Event()
        self._is_finished = False
        self._refusals = 0

    def run(self) -> bool:
        """Work until the server has finished; False where a signal came before.

        Raises:
            RefusedError: the server does not know this site's key.
            TaskConfigError: whoever answers is not this site's server.

        """
        if not self._wait_for_server():
            return False
        runtime = Endpoint(f"127.0.0.1:{_free_port()}")
        node = self._node(runtime)
        secret = self._files.secret.read_bytes()
        server = threading.Thread(
            target=serve_tasks, name="tasks", daemon=True,
            args=(runtime, secret, self._handle, self._stop, self._remember),
        )  # fmt: skip
        self._release()
        with node, node.kept(before=self._note_refusal):
            server.start()
            while server.is_alive() and not self._signals.stop_requested:
                if self._refusals >= _MOST_REFUSALS:
                    msg = f"site {self._name}: the server does not let it in: is its key known?"
                    raise RefusedError(msg)
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
        return Companion("supernode", arguments, files.home)

    def _wait_for_server(self) -> bool:
        """Wait until the server answers; False where a signal came before."""
        while not self._signals.stop_requested:
            if self._server_answers():
                return True
            self._signals.wait(_WATCH_SECONDS)
        return False

    def _server_answers(self) -> bool:
        link = self._files.superlink
        trusted = ssl.create_default_context(cadata=(link.ca or b"").decode())
        try:
            answer = httpx.get(f"https://{link.address}/health", verify=trusted)
        except httpx.ConnectError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                msg = f"site {self._name}: {link.address} shows a wrong certificate: {error}"
                raise TaskConfigError(msg) from error
            return False
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK

    def _note_refusal(self) -> None:
        """The SuperNode has ended: of itself it does so where the server refuses it."""
        self._refusals = self._refusals + 1 if self._server_answers() else 0
        self._release()

    @property
    def _memory(self) -> Path:
        return self._files.home / "node"

    def _remember(self, node_id: int) -> None:
        """Needed to be let in again at once, should this site be killed."""
        self._refusals = 0
        self._files.home.mkdir(parents=True, exist_ok=True)
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
