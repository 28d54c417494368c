"""The wrapper's own words, told apart from the worker's output by a prefix."""

from __future__ import annotations

import contextlib
import sys


def warn(message: str) -> None:
    """Say something on stderr; nobody listening is no reason to stop."""
    with contextlib.suppress(OSError):
        print(f"green_jobs: {message}", file=sys.stderr, flush=True)  # noqa: T201 - its purpose
