"""What an author of jobs may not reach, whatever they write (docs/security.md lists the rest)."""

from __future__ import annotations

from typing import Any

import pytest
from green_api.config import OperatorConfig
from green_api.crd import job_crd, zone_crd
from green_api.errors import UserError
from green_api.job import GreenTrainingJob
from green_operator.account.power import DEFAULT_POWER
from green_operator.cli.claim_pod import reader_pod
from green_operator.cli.kubectl import stored_job
from green_operator.objects.run import run_job
from hypothesis import given
from hypothesis import strategies as st

from tests.chart.pods import violations
from tests.unit.factories import manifest
from tests.unit.test_crd import nodes, schema

FEDERATE = {"model": {"builtin": "digits-cnn"}, "data": {"builtin": "digits"}, "rounds": 1}
UID = "0f8fad5b-d9cb-469f-a165-70867728950e"
DEFAULTS = OperatorConfig.parse({"jobs": {"nodeSelector": {"pool": "green"}}}, "test")


def stored(**spec: Any) -> dict[str, Any]:
    body = manifest(**spec)
    body["metadata"] = {
        "name": "shrink", "namespace": "team-a", "uid": UID,
        "creationTimestamp": "2026-06-01T00:00:00Z", "generation": 1,
    }  # fmt: skip
    return body


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=30)
LABELS = st.from_regex(r"[a-z]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
ENV = st.from_regex(r"[A-Z_][A-Z0-9_]{0,15}", fullmatch=True).filter(
    lambda name: not name.startswith("GREEN_")
)
PODS = st.fixed_dictionaries(
    {},
    optional={
        "image": WORDS.filter(bool),
        "imagePullSecrets": st.lists(LABELS, max_size=3),
        "nodeSelector": st.dictionaries(LABELS, LABELS, max_size=3),
        "tolerations": st.lists(
            st.fixed_dictionaries({"key": LABELS, "operator": st.just("Exists")}), max_size=3
        ),
        "priorityClassName": LABELS,
        "env": st.lists(
            st.fixed_dictionaries({"name": ENV, "value": WORDS}),
            max_size=3,
            unique_by=lambda e: e["name"],
        ),
        "terminationGracePeriodSeconds": st.integers(1, 3600),
    },
)
TASKS = st.one_of(
    st.just({}),
    st.lists(WORDS.filter(bool), min_size=1, max_size=4).map(
        lambda command: {"task": {"train": {"command": command}}}
    ),
)


SITES = st.lists(LABELS.filter(lambda n: n != "server"), min_size=2, max_size=4, unique=True)


@given(PODS, TASKS, st.integers(0, 8))
def test_whatever_an_author_asks_for_the_pods_are_restricted_and_have_no_token(
    pod: dict[str, Any], task: dict[str, Any], gpus: int
) -> None:
    body = stored(pod=pod, resources={"gpus": gpus}, **task)
    run = run_job(GreenTrainingJob.parse(body, "test"), 1, DEFAULTS, DEFAULT_POWER)
    for made in (run["spec"]["template"], reader_pod("helper", stored_job(body), run)):
        assert check_pod(made["spec"]) <= {"persistentVolumeClaim", "downwardAPI", "emptyDir"}
    assert run["metadata"]["namespace"] == "team-a"
    assert run["spec"]["template"]["spec"]["nodeSelector"]["pool"] == "green"


@given(PODS, SITES, st.integers(0, 1))
def test_so_are_the_pods_of_each_role_and_each_sees_its_own_secret_alone(
    pod: dict[str, Any], names: list[str], gpus: int
) -> None:
    site = {"resources": {"gpus": gpus}}
    sites = [{"name": name, "claimName": f"data-{name}", **site} for name in names]
    task = {"federate": {**FEDERATE, "sites": sites}}
    job = GreenTrainingJob.parse(stored(pod=pod, task=task), "test")
    for role in job.spec.task.roles:
        run = run_job(job, 1, DEFAULTS, DEFAULT_POWER, role, "0123456789")
        spec = run["spec"]["template"]["spec"]
        kinds = check_pod(spec)
        assert kinds <= {"persistentVolumeClaim", "downwardAPI", "emptyDir", "secret"}
        (secret,) = [v["secret"] for v in spec["volumes"] if "secret" in v]
        assert secret["secretName"] == f"shrink-0f8fa-1-{role}-0123456789"
        (mount,) = [m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "credentials"]
        assert mount["readOnly"] is True


def check_pod(spec: dict[str, Any]) -> set[str]:
    """A pod as it has to be, whoever asked for it; the kinds of its volumes."""
    assert violations(spec) == []
    assert spec["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in spec
    return {kind for volume in spec["volumes"] for kind in volume.keys() - {"name"}}


@pytest.mark.parametrize(
    "field",
    [
        *("hostNetwork", "hostPID", "hostIPC", "volumes", "serviceAccountName", "securityContext"),
        *("initContainers", "containers", "nodeName", "runtimeClassName", "hostAliases"),
        *("automountServiceAccountToken", "schedulerName", "dnsConfig", "affinity"),
    ],
)
def test_a_field_of_pods_that_is_not_on_the_list_is_refused(field: str) -> None:
    with pytest.raises(UserError, match=rf"spec\.pod\.{field}"):
        GreenTrainingJob.parse(stored(pod={field: "x"}), "test")


def test_a_variable_of_the_supervisor_cannot_be_given() -> None:
    with pytest.raises(UserError, match="GREEN_ are reserved"):
        GreenTrainingJob.parse(
            stored(pod={"env": [{"name": "GREEN_TASK_FILE", "value": "/x"}]}), "test"
        )


@pytest.mark.parametrize("crd", [job_crd(), zone_crd()], ids=["job", "zone"])
def test_no_reference_leads_out_of_its_namespace_and_no_address_can_be_given(
    crd: dict[str, Any],
) -> None:
    spec = schema(crd)["properties"]["spec"]
    names = {path.rpartition(".")[2].lower() for path, _ in nodes(spec)}
    assert len(names) > 10
    assert not {n for n in names if n.startswith("namespace")}
    parts = ("url", "uri", "host", "endpoint", "server", "address", "proxy")
    assert not {n for n in names if any(part in n for part in parts)}


@pytest.mark.parametrize("name", ["../team-b/models", "team-b/models", "/etc", "models?x=1", ""])
def test_a_name_of_an_object_is_no_path(name: str) -> None:
    for spec in ({"storage": {"claimName": name}}, {"pod": {"imagePullSecrets": [name]}}):
        with pytest.raises(UserError):
            GreenTrainingJob.parse(stored(**spec), "test")


@pytest.mark.parametrize("path", ["/etc/passwd", "../other/model.safetensors", "a/../../b"])
def test_a_path_leads_nowhere_but_the_claim(path: str) -> None:
    compress = {
        "model": {"builtin": "fashion-cnn", "weights": path},
        "data": {"builtin": "fashion-mnist"},
        "steps": [{"quantize": {}}],
    }
    with pytest.raises(UserError, match="weights"):
        GreenTrainingJob.parse(stored(task={"compress": compress}), "test")
