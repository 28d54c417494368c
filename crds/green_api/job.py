"""The ``GreenTrainingJob``: what a user applies."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints

from green_api.base import (
    DnsLabel,
    DnsSubdomain,
    Duration,
    LabelSelector,
    Model,
    Resource,
    Rule,
    Timestamp,
    ZoneName,
    is_duration,
)
from green_api.resources import Resources
from green_api.status import JobStatus
from green_api.task import Task


class Policy(StrEnum):
    """When a job may start."""

    LOWEST_EMISSIONS = "LowestEmissions"
    """When the grid is cleanest before the deadline."""
    IMMEDIATELY = "Immediately"
    """Now."""


class OnDeadlineMissed(StrEnum):
    """What happens at a deadline that has passed."""

    CONTINUE = "Continue"
    """The job goes on to its end."""
    FAIL = "Fail"
    """The job is stopped and fails; its checkpoints stay."""


class Schedule(Model):
    """When the job has to be done; what the planner may choose from."""

    complete_within: Duration | None = None
    """The job must have ended so long after its creation (on one machine: after its first start)."""
    deadline: Timestamp | None = None
    """The job must have ended by this moment."""
    expected_duration: Duration | None = None
    """An estimate of the run time without pauses; never a limit."""
    interruptible: bool = False
    """The job may be suspended and resumed; it checkpoints on SIGTERM."""
    policy: Policy = Policy.LOWEST_EMISSIONS
    """When the job may start."""
    on_deadline_missed: OnDeadlineMissed = OnDeadlineMissed.CONTINUE
    """What happens at a deadline that has passed."""

    def ends(self, created: datetime) -> datetime | None:
        """When a job of that age must have ended; None without a deadline."""
        if self.complete_within is not None:
            return created + self.complete_within
        return self.deadline

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!(has(self.completeWithin) && has(self.deadline))",
            message="completeWithin and deadline exclude each other: remove one",
            holds=lambda s: s.complete_within is None or s.deadline is None,
            field="deadline",
        ),
        Rule(
            cel="self.policy == 'Immediately' || has(self.completeWithin) || has(self.deadline)",
            message="without a deadline nothing can be planned: give completeWithin or deadline, "
            "or set policy: Immediately",
            holds=lambda s: (
                s.policy is Policy.IMMEDIATELY
                or s.complete_within is not None
                or s.deadline is not None
            ),
            field="completeWithin",
        ),
        Rule(
            cel="self.policy == 'Immediately' || has(self.expectedDuration)",
            message="the planner needs an estimate of the run time: give expectedDuration, "
            "or set policy: Immediately",
            holds=lambda s: s.policy is Policy.IMMEDIATELY or s.expected_duration is not None,
            field="expectedDuration",
        ),
        Rule(
            cel=f"!has(self.expectedDuration) || !{is_duration('self.expectedDuration')} || "
            "duration(self.expectedDuration) >= duration('1s')",
            message="must be at least 1s",
            holds=lambda s: (
                s.expected_duration is None or s.expected_duration >= timedelta(seconds=1)
            ),
            field="expectedDuration",
        ),
        Rule(
            cel="!has(self.completeWithin) || !has(self.expectedDuration) || "
            f"!{is_duration('self.completeWithin')} || !{is_duration('self.expectedDuration')} || "
            "duration(self.completeWithin) >= duration(self.expectedDuration)",
            message="is shorter than expectedDuration: the job cannot fit; allow more time or "
            "expect less",
            holds=lambda s: (
                s.complete_within is None
                or s.expected_duration is None
                or s.complete_within >= s.expected_duration
            ),
            field="completeWithin",
        ),
    )


class Storage(Model):
    """Where checkpoints, reports and models live. On one machine `--output` stands for the claim."""

    claim_name: DnsSubdomain
    """A PersistentVolumeClaim in the job's namespace."""


class Placement(Model):
    """Where the job may run."""

    zones: Annotated[list[ZoneName], Field(min_length=1, max_length=16)]
    """Names of the grid zones that the job may run in."""


