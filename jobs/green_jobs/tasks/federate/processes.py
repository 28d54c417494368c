"""Flower's processes beside ours: started, watched, and dead with us."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from green_jobs.signals import be_killed_with
from green_jobs.tasks.federate.flower.switches import SWITCHES

_GRACE_SECONDS: Final = 5.0
_WATCH_SECONDS: Final = 0.5
_LOG: Final = logging.getLogger(__name__)
_ROOM: Final = "green_jobs.tasks.federate.flower"


class Companion:
    """One of Flower's processes.

    Args:
        module: of the room ``flower``.
        arguments: of its command line.
        home: where it may keep files.

    """

    def __init__(self, module: str, arguments: Sequence[object], home: Path) -> None:
        self._name = module
        self._command = [sys.executable, "-m", f"{_ROOM}.{module}", *map(str, arguments)]
        self._environment: Mapping[str, str] = {
            **os.environ, **SWITCHES, "FLWR_HOME": str(home),
        }  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether it works."""
        return self._process is not None and self._process.poll() is None

    @property
    def code(self) -> int | None:
        """How it ended; None where it has not, or was not started."""
        return self._process.poll() if self._process is not None else None

    def start(self) -> None:
        """Start it; it dies with this process."""
        parent = os.getpid()
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            self._command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            # Of its own: a stop asks our group to end, and we still need it then.
            process_group=0,
            preexec_fn=lambda: be_killed_with(parent),
        )

    @contextmanager
    def kept(self, before: Callable[[], None]) -> Iterator[None]:
        """Start it again whenever it ends: those who speak with it try until it answers.

        Args:
            before: called before each new start.

        """
        over = threading.Event()

        def keep() -> None:
            while not over.wait(_WATCH_SECONDS):
                if not self.is_running:
                    _LOG.warning(
                        "%s ended with code %s; it is started again", self._name, self.code
                    )
                    before()
                    self.start()

        keeper = threading.Thread(target=keep, name=f"keeps {self._name}", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            over.set()
            keeper.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
