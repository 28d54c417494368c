"""The values of the Helm chart: their types, from which `values.yaml` and its schema are written.

What the operator reads (`config`) and what zones say are the types of the API itself: one
vocabulary for manifest, configuration file and chart.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import yaml
from green_api.base import DnsLabel, DnsSubdomain, LabelSelector, Model, Quantity, ZoneName
from green_api.config import Cidr, OperatorConfig
from green_api.zone import ZoneSpec
from pydantic import Field, StringConstraints

Schema = dict[str, Any]

_WIDTH: Final = 100
_DRAFT: Final = "http://json-schema.org/draft-07/schema#"

_Text = Annotated[str, StringConstraints(max_length=1024)]
_Line = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
_Labels = dict[_Text, Annotated[str, StringConstraints(max_length=63)]]
_Annotations = dict[_Text, str]
_Amounts = Annotated[dict[_Text, Quantity], Field(max_length=8)]
_Free = dict[str, Any]
_PullPolicy = Literal["Always", "IfNotPresent", "Never"]
_ScrapeTime = Annotated[str, StringConstraints(pattern="^([0-9]+(ms|s|m|h))+$", max_length=16)]


class Global(Model):
    """Of a chart that has this one as its part; Helm puts it here, nothing is read from it."""

    model_config = {"extra": "allow"}


class Crds(Model):
    """The definitions of GreenTrainingJob and GridZone."""

    enabled: bool = True
    """Install and upgrade them with the chart."""
    keep: bool = True
    """Leave them, and with them all jobs and zones, where the chart is uninstalled."""


class Image(Model):
    """The operator's image."""

    repository: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = (
        "ghcr.io/greentraining/operator"
    )
    """Registry and name."""
    tag: Annotated[str, StringConstraints(max_length=128)] = ""
    """By default the chart's appVersion."""
    digest: Annotated[str, StringConstraints(pattern="^(sha256:[0-9a-f]{64})?$", max_length=71)] = (
        ""
    )
    """Such as sha256:…; it counts instead of the tag."""
    pull_policy: _PullPolicy = "IfNotPresent"
    """When the image is pulled."""


class PullSecret(Model):
    """A Secret of the release's namespace."""

    name: DnsSubdomain
    """Its name."""


class ResourceAmounts(Model):
    """What the operator's container reserves and may use."""

    requests: _Amounts = {"cpu": "100m", "memory": "128Mi"}
    """What it reserves."""
    limits: _Amounts = {"memory": "512Mi"}
    """What it may use at most. 10,000 jobs take about 150 MB."""


class ServiceAccount(Model):
    """The operator's identity."""

    create: bool = True
    """Make it."""
    name: DnsSubdomain | None = None
    """Its name; by default the release's full name. Without `create` one that exists."""
    annotations: _Annotations = {}
    """More annotations."""


class Rbac(Model):
    """Who may do what."""

    create: bool = True
    """Give the operator's account just what it uses."""
    aggregate_to_default_roles: bool = True
    """Add the viewer and editor roles to view, edit and admin."""
    zones_visible_to_all: bool = False
    """Let every signed-in user see the zones, which no binding in a namespace can give."""


class AdmissionPolicy(Model):
    """A ValidatingAdmissionPolicy for jobs."""

    enabled: bool = False
    """Only who may create pods in a namespace may create or change a job there."""


class Service(Model):
    """The Service in front of /metrics, which `helm test` uses too."""

    annotations: _Annotations = {}
    """More annotations, such as those by which Prometheus finds it."""


class ServiceMonitor(Model):
    """A ServiceMonitor of the Prometheus operator, whose definitions must be there."""

    enabled: bool = False
    """Make it."""
    interval: _ScrapeTime = "30s"
    """Between two scrapes."""
    scrape_timeout: _ScrapeTime = "10s"
    """For one scrape."""
    labels: _Labels = {}
    """More labels, such as those that a Prometheus selects by."""


class PrometheusRule(Model):
    """Recording rules and alerts for the Prometheus operator, whose definitions must be there."""

    enabled: bool = False
    """Make them."""
    labels: _Labels = {}
    """More labels, such as those that a Prometheus selects by."""


class Dashboards(Model):
    """Grafana's dashboards, as ConfigMaps that its sidecar finds by a label."""

    enabled: bool = False
    """Make them."""
    namespace: DnsLabel | None = None
    """Where the sidecar looks; by default the release's namespace."""
    labels: _Labels = {"grafana_dashboard": "1"}
    """What the sidecar looks for."""
    annotations: _Annotations = {}
    """More annotations, such as the folder that the sidecar puts them in."""


