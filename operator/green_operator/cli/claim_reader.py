"""What runs in the helper pod: the files of one folder to standard output.

    python -I -c SOURCE FOLDER PART...

A part is a file, or a folder with all that is below it. Each file is a line of JSON with path,
bytes and time of its last change, and then its content; files that were changed last come last. A
line with their number tells that this was all. (A tar stream has links, devices and headers of any
length to beware of.) The standard library alone, for any image that runs jobs has that.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

_BLOCK: Final = 1 << 20


def main(folder: str, *parts: str) -> None:
    """Write the files of the parts that are there; links and devices are passed over."""
    out = sys.stdout.buffer
    files = sorted(_files(Path(folder), parts), key=lambda p: (p.lstat().st_mtime, p))
    for path in files:
        # Without following a link that has taken the file's place, or waiting for a pipe.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            found = os.fstat(file.fileno())
            head = [str(path.relative_to(folder)), found.st_size, found.st_mtime]
            out.write(json.dumps(head).encode() + b"\n")
            _copy(file, out, found.st_size)
    out.write(json.dumps(len(files)).encode() + b"\n")
    out.flush()


def _copy(file: IO[bytes], out: IO[bytes], size: int) -> None:
    """Just so many bytes: a log may grow meanwhile."""
    while size:
        block = file.read(min(size, _BLOCK))
        if not block:
            sys.exit(f"{file.name} became shorter while it was read")
        out.write(block)
        size -= len(block)


def _files(root: Path, parts: tuple[str, ...]) -> Iterator[Path]:
    for part in parts:
        if _is_file(root / part):
            yield root / part
        for place, _, names in os.walk(root / part):
            yield from (path for name in names if _is_file(path := Path(place, name)))


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


if __name__ == "__main__":
    main(*sys.argv[1:])
