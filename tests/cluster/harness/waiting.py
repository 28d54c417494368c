"""Waiting for what is sure to come, with a message that says what did not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any


def wait_for(
    predicate: Callable[[], Any],
    timeout: float = 60.0,
    what: str = "",
    seen: Callable[[], Any] | None = None,
    pause: float = 0.05,
) -> Any:
    """The predicate's first true value.

    Args:
        predicate: asked again and again; an exception counts as not yet.
        timeout: seconds.
        what: what is waited for, in words.
        seen: asked once when it did not come, for the message: what was there instead.
        pause: seconds between two questions.

    """
    give_up = time.monotonic() + timeout
    value: Any = None
    problem: Exception | None = None
    while True:
        try:
            problem = None
            if value := predicate():
                return value
        except Exception as error:
            problem = error
        if time.monotonic() >= give_up:
            break
        time.sleep(pause)
    lines = [f"{what or 'what was waited for'}: not within {timeout:g} s"]
    lines.append(f"last exception: {problem!r}" if problem else f"last value: {value!r}")
    if seen is not None:
        lines.append(f"seen: {_shown(seen)}")
    raise AssertionError("\n".join(lines))


def _shown(seen: Callable[[], Any]) -> str:
    try:
        value = seen()
    except Exception as error:
        return repr(error)
    return value if isinstance(value, str) else json.dumps(value, indent=1, default=repr)