class EnvVar(Model):
    """A variable of the pod's environment, by value."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=253)]
    """Its name."""
    value: Annotated[str, StringConstraints(max_length=4096)] = ""
    """Its value."""


class TolerationOperator(StrEnum):
    """As in the Kubernetes API."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """As in the Kubernetes API."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(Model):
    """A node's taint that the pod bears, as in the Kubernetes API."""

    key: Annotated[str, StringConstraints(max_length=317)] | None = None
    """The taint's key; absent with Exists: all keys."""
    operator: TolerationOperator = TolerationOperator.EQUAL
    """How the value is compared."""
    value: Annotated[str, StringConstraints(max_length=63)] | None = None
    """The taint's value."""
    effect: TaintEffect | None = None
    """The taint's effect; absent: all effects."""


class Pod(Model):
    """The part of the pod that a job's author chooses; on one machine only its environment counts."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = None
    """The container image; by default the administrator's, which holds `green_jobs` and PyTorch."""
    image_pull_secrets: Annotated[list[DnsSubdomain], Field(max_length=8)] = []
    """Names of Secrets in the job's namespace that the image is pulled with."""
    node_selector: LabelSelector = {}
    """Labels that a node must have, beside those of the zone."""
    tolerations: Annotated[list[Toleration], Field(max_length=16)] = []
    """Taints that the pod bears, beside the administrator's."""
    priority_class_name: DnsSubdomain | None = None
    """The pod's priority class."""

    env: Annotated[list[EnvVar], Field(max_length=64)] = []
    """More variables of the environment; names that begin with GREEN_ are reserved."""
    termination_grace_period_seconds: Annotated[int, Field(ge=1, le=3600)] = 120
    """From SIGTERM to SIGKILL: the time for a last checkpoint."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.env.all(e, !e.name.startsWith('GREEN_'))",
            message="names that begin with GREEN_ are reserved: choose another",
            holds=lambda p: not any(e.name.startswith("GREEN_") for e in p.env),
            field="env",
        ),
    )


class JobSpec(Model):
    """What is to be done, until when, with what."""

    task: Task
    """What the job does; cannot be changed."""
    schedule: Schedule
    """When it has to be done; may be changed at any time."""
    resources: Resources = Resources()
    """What a pod reserves; may be changed before the first start."""
    storage: Storage | None = None
    """Where checkpoints and results live; cannot be changed."""
    placement: Placement | None = None
    """Where it may run; by default in the default zone; may be changed before the first start."""
    pod: Pod = Pod()
    """The part of the pod that the job's author chooses."""
    suspend: bool = False
    """A person's pause: the job does not start, and stops at its next checkpoint."""
    retries: Annotated[int, Field(ge=0, le=100)] = 3
    """How many failed attempts are tried again; a suspension is no failure."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=315_360_000)] | None = None
    """The job is deleted so many seconds after its end; by default it stays. On one machine nothing is deleted."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.task == oldSelf.task",
            message="task cannot be changed: create a new job",
            holds=None,
            field="task",
        ),
        Rule(
            cel="has(self.storage) == has(oldSelf.storage) && "
            "(!has(self.storage) || self.storage == oldSelf.storage)",
            message="storage cannot be changed: create a new job",
            holds=None,
            field="storage",
        ),
        Rule(
            cel="has(self.storage) || !self.schedule.interruptible",
            message="an interruptible job needs storage.claimName for its checkpoints",
            holds=lambda s: s.storage is not None or not s.schedule.interruptible,
            field="storage",
        ),
        Rule(
            cel="has(self.storage) || !has(self.task.compress)",
            message="a compress job needs storage.claimName for its models",
            holds=lambda s: s.storage is not None or s.task.compress is None,
            field="storage",
        ),
        Rule(
            cel="has(self.storage) || !has(self.task.federate)",
            message="a federate job needs storage.claimName for its server's checkpoints and model",
            holds=lambda s: s.storage is not None or s.task.federate is None,
            field="storage",
        ),
        Rule(
            cel="has(self.task.train) || self.resources.gpus <= 1",
            message="compress and federate use one GPU, more would stay idle: set resources.gpus "
            "to 1 or 0; a train task may have more",
            holds=lambda s: s.task.train is not None or s.resources.gpus <= 1,
            field="resources.gpus",
        ),
    )

    def resources_of(self, role: str) -> Resources:
        """What the pod of a role reserves."""
        federate = self.task.federate
        own = federate.resources_of(role) if federate is not None else None
        return own or self.resources


