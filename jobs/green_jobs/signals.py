"""Signals as levels, and a wait that any of them cuts short.

Made before anything heavy is imported: process 1 of a container never sees a SIGTERM that arrives
before it has a handler. Imports nothing but the standard library for the same reason.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import sys
from types import FrameType
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None


class Signals:
    """Whether SIGTERM or SIGINT has come; a SIGCHLD only ends a wait."""

    def __init__(self) -> None:
        self.stop_requested = False
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._request_stop)
        signal.signal(signal.SIGINT, self._request_stop)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def _request_stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stop_requested = True

    def wait(self, seconds: float) -> None:
        """Sleep, at most until the next signal."""
        if select.select([self._reader], [], [], seconds)[0]:
            self._reader.recv(4096)


def die_with_parent(number: signal.Signals) -> None:
    """Ask for a signal when the thread that started this process ends; only Linux can."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(number))


def be_killed_with(parent: int) -> None:
    """Bind a process that was just forked to its parent, which may be gone already."""
    die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants, as process 1 is; only Linux can."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)
