"""The worker's output: passed on, and copied to the claim within bounds."""

from __future__ import annotations

import contextlib
import os
import selectors
import sys
import threading
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import IO, Final

from green_api.contract import MAX_LOG_BYTES

_CUT: Final = b"\n[the log on the claim ends here; it has reached its limit]\n"
_TAIL_BYTES: Final = 4096


class BoundedLog:
    """A file that takes so many bytes and then one line that says so.

    Args:
        path: the file; its folder exists.
        limit: bytes.

    """

    def __init__(self, path: Path, limit: int = MAX_LOG_BYTES) -> None:
        self._room = limit
        self._file: FileIO | None = None
        with contextlib.suppress(OSError):  # no log on the claim is no reason to stop
            self._file = FileIO(path, "ab")

    def write(self, data: bytes) -> None:
        """Append as much as there is room for; what the disk refuses is lost, and only that."""
        if self._file is None:
            return
        kept = data[: self._room]
        self._room -= len(kept)
        with contextlib.suppress(OSError, ValueError):  # a full disk, or closed by another thread
            self._file.write(kept)
            if len(kept) < len(data):
                self._file.write(_CUT)
                self._file.close()

    def close(self) -> None:
        """Write nothing more."""
        if self._file is not None:
            self._file.close()


class Tee:
    """A thread that copies the worker's stdout and stderr to our stdout and to a log.

    Args:
        outputs: stdout and stderr of the worker, to be read to their ends.
        log: the copy.

    """

    def __init__(self, outputs: tuple[IO[bytes], IO[bytes]], log: BoundedLog) -> None:
        self._log = log
        self._tail = b""
        self._stderr = outputs[1]
        self._thread = threading.Thread(target=self._copy, args=(outputs,), daemon=True)
        self._thread.start()

    def finish(self, seconds: float) -> str:
        """Wait for the ends of both, not longer than that, and return stderr's last line.

        A process that left the worker's group may keep them open.
        """
        self._thread.join(seconds)
        return last_line(self._tail.decode(errors="replace"))

    def _copy(self, outputs: Sequence[IO[bytes]]) -> None:
        with selectors.DefaultSelector() as selector:
            for output in outputs:
                selector.register(output, selectors.EVENT_READ)
            while selector.get_map():
                for key, _events in selector.select():
                    data = os.read(key.fd, 65536)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is self._stderr:
                        self._tail = (self._tail + data)[-_TAIL_BYTES:]
                    self._pass_on(data)

    def _pass_on(self, data: bytes) -> None:
        self._log.write(data)
        with contextlib.suppress(OSError, ValueError):  # nobody listens any more
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


def last_line(text: str) -> str:
    """The last line that is not blank; empty where there is none."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""