class ObjectMeta(Model):
    """The part of an object's metadata that is read here; what else Kubernetes keeps is let through."""

    model_config = ConfigDict(extra="allow")

    name: DnsSubdomain
    """Unique in its namespace."""
    namespace: DnsLabel = "default"
    """Where the object lives."""
    uid: Annotated[str, StringConstraints(max_length=64)] = ""
    """Given by the server."""
    creation_timestamp: AwareDatetime | None = None
    """Given by the server."""
    generation: int = 0
    """Rises with each change of the spec."""


# A run's Jobs are named <name>-<uid5>-<run>, and a pod's label holds that name (63 characters).
MAX_NAME_LENGTH: Final = 50
# Of a federated job with -<role> at its end, for up to 999 runs.
MAX_NAME_AND_SITE_LENGTH: Final = 52
# So that the server and the sites of a partition, site-31 at most, fit too.
MAX_FEDERATED_NAME_LENGTH: Final = 45
# A Service has the run's name, and its own form (RFC 1035).
_SERVICE_NAME: Final = "^[a-z]([-a-z0-9]*[a-z0-9])?$"


class GreenTrainingJob(Resource):
    """A training, compression, distillation or federated job that runs when the grid is clean."""

    api_version: Literal["greentraining.io/v1alpha1"]
    kind: Literal["GreenTrainingJob"]
    metadata: ObjectMeta
    spec: JobSpec
    """What is to be done."""
    status: JobStatus | None = None
    """What became of it; written by the operator."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel=f"self.metadata.name.size() <= {MAX_NAME_LENGTH}",
            message=f"metadata.name may have {MAX_NAME_LENGTH} characters, for names are derived from it",
            holds=lambda j: len(j.metadata.name) <= MAX_NAME_LENGTH,
            field="metadata",
        ),
        Rule(
            cel="!has(self.spec.task.federate) || "
            f"(self.metadata.name.size() <= {MAX_FEDERATED_NAME_LENGTH} && "
            f"self.metadata.name.matches('{_SERVICE_NAME}'))",
            message="metadata.name of a federate job names a Service too: a letter, then letters, "
            f"digits and '-', {MAX_FEDERATED_NAME_LENGTH} characters at most",
            holds=lambda j: (
                j.spec.task.federate is None
                or (
                    len(j.metadata.name) <= MAX_FEDERATED_NAME_LENGTH
                    and re.fullmatch(_SERVICE_NAME, j.metadata.name) is not None
                )
            ),
            field="metadata",
        ),
        Rule(
            cel="!has(self.spec.task.federate) || !has(self.spec.task.federate.sites) || "
            "self.spec.task.federate.sites.all(s, "
            f"self.metadata.name.size() + s.name.size() <= {MAX_NAME_AND_SITE_LENGTH})",
            message=f"metadata.name and a site's name may have {MAX_NAME_AND_SITE_LENGTH} characters "
            "together, for the names of pods are made of both",
            holds=lambda j: (
                j.spec.task.federate is None
                or all(
                    len(j.metadata.name) + len(site) <= MAX_NAME_AND_SITE_LENGTH
                    for site in j.spec.task.federate.names
                )
            ),
            field="metadata",
        ),
        Rule(
            cel="!has(oldSelf.status) || !has(oldSelf.status.startTime) || "
            "self.spec.resources == oldSelf.spec.resources",
            message="spec.resources can be changed before the first start only: create a new job",
            holds=None,
            field="spec",
        ),
        Rule(
            cel="!has(oldSelf.status) || !has(oldSelf.status.startTime) || "
            "(has(self.spec.placement) == has(oldSelf.spec.placement) && "
            "(!has(self.spec.placement) || self.spec.placement == oldSelf.spec.placement))",
            message="spec.placement can be changed before the first start only: create a new job",
            holds=None,
            field="spec",
        ),
    )