class ApiServer(Model):
    """Where the API server is."""

    cidrs: Annotated[list[Cidr], Field(max_length=32)] = []
    """Its addresses; none named: any."""
    ports: Annotated[list[Annotated[int, Field(ge=1, le=65535)]], Field(min_length=1)] = [443, 6443]
    """Its ports, before and after the Service's translation."""


class JobPolicies(Model):
    """Policies for the pods of jobs, for namespaces with default-deny."""

    namespaces: Annotated[list[DnsLabel], Field(max_length=256)] = []
    """Where the operator may ask pods, pods DNS, and sites their servers; nothing else."""
    extra_egress: list[_Free] = []
    """More egress rules of job pods (NetworkPolicyEgressRule), such as to a registry of data."""


class NetworkPolicies(Model):
    """NetworkPolicies that name all that is needed, so that default-deny can stand beside them."""

    enabled: bool = False
    """Make those of the operator's pods."""
    metrics_from: list[_Free] = []
    """Who may scrape (NetworkPolicyPeer); none named: everybody."""
    api_server: ApiServer = ApiServer()
    """Where the API server is."""
    providers: Annotated[list[Cidr], Field(max_length=32)] = ["0.0.0.0/0", "::/0"]
    """Addresses of the providers of intensity, at port 443; none where no zone is live."""
    extra_egress: list[_Free] = []
    """More egress rules of the operator (NetworkPolicyEgressRule), such as to a mirror."""
    jobs: JobPolicies = JobPolicies()
    """Policies for the pods of jobs, independent of `enabled`."""


class Variable(Model):
    """A variable of the operator's environment, as in the Kubernetes API."""

    name: Annotated[str, StringConstraints(pattern="^[A-Za-z_][A-Za-z0-9_]*$", max_length=253)]
    """Its name."""
    value: _Line | None = None
    """Its value."""
    value_from: _Free | None = None
    """Or where its value is."""


class Zone(Model):
    """One GridZone."""

    name: ZoneName
    """Its name."""
    spec: ZoneSpec
    """As in the GridZone. It names Secrets that exist already, never their content."""


class Values(Model):
    """All values of the chart."""

    global_: Annotated[Global | None, Field(alias="global")] = None
    """Of a chart that has this one as its part; nothing is read from it."""
    crds: Crds = Crds()
    """The definitions of GreenTrainingJob and GridZone."""
    config: OperatorConfig = OperatorConfig()
    """The operator's configuration file."""
    zones: Annotated[list[Zone], Field(max_length=64)] = []
    """Grid zones that the chart makes; at most one is the default. It never deletes one."""
    traces: dict[DnsSubdomain, dict[_Text, str]] = {}
    """ConfigMaps with traces for zones: by name, then by key, the CSV."""
    replicas: Annotated[int, Field(ge=1, le=5)] = 2
    """One of them acts, the others stand by."""
    image: Image = Image()
    """The operator's image."""
    image_pull_secrets: Annotated[list[PullSecret], Field(max_length=8)] = []
    """Secrets that the image is pulled with."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """How much the operator tells."""
    resources: ResourceAmounts = ResourceAmounts()
    """What the operator's container reserves and may use."""
    run_as_user: Annotated[int, Field(ge=1, le=2**31)] | None = 65532
    """User and group of the operator's container; null leaves it to the platform (OpenShift)."""
    priority_class_name: DnsSubdomain | None = None
    """The pods' priority class."""
    node_selector: LabelSelector = {}
    """Labels that a node must have."""
    tolerations: list[_Free] = []
    """Taints that the pods bear, as in the Kubernetes API."""
    affinity: _Free = {}
    """As in the Kubernetes API; given, it replaces the spread over machines and failure zones."""
    topology_spread_constraints: list[_Free] = []
    """As in the Kubernetes API; they name their own labelSelector."""
    extra_env: Annotated[list[Variable], Field(max_length=64)] = []
    """More variables of the operator's environment."""
    extra_volumes: Annotated[list[_Free], Field(max_length=16)] = []
    """More volumes of the operator's pods, as in the Kubernetes API."""
    extra_volume_mounts: Annotated[list[_Free], Field(max_length=16)] = []
    """Where they are mounted in the operator's container."""
    common_labels: _Labels = {}
    """Labels of every object."""
    pod_labels: _Labels = {}
    """More labels of the operator's pods."""
    pod_annotations: _Annotations = {}
    """More annotations of the operator's pods."""
    fullname_override: Annotated[
        str, StringConstraints(pattern="^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$", max_length=50)
    ] = ""
    """Names the objects in place of the release's name."""
    service_account: ServiceAccount = ServiceAccount()
    """The operator's identity."""
    rbac: Rbac = Rbac()
    """Who may do what."""
    admission_policy: AdmissionPolicy = AdmissionPolicy()
    """A ValidatingAdmissionPolicy for jobs."""
    service: Service = Service()
    """The Service in front of /metrics, which `helm test` uses too."""
    service_monitor: ServiceMonitor = ServiceMonitor()
    """A ServiceMonitor of the Prometheus operator, whose definitions must be there."""
    prometheus_rule: PrometheusRule = PrometheusRule()
    """Recording rules and alerts for the Prometheus operator, whose definitions must be there."""
    dashboards: Dashboards = Dashboards()
    """Grafana's dashboards, as ConfigMaps that its sidecar finds by a label."""
    network_policy: NetworkPolicies = NetworkPolicies()
    """NetworkPolicies that name all that is needed, so that default-deny can stand beside them."""


