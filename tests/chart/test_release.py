"""The chart on a real API server: install, upgrade, uninstall, and what its rights allow."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
import yaml
from green_api import API_VERSION
from green_operator import permissions

from tests.chart.helm import CHART, PREVIOUS, RELEASE, Helm, RefusedError
from tests.chart.replica import Replica
from tests.cluster.harness.client import (
    CLUSTER_ROLES,
    CONFIG_MAPS,
    CRDS,
    GREEN_JOBS,
    NAMESPACES,
    ROLES,
    SERVICE_ACCOUNTS,
    ZONES,
    ApiError,
    Client,
    Object,
)
from tests.cluster.harness.control_plane import ControlPlane
from tests.cluster.harness.waiting import wait_for

_DEFINITIONS: Final = ("greentrainingjobs.greentraining.io", "gridzones.greentraining.io")


class Cluster:
    """A cluster with a namespace for the release and one for jobs."""

    def __init__(self, plane: ControlPlane, helm: Helm) -> None:
        self.plane, self.admin, self._helm = plane, plane.admin, helm
        suffix = uuid4().hex[:6]
        self.own, self.team = f"green-{suffix}", f"team-{suffix}"
        for name in (self.own, self.team):
            self.admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
            wait_for(
                lambda name=name: self.admin.find(SERVICE_ACCOUNTS, "default", name),
                what=f"the default service account of {name}",
            )

    def install(self, values: dict[str, Any] | None = None, chart: Path = CHART) -> str:
        return self._run("install", RELEASE, chart, *self._helm.given(values))

    def upgrade(self, values: dict[str, Any] | None = None) -> str:
        return self._run("upgrade", RELEASE, CHART, *self._helm.given(values))

    def uninstall(self) -> str:
        return self._run("uninstall", RELEASE)

    def _run(self, *arguments: object) -> str:
        return self._helm.run(
            *arguments, "--namespace", self.own, kubeconfig=self.plane.admin_kubeconfig
        )

    def has_definitions(self) -> list[bool]:
        return [self.admin.find(CRDS, name) is not None for name in _DEFINITIONS]

    def create_job(self, name: str = "shrink", client: Client | None = None) -> Object:
        return wait_for(
            lambda: (client or self.admin).create(_job(name), self.team), what="a job is taken"
        )

    def close(self) -> None:
        with suppress(RefusedError):  # a test may have uninstalled it
            self.uninstall()
        for name in _DEFINITIONS:
            self.admin.delete(CRDS, name)
            wait_for(lambda name=name: self.admin.find(CRDS, name) is None, what=f"{name} goes")
        for name in (self.own, self.team):
            self.admin.delete(NAMESPACES, name)


def _job(name: str) -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": "GreenTrainingJob",
        "metadata": {"name": name},
        "spec": {
            "task": {"train": {"command": ["python", "train.py"]}},
            "schedule": {"policy": "Immediately"},
        },
    }


def _zone(grams: int) -> dict[str, Any]:
    source = {"static": {"gramsPerKilowattHour": grams, "signal": "AverageLifecycle"}}
    return {"name": "gb", "spec": {"default": True, "sources": [source]}}


@pytest.fixture
def cluster(plane: ControlPlane, helm: Helm) -> Iterator[Cluster]:
    cluster = Cluster(plane, helm)
    yield cluster
    cluster.close()


@pytest.fixture
def cluster4(plane: ControlPlane, helm4: Helm) -> Iterator[Cluster]:
    """With the newest Helm alone, for what both do alike."""
    cluster = Cluster(plane, helm4)
    yield cluster
    cluster.close()


def test_an_install_brings_definitions_zones_and_advice(cluster: Cluster) -> None:
    printed = cluster.install({"zones": [_zone(210)]})
    notes = printed.partition("NOTES:")[2]
    advice = ("get gridzones", "get greentrainingjobs", "10.0.0.0/8", "networkPolicy.metricsFrom")
    for words in (f"rollout status deployment/{RELEASE}", *advice):
        assert words in notes
    assert cluster.has_definitions() == [True, True]
    source = cluster.admin.get(ZONES, "gb")["spec"]["sources"][0]
    assert source["static"]["gramsPerKilowattHour"] == 210
    cluster.create_job()


def test_without_zones_the_notes_show_one_that_works(cluster: Cluster) -> None:
    notes = cluster.install().partition("NOTES:")[2]
    manifest = re.search(r"<<'ZONE'\n(.*?)ZONE", notes, re.DOTALL)
    assert manifest is not None
    cluster.admin.create(yaml.safe_load(manifest[1]))


def test_a_changed_zone_is_never_lost(cluster: Cluster) -> None:
    """Helm 3 does not write to a zone that the install's hook made; it has to say so."""
    cluster.install({"zones": [_zone(210)]})
    # As the operator says something of it.
    status = {"apiVersion": API_VERSION, "kind": "GridZone", "metadata": {"name": "gb"}}
    cluster.admin.patch(
        ZONES, "gb", status | {"status": {"source": "static"}}, subresource="status", how="apply",
        query={"fieldManager": "green-training", "force": "true"},
    )  # fmt: skip
    wanted = {"zones": [_zone(99)]}
    if (refusal := _refused_upgrade(cluster, wanted)) is not None:
        command = re.search("kubectl (patch gridzone .*)", refusal)
        assert command is not None, refusal
        cluster.plane.kubectl(*shlex.split(command[1]))
        cluster.upgrade(wanted)
    assert _grams(cluster) == 99
    cluster.upgrade({"zones": [_zone(50)]})
    assert _grams(cluster) == 50


