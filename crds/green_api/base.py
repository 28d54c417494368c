"""What every model of the API shares.

A ``Rule`` is a check across fields. It stands once, as CEL for the API server and as a Python
predicate for ``greenctl`` and the operator, so that both give the same message.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from green_api.errors import InvalidManifestError
from green_api.problems import describe_problems

# Go's duration syntax without signs; `1d` is no duration in Go nor in CEL.
_DURATION = r"^([0-9]+([.][0-9]+)?(h|m|s|ms))+$"
_DURATION_FIX = "is not a duration; write it like 24h, 90m or 1h30m"
_LONGEST_DURATION = timedelta(hours=2_562_047)  # where Go's and CEL's end
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|ms|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3}


def parse_duration(text: str) -> timedelta:
    """Read a duration in Go syntax, such as ``1h30m``.

    Raises:
        ValueError: the text is no such duration.

    """
    if not re.fullmatch(_DURATION, text):
        raise ValueError(_DURATION_FIX)
    seconds = sum(float(n) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(text))
    if seconds > _LONGEST_DURATION.total_seconds():
        raise ValueError(_DURATION_FIX)
    return timedelta(seconds=seconds)


def is_duration(field: str) -> str:
    """CEL that holds where a text is a duration; what reads it as one would fail with other words."""
    return f"{field}.matches('{_DURATION}')"


def format_duration(duration: timedelta) -> str:
    """Write a duration in Go syntax, whole milliseconds, largest units first."""
    milliseconds = round(duration.total_seconds() * 1000)
    parts = []
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, milliseconds = divmod(milliseconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _duration_input(value: object) -> object:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, timedelta):
        return value
    raise ValueError(_DURATION_FIX)


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration_input),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": _DURATION,  # tells the value
            "maxLength": 32,
            "x-kubernetes-validations": [
                {
                    "rule": f"{is_duration('self')} && duration(self) >= duration('0s')",
                    "message": _DURATION_FIX,
                }
            ],
        }
    ),
]


def _in_utc(time: datetime) -> datetime:
    """A moment in UTC, of a time that can be computed with.

    Raises:
        ValueError: it lies too far away.

    """
    if not 2000 <= time.year < 2200:
        msg = "lies too far away: give a time of the years 2000 to 2199"
        raise ValueError(msg)
    return time.astimezone(UTC)


def format_time(time: datetime) -> str:
    """Write a moment in UTC in RFC 3339, to the second."""
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")


Timestamp = Annotated[
    AwareDatetime,
    # Without what is not written, so that what was read back is equal.
    AfterValidator(lambda time: _in_utc(time).replace(microsecond=0)),
    PlainSerializer(format_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "maxLength": 64}),
]
"""A moment in RFC 3339, kept in UTC, to the second."""

MicroTime = Annotated[
    AwareDatetime,
    AfterValidator(_in_utc),
    PlainSerializer(
        lambda time: time.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        return_type=str,
    ),
    WithJsonSchema({"type": "string", "format": "date-time", "maxLength": 64}),
]
"""A moment in RFC 3339 to the microsecond: what is subtracted from each other."""

# Kubernetes quantities are wider; these are the forms that people write for cores and memory. Zero
# reserves nothing and is left out of the pattern.
_QUANTITY = r"^([1-9][0-9]*([.][0-9]+)?|0[.][0-9]*[1-9][0-9]*)(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
_QUANTITY_FIX = "is not a quantity above zero; write it like 4, 500m or 16Gi"
_FACTORS = {
    "": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40,
}  # fmt: skip


def parse_quantity(text: str) -> float:
    """Read a Kubernetes quantity (cores or bytes) such as ``500m``, ``4`` or ``16Gi``.

    Raises:
        ValueError: the text is no quantity above zero.

    """
    if not re.fullmatch(_QUANTITY, text):
        raise ValueError(_QUANTITY_FIX)
    unit = text.lstrip("0123456789.")
    return float(text.removesuffix(unit)) * _FACTORS[unit]


def _quantity_input(value: object) -> str:
    if isinstance(value, float):
        # The API server takes whole numbers or text here, and one machine takes the same.
        msg = f'must be a whole number or text: write "{value:g}"'
        raise ValueError(msg)
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError(_QUANTITY_FIX)
    text = str(value)
    parse_quantity(text)
    return text


Quantity = Annotated[
    str,
    BeforeValidator(_quantity_input),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "pattern": _QUANTITY,
            "minimum": 1,
            "maxLength": 32,
            "x-kubernetes-validations": [
                {
                    "rule": f"type(self) == string ? self.matches('{_QUANTITY}') : self > 0",
                    "message": _QUANTITY_FIX,
                }
            ],
        }
    ),
]
"""Cores or bytes above zero; ``4`` and ``"4"`` are the same."""

DnsLabel = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)
]
DnsSubdomain = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$", max_length=253)
]
ZoneName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$", max_length=63)
]
"""A grid zone's name: an object's name, so lower case (``gb``), and short enough for a label."""
LabelSelector = Annotated[
    dict[
        Annotated[str, StringConstraints(max_length=317)],
        Annotated[str, StringConstraints(max_length=63)],
    ],
    Field(max_length=16),
]


@dataclass(frozen=True)
class Rule:
    """A check across the fields of one model.

    Args:
        cel: the rule as the API server evaluates it, on ``self`` (and ``oldSelf``).
        message: what is wrong and how to mend it.
        holds: the same rule in Python; None for a transition, which only a server sees.
        field: the JSON path of the field that the message is about, or "" for the object.

    """

    cel: str
    message: str
    holds: Callable[[Any], bool] | None
    field: str = ""


def exactly_one(*fields: str) -> str:
    """CEL that holds where just one of the fields is set."""
    return "[" + ", ".join(f"has(self.{field})" for field in fields) + "].filter(x, x).size() == 1"


class Model(BaseModel):
    """Base of all API types: camelCase on the wire, unknown fields refused, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        ser_json_inf_nan="null",
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Add the rules to the schema, as the API server reads them, and defaults as it takes them."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        for name, info in cls.model_fields.items():
            if isinstance(info.default, timedelta):
                schema["properties"][info.alias or name]["default"] = format_duration(info.default)
        if cls.rules:
            schema["x-kubernetes-validations"] = [
                {"rule": rule.cel, "message": rule.message}
                | ({"fieldPath": f".{rule.field}"} if rule.field else {})
                for rule in cls.rules
            ]
        return schema

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        for rule in self.rules:
            if rule.holds is not None and not rule.holds(self):
                raise PydanticCustomError(
                    "rule", "{message}", {"message": rule.message, "field": rule.field}
                )
        return self

    def to_wire(self) -> dict[str, Any]:
        """The object as JSON-ready values, camelCase, without absent fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Resource(Model):
    """A document that a person writes: a custom resource."""

    @classmethod
    def parse(cls, document: dict[str, Any], source: str) -> Self:
        """Read a manifest strictly.

        Args:
            document: the manifest.
            source: the file, or whatever else names it in messages.

        Raises:
            InvalidManifestError: the manifest does not fit; one line per problem.

        """
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise InvalidManifestError(source, describe_problems(error, cls)) from None


class Provenance(StrEnum):
    """How a figure of energy came about; no reading is not zero."""

    MEASURED = "Measured"
    """A device counter read for this job alone."""
    ATTRIBUTED = "Attributed"
    """A share of a node's measured energy."""
    ESTIMATED = "Estimated"
    """A model: time or CPU time multiplied by a table's power."""


class Signal(StrEnum):
    """What kind of intensity a source states; two kinds are never mixed in one comparison."""

    AVERAGE_LIFECYCLE = "AverageLifecycle"
    AVERAGE_DIRECT = "AverageDirect"
    MARGINAL_LIFECYCLE = "MarginalLifecycle"
    MARGINAL_DIRECT = "MarginalDirect"

    @property
    def is_marginal(self) -> bool:
        """Only a marginal signal allows a difference to be called avoided."""
        return self in {Signal.MARGINAL_LIFECYCLE, Signal.MARGINAL_DIRECT}
