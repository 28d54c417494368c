"""The operator's configuration: what belongs to the administrator, never to a job's author."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_network
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError

from green_api import GROUP
from green_api.base import DnsLabel, DnsSubdomain, Duration, LabelSelector, Model, Rule
from green_api.errors import InvalidManifestError
from green_api.job import EnvVar, Toleration
from green_api.problems import describe_problems


def _network(text: str) -> str:
    try:
        ip_network(text)
    except ValueError as error:
        message = f"{error}; write it like 10.0.0.0/8"
        raise PydanticCustomError("network", "{message}", {"message": message}) from None
    return text


Cidr = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-fA-F.:]+/[0-9]{1,3}$", max_length=49),
    AfterValidator(_network),
]


Annotations = Annotated[
    dict[
        Annotated[str, StringConstraints(max_length=317)],
        Annotated[str, StringConstraints(max_length=4096)],
    ],
    Field(max_length=16),
]


def _not_ours(field: str, name: str) -> Rule:
    def holds(defaults: PodDefaults) -> bool:
        given: dict[str, str] = getattr(defaults, name)
        return not any(key.startswith(f"{GROUP}/") for key in given)

    return Rule(
        cel=f"self.{field}.all(key, !key.startsWith('{GROUP}/'))",
        message=f"keys below {GROUP}/ are the operator's: choose other ones",
        holds=holds,
        field=field,
    )


class PodDefaults(Model):
    """What every job's pod has that its author does not choose."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = (
        "ghcr.io/greentraining/jobs:0.1.0"
    )
    """The image of jobs that name none."""
    image_pull_policy: Annotated[
        str, StringConstraints(pattern="^(Always|IfNotPresent|Never)$", max_length=16)
    ] = "IfNotPresent"
    """When the image is pulled."""
    gpu_resource_name: Annotated[str, StringConstraints(max_length=317)] = "nvidia.com/gpu"
    """The extended resource that stands for a GPU."""
    run_as_user: Annotated[int, Field(ge=1, le=2**31)] = 65532
    """User and group of the container; never root."""
    node_selector: LabelSelector = {}
    """Labels that a node must have."""
    tolerations: Annotated[list[Toleration], Field(max_length=16)] = []
    """Taints that the pods bear."""
    env: Annotated[list[EnvVar], Field(max_length=64)] = []
    """Variables of every job's environment; the author's own of the same name win."""
    volumes: Annotated[list[dict[str, Any]], Field(max_length=16)] = []
    """Volumes beside the claim, as in the Kubernetes API."""
    volume_mounts: Annotated[list[dict[str, Any]], Field(max_length=16)] = []
    """Where they are mounted."""
    runtime_class_name: DnsSubdomain | None = None
    """The runtime class, such as that of a sandbox or of a GPU's runtime."""
    pod_labels: LabelSelector = {}
    """More labels, such as those of a mesh or of cost accounting; none below greentraining.io/."""
    pod_annotations: Annotations = {}
    """More annotations; none below greentraining.io/."""

    rules: ClassVar[tuple[Rule, ...]] = (
        _not_ours("podLabels", "pod_labels"),
        _not_ours("podAnnotations", "pod_annotations"),
    )


class PowerConfig(Model):
    """The power table: what reserved hardware can draw, for plans and for what no meter shows."""

    gpu_watts: Annotated[float, Field(gt=0, le=10_000)] = 400.0
    """One GPU; an A100 SXM's board power."""
    core_watts: Annotated[float, Field(gt=0, le=1_000)] = 4.0
    """One busy core; CodeCarbon's fallback for a thread of an unknown processor."""


class RequestLimits(Model):
    """How hard the API server may be asked."""

    per_second: Annotated[float, Field(gt=0, le=10_000)] = 50.0
    """Requests a second on average."""
    burst: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Requests at once."""
    concurrency: Annotated[int, Field(ge=1, le=256)] = 16
    """Jobs that are reconciled at the same time."""


class LeaderElection(Model):
    """The Lease by which replicas agree who acts."""

    lease_duration: Duration = timedelta(seconds=9)
    """Without a renewal for so long, another replica takes over."""
    renew_deadline: Duration = timedelta(seconds=6)
    """Without a renewal for so long, the leader stops writing and ends."""
    retry_period: Duration = timedelta(seconds=2)
    """Between two attempts to acquire or renew."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="duration(self.renewDeadline) < duration(self.leaseDuration)",
            message="must be shorter than leaseDuration",
            holds=lambda e: e.renew_deadline < e.lease_duration,
            field="renewDeadline",
        ),
        Rule(
            cel="duration(self.retryPeriod) < duration(self.renewDeadline)",
            message="must be shorter than renewDeadline",
            holds=lambda e: e.retry_period < e.renew_deadline,
            field="retryPeriod",
        ),
    )


class SourceUrls(Model):
    """Where the providers of intensity are; for mirrors and proxies.

    The providers' own hosts are asked at public addresses only; what is named here may be anywhere.
    """

    uk_neso: Annotated[str, StringConstraints(max_length=2048)] | None = None
    """Base of NESO's Carbon Intensity API."""
    electricity_maps: Annotated[str, StringConstraints(max_length=2048)] | None = None
    """Base of the Electricity Maps API, version 3."""


def _at_least_a_second(field: str, name: str) -> Rule:
    def holds(config: OperatorConfig) -> bool:
        interval: timedelta = getattr(config, name)
        return interval >= timedelta(seconds=1)

    return Rule(
        cel=f"duration(self.{field}) >= duration('1s')",
        message="must be at least 1s",
        holds=holds,
        field=field,
    )


class OperatorConfig(Model):
    """The operator's configuration file."""

    watch_namespaces: Annotated[list[DnsLabel], Field(max_length=256)] = []
    """Namespaces whose jobs are run; none named: all."""
    jobs: PodDefaults = PodDefaults()
    """What every job's pod has."""
    pod_networks: Annotated[list[Cidr], Field(max_length=32)] = ["10.0.0.0/8"]
    """Only pods whose address lies here are asked for progress and energy."""
    power: PowerConfig = PowerConfig()
    """The power table."""
    outage_margin: Duration = timedelta(minutes=15)
    """A deadline is met although the operator is away for so long."""
    journal_interval: Duration = timedelta(minutes=5)
    """Between two entries of an attempt's journal, and two checkpoints."""
    progress_interval: Duration = timedelta(seconds=60)
    """Between two questions to a running pod."""
    resync_interval: Duration = timedelta(minutes=10)
    """Between two sweeps that list everything anew."""
    jobs_with_metrics: Annotated[int, Field(ge=0, le=20_000)] = 2000
    """So many jobs have metrics of their own, up to 16 each; of more, the oldest finished have none."""
    requests: RequestLimits = RequestLimits()
    """How hard the API server may be asked."""
    leader_election: LeaderElection = LeaderElection()
    """The Lease of the replicas."""
    source_urls: SourceUrls = SourceUrls()
    """Where the providers of intensity are."""

    rules: ClassVar[tuple[Rule, ...]] = (
        _at_least_a_second("journalInterval", "journal_interval"),
        _at_least_a_second("progressInterval", "progress_interval"),
        _at_least_a_second("resyncInterval", "resync_interval"),
    )

    @classmethod
    def parse(cls, document: dict[str, Any], source: str) -> Self:
        """Read a configuration strictly.

        Raises:
            InvalidManifestError: it does not fit; one line per problem.

        """
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise InvalidManifestError(source, describe_problems(error, cls)) from None