def schema() -> Schema:
    """The JSON schema of the values; strict, and without what only the API server reads."""
    source = Values.model_json_schema(by_alias=True, mode="validation")
    definitions = {name: _plain(node) for name, node in sorted(source.pop("$defs").items())}
    return {"$schema": _DRAFT, **_plain(source), "$defs": definitions}


def _plain(node: Any) -> Any:  # noqa: ANN401 - a JSON value
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "anyOf" in node:
        # Helm takes a null for an absent value before it looks at the schema.
        options = [option for option in node["anyOf"] if option.get("type") != "null"]
        beside = {key: value for key, value in node.items() if key != "anyOf"}
        node = options[0] | beside if len(options) == 1 else beside | {"anyOf": options}
    result = {
        # A property may have the name of a keyword.
        key: {name: _plain(child) for name, child in value.items()}
        if key == "properties"
        else _plain(value)
        for key, value in node.items()
        if key not in {"title", "default"} and not key.startswith("x-kubernetes")
    }
    if node.get("x-kubernetes-int-or-string"):
        result["type"] = ["integer", "string"]
    return result


def values_file() -> str:
    """The commented `values.yaml`."""
    return "\n".join(_lines(schema(), Values().to_wire(), 0)).lstrip("\n") + "\n"


def _lines(whole: Schema, values: dict[str, Any], depth: int, node: Schema | None = None) -> Any:  # noqa: ANN401
    for name, child, target in _properties(whole, node or whole):
        if name == "global":
            continue
        if depth == 0:
            yield ""
        pad = "  " * depth
        text = child.get("description") or target.get("description", "")
        yield from textwrap.wrap(
            text, _WIDTH, initial_indent=f"{pad}# ", subsequent_indent=f"{pad}# ",
            break_on_hyphens=False,
        )  # fmt: skip
        if name not in values:
            yield f"{pad}# {name}:"
        elif "properties" in target:
            yield f"{pad}{name}:" + ("" if values[name] else " {}")
            yield from _lines(whole, values[name], depth + 1, target)
        else:
            text = yaml.safe_dump({name: values[name]}, default_flow_style=False, sort_keys=False)
            yield from (f"{pad}{line}" for line in text.rstrip("\n").splitlines())


def table() -> str:
    """The values as a table of Markdown."""
    rows = ["| value | default | meaning |", "|-|-|-|"]
    rows += (f"| `{p}` | `{d}` | {t} |" for p, d, t in _rows(schema(), Values().to_wire(), ""))
    return "\n".join(row.replace("| `` |", "|  |") for row in rows) + "\n"


def _rows(
    whole: Schema, values: dict[str, Any], path: str, node: Schema | None = None
) -> Iterator[tuple[str, str, str]]:
    for name, child, target in _properties(whole, node or whole):
        if name == "global":
            continue
        here = f"{path}{name}"
        if "properties" in target and name in values:
            yield from _rows(whole, values[name], f"{here}.", target)
        else:
            yield here, _flow(values[name]) if name in values else "", child.get("description", "")


def _properties(whole: Schema, node: Schema) -> Iterator[tuple[str, Schema, Schema]]:
    """Name, what is said of the property, and what it is."""
    for name, child in node["properties"].items():
        reference = child.get("$ref", "").rpartition("/")[2]
        yield name, child, whole["$defs"][reference] if reference else child


def _flow(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
    return text.removesuffix("\n...\n").strip()