def _refused_upgrade(cluster: Cluster, values: dict[str, Any]) -> str | None:
    try:
        cluster.upgrade(values)
    except RefusedError as refused:
        return str(refused)
    return None


def _grams(cluster: Cluster) -> int:
    grams: int = cluster.admin.get(ZONES, "gb")["spec"]["sources"][0]["static"][
        "gramsPerKilowattHour"
    ]
    return grams


def test_a_zone_that_leaves_the_values_stays(cluster: Cluster) -> None:
    """Jobs that lost their zone would start at once."""
    cluster.install({"zones": [_zone(210)]})
    cluster.upgrade({"zones": [_zone(210)]})
    cluster.upgrade()
    assert _grams(cluster) == 210


def test_an_upgrade_from_the_previous_chart_keeps_jobs(cluster: Cluster) -> None:
    cluster.install({"zones": [_zone(210)]}, PREVIOUS)
    job = cluster.create_job()
    cluster.upgrade({"zones": [_zone(210)], "config": {"outageMargin": "20m"}})
    assert (
        cluster.admin.get(GREEN_JOBS, "shrink", cluster.team)["metadata"]["uid"]
        == (job["metadata"]["uid"])
    )
    for name in _DEFINITIONS:
        (file,) = (CHART / "files" / "crds").glob(f"*_{name.partition('.')[0]}.yaml")
        wanted = yaml.safe_load(file.read_text())["spec"]["versions"][0]["schema"]
        assert cluster.admin.get(CRDS, name)["spec"]["versions"][0]["schema"] == wanted
    config = cluster.admin.get(CONFIG_MAPS, RELEASE, cluster.own)
    assert "outageMargin: 20m" in config["data"]["config.yaml"]


def test_an_uninstall_leaves_definitions_jobs_and_zones(cluster: Cluster) -> None:
    cluster.install({"zones": [_zone(210)]})
    job = cluster.create_job()
    cluster.uninstall()
    assert cluster.has_definitions() == [True, True]
    kept = cluster.admin.get(GREEN_JOBS, "shrink", cluster.team)
    assert kept["metadata"]["uid"] == job["metadata"]["uid"]
    assert _grams(cluster) == 210
    assert cluster.admin.find(CLUSTER_ROLES, RELEASE) is None
    assert cluster.admin.list(ROLES, cluster.own) == []
    # And the next install takes them over.
    cluster.install({"zones": [_zone(210)]})
    assert (
        cluster.admin.get(GREEN_JOBS, "shrink", cluster.team)["metadata"]["uid"]
        == (job["metadata"]["uid"])
    )


