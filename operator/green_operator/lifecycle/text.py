"""Texts that tenants have a part in, made fit to be shown."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """Without control characters, which could move a reader's cursor: they become spaces.

    Args:
        text: what a tenant may have written.
        keep: characters that stay all the same.

    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else " " for c in text)
