"""The status of a ``GreenTrainingJob``: what it waits for, what it used, what came out.

Amounts are whole numbers of a small unit (joules, micrograms), so that they survive every client.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, JsonValue, StringConstraints

from green_api.base import MicroTime, Model, Provenance, Signal, Timestamp, ZoneName
from green_api.contract import Component, Method, Result
from green_api.federate import MAX_SITES, SiteName

Message = Annotated[str, StringConstraints(max_length=1024)]
Reason = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z]([A-Za-z0-9_]*[A-Za-z0-9])?$", max_length=128)
]
Amount = Annotated[int, Field(ge=0, le=2**53)]
SignedAmount = Annotated[int, Field(ge=-(2**53), le=2**53)]


def _by(key: str) -> dict[str, JsonValue]:
    """A list whose items are told apart by one of their fields."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


class State(StrEnum):
    """Where a job is in its life."""

    ACCEPTED = "Accepted"
    """It was read and is well formed; it is not planned yet."""
    PLANNED = "Planned"
    """It waits for its planned start."""
    RUNNING = "Running"
    """A pod works."""
    SUSPENDED = "Suspended"
    """It has run and will run again; by plan or by a person."""
    SUCCEEDED = "Succeeded"
    """It is complete, with the report's digest to show for it."""
    FAILED = "Failed"
    """It ended without success; no more attempts are made."""

    @property
    def is_final(self) -> bool:
        """Nothing follows."""
        return self in {State.SUCCEEDED, State.FAILED}


class ConditionStatus(StrEnum):
    """As in the Kubernetes API."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class ConditionType(StrEnum):
    """What is said of a job beside its state."""

    ACCEPTED = "Accepted"
    """The manifest can be worked with."""
    PLANNED = "Planned"
    """There is a plan."""
    SUSPENDED = "Suspended"
    """Paused; the reason says by whom (Plan or Person)."""
    DEADLINE_AT_RISK = "DeadlineAtRisk"
    """The work that remains does not fit before the deadline less the outage margin."""
    INTENSITY_AVAILABLE = "IntensityAvailable"
    """The zone's carbon intensity is known; without it the job starts at once."""
    RUNNING = "Running"
    """A pod works; if not, the reason says what it waits for."""
    PROGRESS_AVAILABLE = "ProgressAvailable"
    """The running pod answers."""
    CLAIM_BOUND = "ClaimBound"
    """The job's claim can be used; said only where it cannot."""
    ZONE_AS_PLANNED = "ZoneAsPlanned"
    """The pod runs in the zone that was planned."""
    SIGNAL_CONSISTENT = "SignalConsistent"
    """All emissions were computed with one kind of intensity."""
    STALLED = "Stalled"
    """A federated job has too few sites for a round; the message says who is missing."""
    SUCCEEDED = "Succeeded"
    """The job ended well."""
    FAILED = "Failed"
    """The job ended badly; the reason says why."""


class Condition(Model):
    """A condition as in the Kubernetes API."""

    type: ConditionType
    """What is said."""
    status: ConditionStatus
    """True, False or Unknown."""
    reason: Reason
    """Why, for programs."""
    message: Message = ""
    """Why, for people."""
    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The generation of the spec that it was said of."""
    last_transition_time: Timestamp
    """When the status last changed."""


class Window(Model):
    """An uninterrupted stretch of planned run time."""

    start: Timestamp
    """Its beginning."""
    end: Timestamp
    """Its end."""


class PlanStatus(Model):
    """When and where the job is to run, and what that saves."""

    reason: Reason
    """Why it is planned so, for programs."""
    message: Message
    """Why it is planned so, for people."""
    zone: ZoneName | None = None
    """The grid zone; absent where none is known."""
    signal: Signal | None = None
    """What kind of intensity was planned by."""
    windows: Annotated[list[Window], Field(max_length=48)]
    """The stretches ahead, the first 48 of them."""
    latest_start: Timestamp | None = None
    """From here on the job runs whatever the grid is like."""
    intensity_grams_per_kilowatt_hour: Amount | None = None
    """Mean intensity over the windows."""
    run_now_intensity_grams_per_kilowatt_hour: Amount | None = None
    """Mean intensity if it ran at once."""
    renewable_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """Mean renewable share over the windows, where the source states it."""
    expected_energy_joules: Amount | None = None
    """From the work that remains and the power expected (Estimated); absent where no duration is known."""
    expected_emissions_micrograms: Amount | None = None
    """Of that energy in the windows."""
    run_now_emissions_micrograms: Amount | None = None
    """Of the same energy if it ran at once."""


class RunStatus(Model):
    """The current run and its attempts."""

    number: Annotated[int, Field(ge=1)]
    """Which start of the job this is."""
    name: Annotated[str, StringConstraints(max_length=63)] | None = None
    """Its Job; absent on one machine."""
    uid: Annotated[str, StringConstraints(max_length=64)] | None = None
    """The Job's UID."""
    attempts: Annotated[int, Field(ge=0)] = 0
    """Attempts so far, of all runs."""
    failed_attempts: Annotated[int, Field(ge=0)] = 0
    """Attempts of this run that failed; suspensions and disruptions do not count."""
    active_seconds: Amount = 0
    """Seconds in which an attempt was running, pauses not counted."""


