"""The worker as a process: started, asked to stop, killed, buried."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO, cast

from green_api.errors import TaskConfigError

from green_jobs.signals import adopt_orphans, be_killed_with


class Worker:
    """A command in a process group of its own, which dies with this process.

    Start it before any thread: the child runs Python between fork and exec. This process becomes
    the parent of orphans and buries whatever child ends, as process 1 of a container must; their
    CPU time stays in its family too.

    Args:
        command: program and arguments.
        environment: the child's whole environment.

    Raises:
        TaskConfigError: there is no such program.

    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        adopt_orphans()
        parent = os.getpid()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - to run the user's command is the purpose
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
                preexec_fn=lambda: be_killed_with(parent),
            )
        except OSError as error:
            msg = f"command: {command[0]!r}: {error.strerror}; give a program of the image"
            raise TaskConfigError(msg) from error

    @property
    def outputs(self) -> tuple[IO[bytes], IO[bytes]]:
        """The reading ends of its stdout and stderr."""
        return cast("IO[bytes]", self._process.stdout), cast("IO[bytes]", self._process.stderr)

    def reap(self) -> int | None:
        """Bury every child that has ended; return the worker's code once it is among them.

        The code is as in subprocess: the negative number of the signal that killed it.
        """
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._process.pid:
                    self._process.returncode = os.waitstatus_to_exitcode(ended[1])
        return self._process.returncode

    def signal(self, number: signal.Signals) -> None:
        """Signal the worker's whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
