"""What is wrong with a document, in words for whoever wrote it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

Location = tuple[int | str, ...]

# Pydantic's words speak of inputs and parsing. Those of a manifest's author are these: where the API
# server says the same of a manifest, in its words.
_WORDS: Final[Mapping[str, str]] = {
    "missing": "is required",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text; put it in quotes",
    "list_type": "must be a list",
    "dict_type": "must be an object of names and values",
    "model_type": "must be an object with fields",
    "model_attributes_type": "must be an object with fields",
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
    "greater_than": "should be greater than {gt}",
    "greater_than_equal": "should be greater than or equal to {ge}",
    "less_than": "should be less than {lt}",
    "less_than_equal": "should be less than or equal to {le}",
    "string_too_short": "should be at least {min_length} characters long",
    "string_too_long": "should be at most {max_length} characters long",
    "string_pattern_mismatch": "should match {pattern}",
    "too_short": "should have at least {min_length} items",
    "too_long": "should have at most {max_length} items",
    "datetime_parsing": "must be a time such as 2026-06-01T18:00:00Z",
    "datetime_from_date_parsing": "must be a time such as 2026-06-01T18:00:00Z",
    "datetime_type": "must be a time such as 2026-06-01T18:00:00Z",
    "timezone_aware": "must say its time zone, such as 2026-06-01T18:00:00Z",
}


def describe_problems(
    error: ValidationError, model: type[BaseModel], prefix: str = ""
) -> list[str]:
    """One line per problem: the field's path, the value, what is wrong and the fix.

    Args:
        error: what the model's validation said.
        model: what the document was read as.
        prefix: stands before each path, such as the name of a file.

    """
    return [_line(item, model, prefix) for item in error.errors(include_url=False)]


def _line(item: Mapping[str, Any], model: type[BaseModel], prefix: str) -> str:
    location, context = item["loc"], item.get("ctx", {})
    path = _path(prefix, location)
    if item["type"] == "rule":
        value = item["input"]
        if field := context["field"]:
            path = f"{path}.{field}" if path else field
            value = _value_at(value, field)
        return f"{path}: {_shown(value)}{context['message']}"
    if item["type"] == "extra_forbidden":
        return f"{path}: unknown field{_instead(str(location[-1]), _fields(model, location[:-1]))}"
    if (words := _WORDS.get(item["type"])) is not None:
        text = words.format(**context)
    else:
        message = item["msg"].removeprefix("Value error, ")
        text = f"{message[0].lower()}{message[1:]}"
    return f"{path}: {'' if item['type'] == 'missing' else _shown(item['input'])}{text}"


def _instead(name: str, known: Sequence[str]) -> str:
    """What the author may have meant."""
    folded = {field.casefold(): field for field in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    if close:
        return f"; did you mean {folded[close[0]]}?"
    return f"; there are {', '.join(known)}" if known else ""


def _fields(model: type[BaseModel], location: Location) -> list[str]:
    """Names of the fields that an object at a place in a document may have."""
    models = [model]
    for part in location:
        if isinstance(part, str):
            models = [
                kind
                for owner in models
                for name, field in owner.model_fields.items()
                if part in (name, field.alias)
                for kind in _models_in(field.annotation)
            ]
    return [f.alias or name for kind in models for name, f in kind.model_fields.items()]


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """The models in a type, such as in a list of one, or in one or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _value_at(value: object, field: str) -> object:
    for part in field.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _path(prefix: str, location: Location) -> str:
    path = prefix
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return path


def _shown(value: object) -> str:
    if value is None or isinstance(value, (dict, list)):
        return ""
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    return f"{text[:80]!r}: " if isinstance(value, str) else f"{text[:80]}: "