class ProgressStatus(Model):
    """How far the work is, as the pod last said."""

    progress_percentage: Annotated[int, Field(ge=0, le=100)] | None = None
    """Share of the work that is done."""
    estimated_remaining_seconds: Amount | None = None
    """Seconds of work left, pauses not counted."""
    phase: Annotated[str, StringConstraints(max_length=512)] = ""
    """What is being done."""


class EnergyStatus(Model):
    """Energy of all attempts, failed ones too, told apart by provenance."""

    joules: Amount
    """All of it."""
    measured_joules: Amount = 0
    """From a device counter read for this job alone."""
    attributed_joules: Amount = 0
    """A share of a node's measured energy."""
    estimated_joules: Amount = 0
    """By a model, unseen tails included."""


class EmissionsStatus(Model):
    """Location-based emissions, gross, and the signed difference to the counterfactual, with each time's intensity as it was known when its energy was entered."""

    signal: Signal
    """What kind of intensity they were computed with."""
    zone: ZoneName
    """The zone of the machine that ran the job."""
    micrograms: Amount
    """CO2 equivalent of the energy whose hour's intensity is known."""
    counterfactual_micrograms: Amount | None = None
    """The useful work, uninterrupted, from the earliest feasible start (the creation of the job), same place and overheads; absent where an hour's intensity is not known."""
    difference_micrograms: SignedAmount | None = None
    """Counterfactual less actual; below zero where waiting cost more."""
    unaccounted_joules: Amount = 0
    """Energy of hours whose intensity is not known; it is in no figure of emissions."""


class CounterStatus(Model):
    """The most that was seen of one counter of an attempt."""

    component: Component
    """What drew it."""
    provenance: Provenance
    """How sure it is."""
    method: Method
    """How it was found."""
    millijoules: Amount
    """Energy since the attempt began."""


class UsefulStatus(Model):
    """Work that was needed once, and what it would have emitted without pauses."""

    microseconds: Amount = 0
    """How long it took."""
    nanograms: Amount = 0
    """What it would have emitted, CO2 equivalent."""
    unknown: bool = False
    """An intensity that this needs is not known."""


class AmountStatus(Model):
    """Energy and what it emitted, of one place and kind."""

    zone: ZoneName | None = None
    """The grid zone; absent where none is known."""
    signal: Signal | None = None
    """The kind of intensity; absent where none is known."""
    provenance: Provenance
    """How the energy was found."""
    millijoules: Amount
    """Energy."""
    nanograms: Amount = 0
    """CO2 equivalent of the energy whose time has a known intensity."""
    unaccounted_millijoules: Amount = 0
    """Energy of times without a known intensity."""


class AttemptStatus(Model):
    """One attempt as far as it is accounted for."""

    uid: Annotated[str, StringConstraints(max_length=64)]
    """The pod's UID."""
    zone: ZoneName | None = None
    """The grid zone of the node that it runs on."""
    start_time: MicroTime
    """When it started."""
    end_time: MicroTime | None = None
    """When it ended; absent while it runs."""
    last_time: MicroTime
    """When its meters were last read."""
    succeeded: bool = False
    """It ended well."""
    told_end: bool = False
    """It told its last reading itself: nothing is unseen."""
    counters: Annotated[list[CounterStatus], Field(max_length=8)] = []
    """The most that was seen of its counters."""
    pending: UsefulStatus = UsefulStatus()
    """Its work since its last checkpoint."""
    tail: AmountStatus | None = None
    """What nobody saw between its last reading and its end, estimated from the reservation."""


