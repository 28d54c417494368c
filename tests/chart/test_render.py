"""What the chart renders, without a cluster."""

from __future__ import annotations

import io
import itertools
import os
import re
import time
import tomllib
import urllib.request
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml
from green_api.config import OperatorConfig
from green_api.job import GreenTrainingJob
from green_api.zone import GridZone
from green_operator import permissions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts.chart_values import Values
from tests.chart.helm import CHART, Document, Helm, RefusedError, one
from tests.chart.network import End, is_allowed
from tests.chart.pods import pod_specs, violations
from tests.cluster.harness.programs import ROOT

RICH: Final[dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("values_rich.yaml").read_text()
)
GOLDEN: Final = ROOT / "tests" / "golden" / "chart.yaml"
WITHOUT_CRDS: Final = {"crds": {"enabled": False}}
_UNKNOWN_TO_KUBERNETES: Final = frozenset({"GridZone", "ServiceMonitor", "PrometheusRule"})


@pytest.mark.parametrize("values", [None, RICH], ids=["default", "rich"])
def test_lint_finds_nothing(helm: Helm, values: dict[str, Any] | None) -> None:
    printed = helm.run("lint", "--strict", CHART, *helm.given(values))
    assert "0 chart(s) failed" in printed


@pytest.mark.parametrize("version", ["1.31", "1.34"])
@pytest.mark.parametrize("values", [None, RICH], ids=["default", "rich"])
def test_kubernetes_knows_all_that_is_rendered(
    helm4: Helm, values: dict[str, Any] | None, version: str
) -> None:
    documents = helm4.template(values)
    assert len(documents) > 10
    for document in documents:
        if document["kind"] not in _UNKNOWN_TO_KUBERNETES:
            kubernetes_validate.validate(document, version, strict=True)


def test_the_default_rendering_is_as_it_was(helm: Helm) -> None:
    documents = helm.template(WITHOUT_CRDS)
    text = yaml.safe_dump_all(sorted(documents, key=_place), sort_keys=True)
    # A release is no change of what is rendered.
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    text = text.replace(f"green-training-{version}", "green-training-VERSION")
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), "UPDATE_GOLDEN=1 takes the new one"


def _place(document: Document) -> tuple[str, str]:
    return document["kind"], document["metadata"]["name"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"replica": 3}, ["replica"]),
        ({"replicas": 0}, ["replicas", "1"]),
        ({"image": {"digest": "sha256:short"}}, ["image.digest", "pattern"]),
        ({"config": {"power": {"gpuWatts": "much"}}}, ["config.power.gpuWatts", "number"]),
        ({"config": {"power": {"gpuWatts": 0}}}, ["config.power.gpuWatts", "0"]),
        ({"config": {"outageMargin": "1d"}}, ["config.outageMargin", "pattern"]),
        ({"config": {"powr": {}}}, ["config", "powr"]),
        ({"config": {"jobs": {"runAsUser": 0}}}, ["config.jobs.runAsUser", "1"]),
        ({"config": {"podNetworks": ["everywhere"]}}, ["config.podNetworks", "pattern"]),
        ({"logLevel": "LOUD"}, ["logLevel", "DEBUG"]),
        ({"zones": [{"name": "gb"}]}, ["zones.0", "spec"]),
        ({"zones": [{"name": "gb", "spec": {"sources": []}}]}, ["zones.0.spec.sources", "1"]),
        (
            {"zones": [{"name": "gb", "spec": {"sources": [{"static": {}}], "token": "x"}}]},
            ["zones.0.spec", "token"],
        ),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_with_its_place(
    helm: Helm, values: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(RefusedError) as refused:
        helm.template(values)
    # Helm 3 writes a.b.0, Helm 4 /a/b/0.
    text = str(refused.value)
    readable = text.replace("/", ".")
    assert all(word in readable for word in words), text


def test_two_default_zones_are_refused(helm: Helm) -> None:
    zone = RICH["zones"][0]
    with pytest.raises(RefusedError, match="only one may be the default, not gb and other"):
        helm.template({"zones": [zone, zone | {"name": "other"}]})


def test_the_file_of_values_says_what_the_types_say() -> None:
    assert Values.model_validate(yaml.safe_load((CHART / "values.yaml").read_text())) == Values()
    Values.model_validate(RICH)


def test_the_rich_values_leave_no_value_out() -> None:
    def left_out(default: dict[str, Any], rich: dict[str, Any], path: str) -> list[str]:
        names = []
        for name, value in default.items():
            if name not in rich:
                names.append(path + name)
            elif isinstance(value, dict) and value and isinstance(rich[name], dict):
                names += left_out(value, rich[name], f"{path}{name}.")
        return names

    stays = {"crds.enabled", "rbac.create", "rbac.aggregateToDefaultRoles", "serviceAccount.create"}
    assert set(left_out(Values().to_wire(), RICH, "")) == stays


def test_it_can_be_a_part_of_another_chart(helm: Helm, tmp_path: Path) -> None:
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "green-training").symlink_to(CHART)
    (tmp_path / "Chart.yaml").write_text("{apiVersion: v2, name: parent, version: 1.0.0}")
    (tmp_path / "values.yaml").write_text("{global: {registry: x}, green-training: {replicas: 1}}")
    documents = [d for d in yaml.safe_load_all(helm.run("template", "x", tmp_path)) if d]
    assert one(documents, "Deployment")["spec"]["replicas"] == 1


