"""How soon a part of a message that has not arrived yet is asked for again.

Flower waits 1 s, then 2 s and so on; a part is pushed within milliseconds after its message, so
that these waits were most of a round.
"""

from __future__ import annotations

from typing import Any, Final

from flwr.supercore.inflatable import inflatable_utils

_FIRST_SECONDS: Final = 0.1
_MOST_SECONDS: Final = 2.0


def hurry() -> None:
    """Set it for this process, in what takes it as a default."""
    functions: tuple[Any, ...] = (
        inflatable_utils.pull_objects,
        inflatable_utils.pull_and_inflate_object_from_tree,
    )
    for function in functions:
        function.__kwdefaults__["initial_backoff"] = _FIRST_SECONDS
        function.__kwdefaults__["backoff_cap"] = _MOST_SECONDS
