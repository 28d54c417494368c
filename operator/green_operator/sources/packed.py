"""Unpacking gzip with a bound, so that a small file cannot fill the memory."""

from __future__ import annotations

import zlib
from typing import Final

_GZIP_MAGIC: Final = b"\x1f\x8b"
_GZIP_WINDOW: Final = 31


def is_gzip(data: bytes) -> bool:
    """Whether the data are gzip by their first bytes."""
    return data.startswith(_GZIP_MAGIC)


def unpack(data: bytes, limit: int) -> bytes:
    """The content of one gzip member.

    Args:
        data: gzip.
        limit: bytes that the content may have.

    Raises:
        ValueError: it is no whole gzip, or it holds more than the limit.

    """
    unpacker = zlib.decompressobj(wbits=_GZIP_WINDOW)
    try:
        content = unpacker.decompress(data, limit + 1)
    except zlib.error:
        msg = "it is no sound gzip"
        raise ValueError(msg) from None
    if len(content) > limit:
        msg = f"it holds more than {limit // 2**20} MiB"
        raise ValueError(msg)
    if not unpacker.eof:
        msg = "it is cut off"
        raise ValueError(msg)
    return content
