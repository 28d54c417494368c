"""Reads of the kernel's small text files."""

from __future__ import annotations

from pathlib import Path

from green_jobs.energy.meter import MeterError


def read_text(file: Path) -> str:
    """The file's content.

    Raises:
        MeterError: it is not there, or not for this process.

    """
    try:
        return file.read_text()
    except OSError as error:
        raise MeterError(str(error)) from error


def read_number(file: Path) -> int:
    """The number that is the file's whole content.

    Raises:
        MeterError: it is not there, not for this process or no number.

    """
    text = read_text(file)
    try:
        return int(text)
    except ValueError as error:
        msg = f"{file} holds no number: {text[:40]!r}"
        raise MeterError(msg) from error