def test_an_uninstall_that_keeps_nothing_removes_the_definitions(cluster: Cluster) -> None:
    cluster.install({"crds": {"keep": False}})
    cluster.create_job()
    cluster.uninstall()
    wait_for(lambda: cluster.has_definitions() == [False, False], what="the definitions go")


# Rights.


def _rules(client: Client, namespace: str) -> set[tuple[str, str, str]]:
    """What a user may do in a namespace, as the API server tells it: verb, group, resource."""
    review = client.request(
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace},
        },
    )
    return _flat(review["status"]["resourceRules"])


def _flat(rules: list[Any]) -> set[tuple[str, str, str]]:
    return {
        (verb, group, resource)
        for rule in rules
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


@pytest.mark.parametrize("everywhere", [True, False], ids=["everywhere", "named"])
def test_the_account_may_do_what_the_operator_does_and_no_more(
    cluster4: Cluster, everywhere: bool
) -> None:
    plane, own, team = cluster4.plane, cluster4.own, cluster4.team
    cluster4.install({"config": {"watchNamespaces": [] if everywhere else [team]}})
    account = Client.from_kubeconfig(plane.kubeconfig_for(RELEASE, own))
    everybody = _rules(Client.from_kubeconfig(plane.kubeconfig_for("nobody", own)), own)
    jobs, shared = _flat(permissions.WATCHED_NAMESPACES), _flat(permissions.CLUSTER)
    expected = {
        own: shared | _flat(permissions.OWN_NAMESPACE) | (jobs if everywhere else set()),
        team: shared | jobs,
        "default": shared | (jobs if everywhere else set()),
    }
    for namespace, rules in expected.items():
        assert _rules(account, namespace) - everybody == rules, namespace


_PEOPLE: Final = {
    # role, verb, resource: in its namespace by a RoleBinding
    ("view", "get", "greentrainingjobs"): True,
    ("view", "get", "greentrainingjobs/status"): True,
    ("view", "create", "greentrainingjobs"): False,
    ("edit", "create", "greentrainingjobs"): True,
    ("edit", "deletecollection", "greentrainingjobs"): True,
    ("edit", "patch", "greentrainingjobs/status"): False,
    ("admin", "patch", "greentrainingjobs"): True,
}
_PEOPLE_EVERYWHERE: Final = {
    ("view", "list", "gridzones"): True,
    ("view", "patch", "gridzones"): False,
    ("edit", "patch", "gridzones"): False,
    ("admin", "patch", "gridzones"): True,
}


def test_roles_of_people_include_the_kinds(cluster4: Cluster) -> None:
    cluster4.install()
    for table, namespaced in ((_PEOPLE, True), (_PEOPLE_EVERYWHERE, False)):
        for role in sorted({role for role, _, _ in table}):
            _bind(cluster4, role, namespaced=namespaced)
    for (role, verb, resource), wanted in (_PEOPLE | _PEOPLE_EVERYWHERE).items():
        where = "" if resource == "gridzones" else cluster4.team
        user = f"{role}-everywhere" if resource == "gridzones" else role
        wait_for(
            lambda u=user, v=verb, r=resource, n=where, w=wanted: _may(cluster4, u, v, r, n) == w,
            what=f"{role} {'may' if wanted else 'may not'} {verb} {resource}",
        )
    assert not _may(cluster4, "admin", "list", "gridzones", ""), "a binding in a namespace"


def _bind(cluster: Cluster, role: str, *, namespaced: bool) -> None:
    """Give a role of Kubernetes' own to a user of its name, in the team's namespace or everywhere."""
    user = role if namespaced else f"{role}-everywhere"
    rbac = "rbac.authorization.k8s.io"
    binding: Object = {
        "apiVersion": f"{rbac}/v1",
        "kind": "RoleBinding" if namespaced else "ClusterRoleBinding",
        "metadata": {"name": user},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": rbac, "kind": "User", "name": user}],
    }
    cluster.admin.apply(binding, cluster.team if namespaced else "")


def _may(cluster: Cluster, user: str, verb: str, resource: str, namespace: str) -> bool:
    """What `kubectl auth can-i` asks."""
    name, _, subresource = resource.partition("/")
    attributes = {
        "verb": verb,
        "group": "greentraining.io",
        "resource": name,
        "subresource": subresource,
        "namespace": namespace,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": user,
            "groups": ["system:authenticated"],
            "resourceAttributes": attributes,
        },
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    allowed: bool = cluster.admin.request("POST", path, review)["status"]["allowed"]
    return allowed


def test_every_user_can_be_shown_the_zones(cluster4: Cluster) -> None:
    cluster4.install({"rbac": {"zonesVisibleToAll": True}})
    wait_for(
        lambda: _may(cluster4, "somebody", "list", "gridzones", ""), what="the binding takes effect"
    )
    assert not _may(cluster4, "somebody", "patch", "gridzones", "")


def test_who_may_create_no_pods_can_be_kept_from_jobs(cluster4: Cluster) -> None:
    cluster4.install({"admissionPolicy": {"enabled": True}})
    jobs = {
        "apiGroups": ["greentraining.io"],
        "resources": ["greentrainingjobs"],
        "verbs": ["create", "patch"],
    }
    pods = {"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}
    author = _user(cluster4, "author", [jobs])
    trusted = _user(cluster4, "trusted", [jobs, pods])
    cluster4.create_job("first", trusted)
    wait_for(
        lambda: "may not create pods" in _refusal(author, cluster4.team),
        what="the policy takes effect",
    )
    with pytest.raises(ApiError, match="may not create pods"):
        author.patch(GREEN_JOBS, "first", {"spec": {"pod": {"image": "evil"}}}, cluster4.team)
    # Whoever changes only metadata, such as the garbage collector, is let through.
    author.patch(GREEN_JOBS, "first", {"metadata": {"labels": {"a": "b"}}}, cluster4.team)
    trusted.patch(GREEN_JOBS, "first", {"spec": {"pod": {"image": "fine"}}}, cluster4.team)


def _user(cluster: Cluster, name: str, rules: list[dict[str, Any]]) -> Client:
    return Client.from_kubeconfig(cluster.plane.kubeconfig_for(name, cluster.team, rules))


def _refusal(client: Client, namespace: str) -> str:
    try:
        client.create(_job(f"try-{uuid4().hex[:6]}"), namespace)
    except ApiError as error:
        return error.message
    return ""


@pytest.mark.parametrize(
    "everywhere",
    [
        pytest.param(True, id="everywhere"),
        pytest.param(False, id="named"),
    ],
)
def test_the_operator_works_with_what_the_chart_gives_it(
    cluster4: Cluster, everywhere: bool, tmp_path: Path
) -> None:
    plane, own, team = cluster4.plane, cluster4.own, cluster4.team
    cluster4.install(
        {
            "config": {"watchNamespaces": [] if everywhere else [team]},
            "zones": [_zone(210)],
        }
    )
    config = cluster4.admin.get(CONFIG_MAPS, RELEASE, own)["data"]["config.yaml"]
    cluster4.create_job()
    with Replica(plane.kubeconfig_for(RELEASE, own), config, own, tmp_path) as replica:
        job = wait_for(
            lambda: _with_state(cluster4.admin.get(GREEN_JOBS, "shrink", team)),
            what="the operator takes the job",
            seen=replica.tail,
        )
        assert job["status"]["state"]
        assert replica.answers("/livez") == replica.answers("/readyz") == "ok"
        assert "green_" in replica.answers("/metrics")
        assert 'code="403"' not in replica.answers("/metrics"), "something was forbidden"


def _with_state(job: Object) -> Object | None:
    return job if job.get("status", {}).get("state") else None