@pytest.mark.parametrize("values", [None, RICH], ids=["default", "rich"])
def test_the_operator_reads_its_configuration(helm: Helm, values: dict[str, Any] | None) -> None:
    config = one(_rest(helm.template(values)), "ConfigMap", _name(values))
    document = yaml.safe_load(config["data"]["config.yaml"])
    wanted = OperatorConfig.parse((values or {}).get("config", {}), "the values")
    assert OperatorConfig.parse(document, "config.yaml") == wanted


def test_the_operator_can_be_given_an_authority(helm: Helm) -> None:
    pod = one(helm.template(RICH), "Deployment")["spec"]["template"]["spec"]
    mounts = pod["containers"][0]["volumeMounts"]
    assert [volume["name"] for volume in pod["volumes"]] == ["config", "authority"]
    assert pod["volumes"][1:] == RICH["extraVolumes"]
    assert mounts[1:] == RICH["extraVolumeMounts"]


def test_a_changed_configuration_starts_new_pods(helm4: Helm) -> None:
    def annotations(values: dict[str, Any]) -> dict[str, str]:
        deployment = one(helm4.template(values), "Deployment")
        found: dict[str, str] = deployment["spec"]["template"]["metadata"]["annotations"]
        return found

    before, after = annotations({}), annotations({"config": {"outageMargin": "20m"}})
    assert before["checksum/config"] != after["checksum/config"]


@pytest.mark.parametrize("keep", [True, False])
def test_the_crds_are_the_generated_ones(helm: Helm, keep: bool) -> None:
    documents = helm.template({"crds": {"keep": keep}})
    rendered = {
        d["metadata"]["name"]: d for d in documents if d["kind"] == "CustomResourceDefinition"
    }
    generated = [yaml.safe_load(file.read_text()) for file in (ROOT / "crds").glob("*.yaml")]
    assert rendered.keys() == {crd["metadata"]["name"] for crd in generated}
    for crd in generated:
        own = rendered[crd["metadata"]["name"]]
        assert own["spec"] == crd["spec"]
        policy = own["metadata"].get("annotations", {}).get("helm.sh/resource-policy")
        assert policy == ("keep" if keep else None)


