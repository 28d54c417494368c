"""Processes that end with the tests, however those end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import SystemRandom


class Process:
    """A program with its log.

    It is started from the main thread: the kernel sends SIGKILL to it when that thread ends, so
    nothing is left behind where pytest is killed.
    """

    def __init__(
        self, name: str, command: Sequence[object], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log
        self._command = [str(part) for part in command]
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def code(self) -> int | None:
        """How it ended; negative where a signal ended it, None where it runs or never did."""
        return self._process.poll() if self._process is not None else None

    def start(self) -> None:
        assert not self.is_running, f"{self.name} runs already"
        guard = [shutil.which("setpriv") or "setpriv", "--pdeathsig", "KILL", "--"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*guard, *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                start_new_session=True,  # Ctrl-C is for pytest, which ends them in order
            )

    def stop(self, timeout: float = 5.0) -> None:
        """SIGTERM, and SIGKILL where that is not enough."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Neither running nor gone: connections stay open and say nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            while not self._is_stopped():
                time.sleep(0.001)
            yield
        finally:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGCONT)

    def _is_stopped(self) -> bool:
        """Whether the last of its threads has stopped; on a busy machine some go on for a while."""
        threads = Path(f"/proc/{self.pid}/task").glob("*/stat")
        return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in threads)

    def tail(self, lines: int = 30) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def wait_ready(self, is_ready: Callable[[], bool], timeout: float = 60.0) -> None:
        """Return once it is; fail with the end of its log where it has ended or takes too long."""
        give_up = time.monotonic() + timeout
        while time.monotonic() < give_up:
            if not self.is_running:
                code = self._process.returncode if self._process else None
                msg = f"{self.name} ended with {code}; its log ends with:\n{self.tail()}"
                raise AssertionError(msg)
            with suppress(Exception):
                if is_ready():
                    return
            time.sleep(0.05)
        msg = f"{self.name} is not ready within {timeout:g} s; its log ends with:\n{self.tail()}"
        raise AssertionError(msg)


def free_port() -> int:
    """A port that no outgoing connection is given, so that it stays free over a restart."""
    random = SystemRandom()
    for _ in range(200):
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    msg = "no free port from 20000 to 29999"
    raise AssertionError(msg)