class AccountStatus(Model):
    """The books of the job: what energy and emissions are summed from, so that nothing is counted twice."""

    sequence: Amount = 0
    """Journal entries up to this one are in the books."""
    attempts: Annotated[int, Field(ge=0)] = 0
    """Attempts so far."""
    active_microseconds: Amount = 0
    """Run time of the attempts that have ended."""
    amounts: Annotated[list[AmountStatus], Field(max_length=24)] = []
    """Energy and emissions so far, tails of the attempts below not included."""
    kept: UsefulStatus = UsefulStatus()
    """Work that a checkpoint or the end has kept."""
    closed_until: MicroTime | None = None
    """When the newest attempt began that nothing more is entered for."""
    latest: Annotated[list[AttemptStatus], Field(max_length=3)] = []
    """The latest attempts, oldest first."""


class RoleAccountStatus(AccountStatus):
    """The books of one role of a federated job."""

    role: SiteName
    """`server`, or the site's name."""


class RoleState(StrEnum):
    """What a role of a federated job does."""

    WAITING = "Waiting"
    """It does not run: not started yet, suspended, or about to be started again."""
    RUNNING = "Running"
    """A pod works."""
    ENDED = "Ended"
    """It ended well: the training is over."""
    FAILED = "Failed"
    """No more attempts are made; the others go on without it where they are enough."""


class RoleStatus(Model):
    """The server or a site of a federated job."""

    name: SiteName
    """`server`, or the site's name."""
    state: RoleState
    """What it does."""
    message: Annotated[str, StringConstraints(max_length=256)] = ""
    """Why it failed, or why its last update was dropped."""
    zone: ZoneName | None = None
    """The grid zone that it runs in."""
    joules: Amount = 0
    """The energy that it has used."""
    micrograms: Amount | None = None
    """CO2 equivalent of it, by its own zone; absent where the zone's intensity is not known."""
    rounds: Annotated[int, Field(ge=0)] = 0
    """Rounds in which its update counted; of the server, rounds so far."""
    dropped_updates: Annotated[int, Field(ge=0)] = 0
    """Updates of it that were dropped."""
    bytes: Amount = 0
    """Weights sent to it and back; of the server, of all sites."""
    examples: Amount | None = None
    """How many a site trains on."""
    accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    """Of a site's last training, on its own data; of the server, of the global weights on its test data."""


class JobStatus(Model):
    """What became of a job."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The generation of the spec that this status is about."""
    state: State
    """Where the job is in its life."""
    message: Message = ""
    """What it does or waits for, in a sentence."""
    start_time: Timestamp | None = None
    """When its first attempt started."""
    completion_time: Timestamp | None = None
    """When it ended."""
    deadline: Timestamp | None = None
    """When it must have ended."""
    planned_start: Timestamp | None = None
    """The next planned start, while the job waits for it."""
    first_planned_start: Timestamp | None = None
    """When the first attempt was planned to start, as decided last before it did; kept from then on."""
    difference: Annotated[str, StringConstraints(max_length=64)] | None = None
    """The signed difference for people: expected until the job has run, then of what was used."""
    plan: PlanStatus | None = None
    """When and where it is to run; kept from the last decision once it has ended."""
    run: RunStatus | None = None
    """The current run."""
    progress: ProgressStatus | None = None
    """How far the work is."""
    energy: EnergyStatus | None = None
    """What it has used."""
    emissions: EmissionsStatus | None = None
    """What that emitted."""
    account: AccountStatus | None = None
    """The books behind energy and emissions; of a federated job in `accounts` instead."""
    accounts: (
        Annotated[
            list[RoleAccountStatus], Field(max_length=MAX_SITES + 1, json_schema_extra=_by("role"))
        ]
        | None
    ) = None
    """The books of each role of a federated job."""
    roles: (
        Annotated[list[RoleStatus], Field(max_length=MAX_SITES + 1, json_schema_extra=_by("name"))]
        | None
    ) = None
    """Of a federated job: the server and each site, with what they used in their own zones."""
    result: Result | None = None
    """What came out."""
    report_path: Annotated[str, StringConstraints(max_length=512)] | None = None
    """The full report, relative to the claim's root."""
    report_sha256: Annotated[str, StringConstraints(max_length=64)] | None = None
    """Its digest."""
    conditions: Annotated[list[Condition], Field(max_length=16, json_schema_extra=_by("type"))] = []
    """What is said beside the state."""
