"""Files from a claim: a stream that a tenant's image wrote, so that nothing in it is trusted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

from green_operator.cli.kubectl import ClusterError

_BLOCK: Final = 1 << 20
_MOST_FILES: Final = 100_000
_LONGEST_HEAD: Final = 8192

_Head = tuple[
    Annotated[str, Field(min_length=1, max_length=1024)],
    Annotated[int, Field(ge=0, le=2**53)],
    Annotated[float, Field(ge=0, le=4e9, allow_inf_nan=False)],
]
_HEAD: Final[TypeAdapter[_Head | int]] = TypeAdapter(_Head | Annotated[int, Field(ge=0)])


class BrokenStreamError(ClusterError):
    """The stream ended before its end, or is not one of the reader's."""


class UnsafeFileError(ClusterError):
    """The stream has something that a job does not leave there, or too much of it."""


class Content:
    """What is left of one file in the stream."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream = stream
        self._left = size

    def read(self, most: int = _BLOCK) -> bytes:
        """The next bytes; none at the end.

        Raises:
            BrokenStreamError: the stream ended before.

        """
        block = self._stream.read(min(most, self._left))
        if self._left and not block:
            msg = "it ended in the middle of a file"
            raise BrokenStreamError(msg)
        self._left -= len(block)
        return block


@dataclass(frozen=True, slots=True)
class ClaimFile:
    """One file; its content can be read until the next one is asked for."""

    path: PurePosixPath
    """Relative to the job's folder, and below it."""
    size: int
    """Bytes."""
    modified: datetime
    content: Content


def claim_files(stream: IO[bytes]) -> Iterator[ClaimFile]:
    """The files of a stream that ``claim_reader`` writes, in its order.

    Raises:
        BrokenStreamError: it ends before its end, or is something else.
        UnsafeFileError: a name leads out of the folder, or there are more than 100,000 files.

    """
    count = 0
    while isinstance(head := _head(stream), tuple):
        count += 1
        if count > _MOST_FILES:
            msg = f"there are more than {_MOST_FILES:,} files"
            raise UnsafeFileError(msg)
        name, size, modified = head
        content = Content(stream, size)
        yield ClaimFile(_safe(name), size, datetime.fromtimestamp(modified, UTC), content)
        while content.read():
            pass
    if head != count:
        msg = f"{count} of {head} files came"
        raise BrokenStreamError(msg)


def save(file: ClaimFile, folder: Path, most_bytes: int) -> None:
    """Write one file below a folder of the caller's own.

    Raises:
        UnsafeFileError: it has more than so many bytes, or something of that name is there.

    """
    if file.size > most_bytes:
        msg = f"{file.path}: has {file.size:,} bytes, and there is room for {most_bytes:,}"
        raise UnsafeFileError(msg)
    target = folder / file.path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as copy:
            while block := file.content.read():
                copy.write(block)
    except (FileExistsError, NotADirectoryError):
        msg = f"{str(file.path)!r}: comes twice, or is a file and a folder"
        raise UnsafeFileError(msg) from None


def _head(stream: IO[bytes]) -> _Head | int:
    line = stream.readline(_LONGEST_HEAD)
    try:
        return _HEAD.validate_python(json.loads(line), strict=False)
    except (ValidationError, ValueError, RecursionError):
        msg = "it ended before its end" if not line else "it is not what the reader writes"
        raise BrokenStreamError(msg) from None


def _safe(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    is_odd = not name.isprintable() or "\\" in name
    if is_odd or path.is_absolute() or ".." in path.parts or not path.parts:
        msg = f"{name[:100]!r}: is no name of a file in the job's folder"
        raise UnsafeFileError(msg)
    return path
