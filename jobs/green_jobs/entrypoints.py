"""Entry points: ``package.module:callable`` of the user's own code."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from green_api.errors import TaskConfigError
from pydantic import JsonValue


def call(entrypoint: str, arguments: Mapping[str, JsonValue] | None, field: str) -> object:
    """Import the callable and call it with keyword arguments.

    What the callable itself raises passes through with a note: it may be worth another attempt.

    Args:
        entrypoint: ``package.module:callable``.
        arguments: keyword arguments.
        field: path of the object in the manifest that holds ``entrypoint`` and ``args``.

    Raises:
        TaskConfigError: it cannot be imported, is not callable or does not take the arguments.

    """
    factory = _find(entrypoint, f"{field}.entrypoint")
    arguments = arguments or {}
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        msg = f"{field}.args: {sorted(arguments)}: {entrypoint} does not take them: {error}"
        raise TaskConfigError(msg) from error
    except ValueError:
        pass  # a callable written in C may have no signature to check against
    try:
        return factory(**arguments)
    except Exception as error:
        # The last line of the traceback, which becomes the attempt's message.
        error.add_note(
            f"{field}.entrypoint: {entrypoint!r}: raised {type(error).__name__}: "
            f"{str(error).partition(chr(10))[0]}; its traceback is in the log"
        )
        raise


def _find(entrypoint: str, field: str) -> Callable[..., Any]:
    module_name, _, name = entrypoint.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        msg = (
            f"{field}: {entrypoint!r}: importing {module_name} raised {type(error).__name__}: "
            f"{error}; put the code beside the manifest "
            "on one machine, into the image or into code/ on the claim in a cluster"
        )
        raise TaskConfigError(msg) from error
    factory = getattr(module, name, None)
    if factory is None:
        msg = f"{field}: {entrypoint!r}: {module_name} has no {name!r}; name a function of it"
        raise TaskConfigError(msg)
    if not callable(factory):
        kind = type(factory).__name__
        msg = f"{field}: {entrypoint!r}: is not callable but {kind}; name a function or class"
        raise TaskConfigError(msg)
    return factory  # type: ignore[no-any-return]
