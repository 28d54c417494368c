"""The ``GridZone``: an electricity grid zone and where its carbon intensity comes from."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints

from green_api.base import Model, Resource, Rule, Signal, ZoneName, exactly_one


class Repeat(StrEnum):
    """What comes after a trace's end."""

    NEVER = "Never"
    """Nothing is known."""
    DAILY = "Daily"
    """The trace's last whole day again and again."""


class ConfigMapKey(Model):
    """A key of a ConfigMap in the operator's namespace. On one machine `--trace ZONE=FILE` stands for it."""

    name: Annotated[str, StringConstraints(max_length=253)]
    """The ConfigMap."""
    key: Annotated[str, StringConstraints(max_length=253)]
    """The key in it."""


class TraceSource(Model):
    """A recorded or made series: CSV with columns `time`, `gramsPerKilowattHour` and optionally `renewableShare`."""

    config_map_key_ref: ConfigMapKey
    """Where the CSV is."""
    repeat: Repeat = Repeat.NEVER
    """What comes after its end."""
    signal: Signal
    """What kind of intensity it states."""


class StaticSource(Model):
    """One figure for all hours, such as a country's yearly average."""

    grams_per_kilowatt_hour: Annotated[float, Field(ge=0, le=5000)]
    """gCO2e per kWh."""
    signal: Signal
    """What kind of intensity it states."""


class Source(Model):
    """Where intensity comes from: exactly one of its fields."""

    trace: TraceSource | None = None
    """A recorded or made series."""
    static: StaticSource | None = None
    """One figure for all hours."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel=exactly_one("trace", "static"),
            message="a source is exactly one of trace and static",
            holds=lambda s: (s.trace is None) != (s.static is None),
        ),
    )

    @property
    def signal(self) -> Signal:
        """What kind of intensity the source states."""
        chosen = self.trace or self.static
        assert chosen is not None  # noqa: S101 - the rule above
        return chosen.signal


class ZoneSpec(Model):
    """Which machines draw from the zone and where its intensity comes from."""

    default: bool = False
    """The zone of every node that no other zone selects; on one machine, its zone."""
    node_selector: Annotated[
        dict[
            Annotated[str, StringConstraints(max_length=317)],
            Annotated[str, StringConstraints(max_length=63)],
        ],
        Field(max_length=16),
    ] = {}
    """Labels of the nodes that draw from this zone."""
    sources: Annotated[list[Source], Field(min_length=1, max_length=8)]
    """In order; the first that is fresh and sound counts."""


class ZoneMeta(Model):
    """The part of the metadata that is read here."""

    model_config = ConfigDict(extra="allow")

    name: ZoneName
    """The zone's name, such as gb."""


class GridZone(Resource):
    """An electricity grid zone with a carbon-intensity signal."""

    api_version: Literal["greentraining.io/v1alpha1"]
    kind: Literal["GridZone"]
    metadata: ZoneMeta
    spec: ZoneSpec
    """What the administrator says of it."""
