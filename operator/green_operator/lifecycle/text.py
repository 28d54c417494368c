"""Texts that tenants have a part in, made fit to be shown."""

from __future__ import annotations


def printable(text: str) -> str:
    """Without control characters, which could move a reader's cursor: they become spaces."""
    return "".join(c if c.isprintable() else " " for c in text)
