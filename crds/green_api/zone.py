"""The ``GridZone``: an electricity grid zone and where its carbon intensity comes from."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints

from green_api.base import DnsSubdomain, Model, Resource, Rule, Signal, Timestamp, exactly_one
from green_api.status import ConditionStatus, Message, Reason

# A key of a ConfigMap or Secret, as Kubernetes allows it.
_DataKey = Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)]


class Repeat(StrEnum):
    """What comes after a trace's end."""

    NEVER = "Never"
    """Nothing is known."""
    DAILY = "Daily"
    """The trace's last whole day again and again."""


class ConfigMapKey(Model):
    """A key of a ConfigMap in the operator's namespace. On one machine `--trace ZONE=FILE` stands for it."""

    name: DnsSubdomain
    """The ConfigMap."""
    key: _DataKey
    """The key in it."""


class SecretKey(Model):
    """A key of a Secret in the operator's namespace. On one machine `--secret NAME/KEY=VARIABLE` stands for it."""

    name: DnsSubdomain
    """The Secret."""
    key: _DataKey
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


class UkNesoSource(Model):
    """Great Britain's Carbon Intensity API of NESO: half-hours, about two days ahead, free, CC BY 4.0. Its signal is `AverageDirect`."""

    region: Annotated[int, Field(ge=1, le=17)] | None = None
    """The API's number of a region, such as 13 for London; absent, the whole of Great Britain."""

    @property
    def signal(self) -> Signal:
        """CO2 of generation alone: wind, sun, water and nuclear count zero, biomass 120 g/kWh.

        Source: NESO, Carbon Intensity Forecast Methodology (May 2024), a mean over all generation
        weighted by its output, with imports and losses; no upstream or construction emissions.
        """
        return Signal.AVERAGE_DIRECT


class ElectricityMapsSource(Model):
    """Electricity Maps: most grids of the world, hours. Its signal is `AverageLifecycle`. A free key gives no forecast: then only the past and the present are known."""

    zone: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}(-[A-Z0-9]+)*$", max_length=32)]
    """Its name of the zone, such as DE or US-CAL-CISO."""
    secret_key_ref: SecretKey
    """Where the API's key is."""

    @property
    def signal(self) -> Signal:
        """Life-cycle, which the API gives by default and is asked for by name all the same."""
        return Signal.AVERAGE_LIFECYCLE


class Source(Model):
    """Where intensity comes from: exactly one of its fields."""

    uk_neso: UkNesoSource | None = None
    """Great Britain, live."""
    electricity_maps: ElectricityMapsSource | None = None
    """Most grids of the world, live."""
    trace: TraceSource | None = None
    """A recorded or made series."""
    static: StaticSource | None = None
    """One figure for all hours."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel=exactly_one("ukNeso", "electricityMaps", "trace", "static"),
            message="a source is exactly one of ukNeso, electricityMaps, trace and static",
            holds=lambda s: len(s.chosen) == 1,
        ),
    )

    @property
    def chosen(
        self,
    ) -> tuple[UkNesoSource | ElectricityMapsSource | TraceSource | StaticSource, ...]:
        """The fields that are set; one, by the rule above."""
        fields = (self.uk_neso, self.electricity_maps, self.trace, self.static)
        return tuple(field for field in fields if field is not None)

    @property
    def signal(self) -> Signal:
        """What kind of intensity the source states."""
        return self.chosen[0].signal

    @property
    def is_live(self) -> bool:
        """Whether a provider is asked for it."""
        return self.uk_neso is not None or self.electricity_maps is not None


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

    @property
    def has_live_source(self) -> bool:
        """Whether a provider is asked for one of its sources."""
        return any(source.is_live for source in self.sources)


class ZoneConditionType(StrEnum):
    """What is said of a zone."""

    READY = "Ready"
    """One of its sources is usable: jobs can be planned by it."""


class ZoneCondition(Model):
    """A condition as in the Kubernetes API."""

    type: ZoneConditionType
    """What is said."""
    status: ConditionStatus
    """True or False."""
    reason: Reason
    """`FirstSource`, `Fallback`, `NoUsableSource`, or `NotReadable` where a newer version wrote it."""
    message: Message = ""
    """The source in use and why others were passed over, for people."""
    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The generation of the spec that it was said of."""
    last_transition_time: Timestamp
    """When the status last changed."""


class ZoneStatus(Model):
    """How the zone's sources fare; written where it changes."""

    source: Message | None = None
    """The source in use; absent where none is usable."""
    conditions: Annotated[
        list[ZoneCondition],
        Field(
            max_length=4,
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
        ),
    ] = []
    """What is said of it."""


class ZoneMeta(Model):
    """The part of the metadata that is read here."""

    model_config = ConfigDict(extra="allow")

    name: DnsSubdomain
    """The zone's name, such as gb."""


MAX_NAME_LENGTH = 63


class GridZone(Resource):
    """An electricity grid zone with a carbon-intensity signal."""

    api_version: Literal["greentraining.io/v1alpha1"]
    kind: Literal["GridZone"]
    metadata: ZoneMeta
    spec: ZoneSpec
    """What the administrator says of it."""
    status: ZoneStatus | None = None
    """What the operator says of it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel=f"self.metadata.name.size() <= {MAX_NAME_LENGTH}",
            message=f"metadata.name may have {MAX_NAME_LENGTH} characters, for it is a label's value",
            holds=lambda z: len(z.metadata.name) <= MAX_NAME_LENGTH,
            field="metadata",
        ),
    )