def test_zones_and_traces_are_what_the_values_say(helm: Helm) -> None:
    documents = helm.template(RICH)
    for wanted in RICH["zones"]:
        zone = one(documents, "GridZone", wanted["name"])
        assert zone["spec"] == wanted["spec"]
        GridZone.parse(zone, "rendered")
        assert zone["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert one(documents, "ConfigMap", "gb-2020")["data"] == RICH["traces"]["gb-2020"]


def test_the_rights_everywhere_are_those_of_the_operator(helm: Helm) -> None:
    documents = helm.template()
    everywhere = one(documents, "ClusterRole", "green-training")
    assert everywhere["rules"] == permissions.CLUSTER + permissions.WATCHED_NAMESPACES
    own = one(documents, "Role")
    assert own["metadata"]["namespace"] == "green"
    assert own["rules"] == permissions.OWN_NAMESPACE
    _assert_bound(documents, "green-training")


def test_the_rights_in_named_namespaces_end_there(helm: Helm) -> None:
    documents = helm.template(RICH)
    assert one(documents, "ClusterRole", "green")["rules"] == permissions.CLUSTER
    roles = {d["metadata"]["namespace"]: d["rules"] for d in documents if d["kind"] == "Role"}
    assert roles == {
        "green": permissions.OWN_NAMESPACE,
        "team-a": permissions.WATCHED_NAMESPACES,
        "team-b": permissions.WATCHED_NAMESPACES,
    }
    _assert_bound(documents, "green-operator")


def _assert_bound(documents: list[Document], account: str) -> None:
    subject = {"kind": "ServiceAccount", "name": account, "namespace": "green"}
    bound = {
        (d["roleRef"]["kind"], d["roleRef"]["name"], d["metadata"].get("namespace"))
        for d in documents
        if d["kind"].endswith("Binding") and subject in d.get("subjects", [])
    }
    roles = {
        (d["kind"], d["metadata"]["name"], d["metadata"].get("namespace"))
        for d in documents
        if d["kind"] in {"Role", "ClusterRole"}
        and not re.search("-(viewer|editor)$", d["metadata"]["name"])
    }
    assert bound == roles


@pytest.mark.parametrize("values", [None, RICH], ids=["default", "rich"])
def test_no_right_is_a_wildcard_or_gives_rights(helm4: Helm, values: dict[str, Any] | None) -> None:
    for document in helm4.template(values):
        for rule in document.get("rules", []) if "Role" in document["kind"] else []:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
            assert not {"bind", "escalate", "impersonate"} & set(rule["verbs"])
            assert "rbac.authorization.k8s.io" not in rule["apiGroups"]


@pytest.mark.parametrize("values", [None, RICH], ids=["default", "rich"])
def test_pods_are_restricted_and_write_nowhere(helm: Helm, values: dict[str, Any] | None) -> None:
    pods = list(pod_specs(_rest(helm.template(values))))
    assert len(pods) == 2, "the operator and helm test"
    for pod in pods:
        assert violations(pod) == []
        assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
        assert pod["containers"][0]["resources"]["limits"]["memory"]


@pytest.mark.parametrize("leaders", [[0, 1], [0, 0]], ids=["one leads", "none leads"])
def test_helm_test_finds_the_replica_that_leads(
    helm4: Helm, leaders: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its program runs here, against pages of two replicas in turn."""
    pod = one(helm4.template(), "Pod")
    program = pod["spec"]["containers"][0]["command"][2]
    turns = itertools.cycle(leaders)

    def answer(url: str, timeout: float) -> io.BytesIO:
        pages = {"readyz": "ok", "metrics": f"# HELP\ngreen_leader {next(turns)}.0\nx 1\n"}
        base, _, path = url.rpartition("/")
        assert (base, timeout) == ("http://green-training:8080", 10)
        return io.BytesIO(pages[path].encode())

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    if 1 in leaders:
        exec(program, {})
    else:
        with pytest.raises(SystemExit, match="no replica leads"):
            exec(program, {})


_LABEL = st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
_VALUES = st.fixed_dictionaries(
    {},
    optional={
        "replicas": st.integers(1, 5),
        "runAsUser": st.none() | st.integers(1, 2**31),
        "podLabels": st.dictionaries(_LABEL, _LABEL, max_size=2),
        "commonLabels": st.dictionaries(_LABEL, _LABEL, max_size=2),
        "podAnnotations": st.dictionaries(_LABEL, st.text("ab\"'\n: {}#", max_size=8), max_size=2),
        "nodeSelector": st.dictionaries(_LABEL, _LABEL, max_size=2),
        "extraEnv": st.lists(
            st.fixed_dictionaries(
                {"name": st.just("A"), "value": st.text("ab\"'\n: {}#", min_size=1, max_size=8)}
            ),
            max_size=1,
        ),
        "affinity": st.sampled_from([{}, RICH["affinity"]]),
        "tolerations": st.sampled_from([[], RICH["tolerations"]]),
        "priorityClassName": _LABEL,
        "fullnameOverride": st.just("") | _LABEL,
        "image": st.fixed_dictionaries({"tag": st.just("") | _LABEL}),
        "serviceAccount": st.sampled_from([{}, {"create": False, "name": "other"}]),
    },
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=_VALUES)
def test_whatever_the_values_the_pods_are_restricted(helm4: Helm, values: dict[str, Any]) -> None:
    documents = helm4.template(WITHOUT_CRDS | values)
    for document in documents:
        kubernetes_validate.validate(document, "1.34", strict=True)
    for pod in pod_specs(documents):
        assert violations(pod) == []
    budgets = [d for d in documents if d["kind"] == "PodDisruptionBudget"]
    assert len(budgets) == (values.get("replicas", 2) > 1)
    deployment, service = one(documents, "Deployment"), one(documents, "Service")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (service["spec"]["selector"], deployment["spec"]["selector"]["matchLabels"]):
        assert selector.items() <= labels.items()


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}, "volume x: hostPath"),
        ({"securityContext": {"runAsUser": 0}}, "c: runAsUser 0"),
        ({"containers": [{"name": "bare"}]}, "bare: runAsNonRoot"),
    ],
)
def test_the_judge_of_pods_sees_what_is_wrong(pod: dict[str, Any], words: str) -> None:
    context = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    sound: dict[str, Any] = {"containers": [{"name": "c", "securityContext": context}]}
    assert violations(sound) == []
    assert words in violations(sound | pod)


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        ({}, "ghcr.io/greentraining/operator:0.1.0"),
        ({"tag": "main"}, "ghcr.io/greentraining/operator:main"),
        (RICH["image"], f"registry.example:5000/green/operator@{RICH['image']['digest']}"),
    ],
)
def test_an_image_is_named_by_tag_or_digest(
    helm4: Helm, image: dict[str, str], wanted: str
) -> None:
    pods = list(pod_specs(_rest(helm4.template({"image": image}))))
    assert [pod["containers"][0]["image"] for pod in pods] == [wanted, wanted]


def test_chart_package_and_images_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert chart["appVersion"] == project["version"]
    images = yaml.safe_load(chart["annotations"]["artifacthub.io/images"])
    assert {image["image"].rpartition(":")[2] for image in images} == {project["version"]}
    assert OperatorConfig().jobs.image in {image["image"] for image in images}
    for file, line in (
        ("Makefile", r"^VERSION := (.*)$"),
        ("operator/Containerfile", "^ARG VERSION=(.*)$"),
        ("jobs/Containerfile", "^ARG VERSION=(.*)$"),
    ):
        (version,) = re.findall(line, (ROOT / file).read_text(), re.MULTILINE)
        assert version == project["version"], file


def test_the_examples_of_the_hub_are_sound() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    examples = yaml.safe_load(chart["annotations"]["artifacthub.io/crdsExamples"])
    for example in examples:
        kind = GridZone if example["kind"] == "GridZone" else GreenTrainingJob
        kind.parse(example, "Chart.yaml")
    assert {example["kind"] for example in examples} == {"GridZone", "GreenTrainingJob"}


# Network policies, by their meaning.

_OPERATOR = End("10.1.0.1", "green", {
    "app.kubernetes.io/name": "green-training",
    "app.kubernetes.io/instance": "green-training",
    "app.kubernetes.io/component": "operator",
})  # fmt: skip
_TEST = End("10.1.0.2", "green", {**_OPERATOR.labels, "app.kubernetes.io/component": "test"})
_JOB = End("10.42.0.3", "team-a", {"greentraining.io/job": "j"})
_OTHER = End("10.42.0.4", "team-a")
_DNS = End("10.1.0.53", "kube-system")
_MONITORING = End("10.1.0.9", "monitoring")
_API_SERVER = End("192.0.2.10")
_PROVIDER = End("198.51.100.1")
_ELSEWHERE = End("203.0.113.1")
_DENY_ALL = [
    {
        "metadata": {"namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }
    for namespace in ("green", "team-a")
]


def _policies(helm: Helm, values: dict[str, Any]) -> list[Any]:
    rendered = [d for d in helm.template(values) if d["kind"] == "NetworkPolicy"]
    assert rendered
    return [*rendered, *_DENY_ALL]


def test_the_operator_works_under_default_deny(helm4: Helm) -> None:
    values = {"networkPolicy": {"enabled": True, "jobs": {"namespaces": ["team-a"]}}}
    policies = _policies(helm4, values)
    for target, port in (
        (_API_SERVER, 443), (_API_SERVER, 6443), (_DNS, 53), (_JOB, 8765), (_PROVIDER, 443),
    ):  # fmt: skip
        assert is_allowed(policies, _OPERATOR, target, port), (target, port)
    assert is_allowed(policies, _OPERATOR, _DNS, 53, "UDP")
    assert is_allowed(policies, _MONITORING, _OPERATOR, 8080)
    assert is_allowed(policies, _TEST, _OPERATOR, 8080)
    for target, port in ((_ELSEWHERE, 80), (_ELSEWHERE, 8765), (_JOB, 22), (_OTHER, 8765)):
        assert not is_allowed(policies, _OPERATOR, target, port), (target, port)
    assert not is_allowed(policies, _MONITORING, _OPERATOR, 22)


def test_the_pods_of_jobs_are_reached_by_the_operator_alone(helm4: Helm) -> None:
    policies = _policies(helm4, {"networkPolicy": {"jobs": {"namespaces": ["team-a"]}}})
    policies = [p for p in policies if p["metadata"]["namespace"] == "team-a"]
    assert is_allowed(policies, _OPERATOR, _JOB, 8765)
    for source in (_OTHER, _MONITORING, End("10.1.0.8", "green"), _ELSEWHERE):
        assert not is_allowed(policies, source, _JOB, 8765), source
    assert is_allowed(policies, _JOB, _DNS, 53, "UDP")
    for target, port in ((_API_SERVER, 443), (_ELSEWHERE, 443), (_OPERATOR, 8080)):
        assert not is_allowed(policies, _JOB, target, port), (target, port)


def test_sites_reach_servers_of_their_namespace_and_nothing_else_does(helm4: Helm) -> None:
    policies = _policies(helm4, {"networkPolicy": {"jobs": {"namespaces": ["team-a", "team-b"]}}})

    def pod(role: str, namespace: str = "team-a") -> End:
        labels = {"greentraining.io/job": "ward", "greentraining.io/role": role}
        return End("10.42.0.9", namespace, labels)

    site, server = pod("north"), pod("server")
    policies = [p for p in policies if p["metadata"]["namespace"].startswith("team-")]
    assert is_allowed(policies, site, server, 9092)
    assert is_allowed(policies, _OPERATOR, server, 8765)
    assert is_allowed(policies, site, _DNS, 53, "UDP")
    for source, target, port in (
        (_JOB, server, 9092), (_OTHER, server, 9092), (_ELSEWHERE, server, 9092),
        (pod("north", "team-b"), server, 9092), (site, server, 8765), (site, server, 22),
        (site, pod("south"), 9092), (server, site, 9092), (server, _ELSEWHERE, 443),
    ):  # fmt: skip
        assert not is_allowed(policies, source, target, port), (source, target, port)


def test_policies_can_be_narrowed(helm4: Helm) -> None:
    policies = _policies(helm4, {"networkPolicy": RICH["networkPolicy"]})
    assert is_allowed(policies, _MONITORING, _OPERATOR, 8080)
    assert is_allowed(policies, _TEST, _OPERATOR, 8080)
    assert not is_allowed(policies, End("10.1.0.7", "team-b"), _OPERATOR, 8080)
    assert is_allowed(policies, _OPERATOR, _API_SERVER, 6443)
    assert not is_allowed(policies, _OPERATOR, _API_SERVER, 443)
    assert is_allowed(policies, _OPERATOR, _PROVIDER, 443)
    assert not is_allowed(policies, _OPERATOR, _ELSEWHERE, 443)
    assert is_allowed(policies, _OPERATOR, End("203.0.113.7"), 8443)
    assert is_allowed(policies, _JOB, End("203.0.113.8"), 443)


def _rest(documents: list[Document]) -> list[Document]:
    return [d for d in documents if d["kind"] != "CustomResourceDefinition"]


def _name(values: dict[str, Any] | None) -> str:
    return "green-training" if values is None else "green"


def test_dashboards_and_rules_come_as_they_are_written(helm: Helm) -> None:
    """Helm must not take Grafana's and Prometheus' braces for its own."""
    documents = helm.template(RICH)
    boards = [
        d for d in documents if d["kind"] == "ConfigMap" and "-dashboard-" in d["metadata"]["name"]
    ]
    assert len(boards) == 4
    for board in boards:
        assert board["metadata"]["labels"]["grafana_dashboard"] == "yes"
        assert board["metadata"]["namespace"] == "monitoring"
        ((name, text),) = board["data"].items()
        written = CHART / "files/dashboards" / name.removeprefix("green-")
        assert text == written.read_text()
    rule = one(documents, "PrometheusRule")
    assert rule["metadata"]["labels"]["release"] == "monitoring"
    assert rule["spec"] == yaml.safe_load((CHART / "files/prometheus-rules.yaml").read_text())
    kinds = {d["kind"] for d in helm.template(None)}
    assert not kinds & {"PrometheusRule", "ServiceMonitor"}


def test_the_service_monitor_finds_the_service_and_its_port(helm: Helm) -> None:
    """And leaves jobs' namespaces in the labels, where all rules and dashboards look for them."""
    documents = helm.template(RICH)
    monitor, service = one(documents, "ServiceMonitor"), one(documents, "Service")
    assert monitor["metadata"]["namespace"] == service["metadata"]["namespace"]
    assert monitor["metadata"]["labels"]["release"] == "monitoring"
    selector = monitor["spec"]["selector"]["matchLabels"]
    assert selector
    assert selector.items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["honorLabels"] is True
    assert (endpoint["interval"], endpoint["scrapeTimeout"]) == ("1m", "20s")
    (container,) = one(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    (port,) = service["spec"]["ports"]
    assert port["targetPort"] in {each["name"] for each in container["ports"]}
