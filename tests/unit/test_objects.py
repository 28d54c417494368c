"""The run's Job as it is made, and what is read of Jobs and pods that are seen."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from green_api.config import OperatorConfig
from green_api.contract import MAX_DOCUMENT_BYTES, Federation, Outcome, Summary, TaskDocument
from green_api.errors import UserError
from green_api.job import GreenTrainingJob
from green_operator.account.power import DEFAULT_POWER
from green_operator.lifecycle.types import RunEnd
from green_operator.objects.names import TASK_ANNOTATION
from green_operator.objects.observed import pod_record, run_record
from green_operator.objects.run import run_job, task_document
from green_operator.objects.views import obstacle, run_view

from tests.unit.factories import T0, hours, manifest

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
UID = "0f8fad5b-d9cb-469f-a165-70867728950e"


def stored(**spec: Any) -> GreenTrainingJob:
    body = manifest(**spec)
    body["metadata"] = {
        "name": "shrink", "namespace": "team-a", "uid": UID,
        "creationTimestamp": "2026-06-01T00:00:00Z", "generation": 1,
    }  # fmt: skip
    return GreenTrainingJob.parse(body, "test")


def test_the_run_of_a_job_as_it_is_made() -> None:
    config = OperatorConfig.parse(
        {
            "jobs": {
                "image": "registry.test/jobs:1",
                "env": [{"name": "TORCH_HOME", "value": "/opt/torch"}],
                "volumes": [{"name": "torch", "hostPath": {"path": "/opt/torch"}}],
                "volumeMounts": [{"name": "torch", "mountPath": "/opt/torch", "readOnly": True}],
                "nodeSelector": {"pool": "green"},
                "tolerations": [{"key": "gpu", "operator": "Exists"}],
                "runtimeClassName": "nvidia",
                "podLabels": {"team": "a", "app.kubernetes.io/managed-by": "not-me"},
                "podAnnotations": {"sidecar.istio.io/inject": "false"},
            }
        },
        "test",
    )
    job = stored(
        resources={"gpus": 2, "cpu": 4, "memory": "16Gi"},
        pod={
            "image": "registry.test/mine:2",
            "imagePullSecrets": ["mine"],
            "env": [{"name": "EPOCHS", "value": "3"}],
            "nodeSelector": {"disk": "ssd", "pool": "other"},
            "priorityClassName": "batch",
        },
    )
    made = run_job(job, 1, config, DEFAULT_POWER)
    text = yaml.safe_dump(made, sort_keys=False)
    golden = GOLDEN / "run.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text(), "UPDATE_GOLDEN=1 takes the new one"


@pytest.mark.parametrize("field", ["podLabels", "podAnnotations"])
def test_the_operators_own_keys_cannot_be_given_to_pods(field: str) -> None:
    words = rf"jobs\.{field}: keys below greentraining\.io/ are the operator's"
    with pytest.raises(UserError, match=words):
        OperatorConfig.parse({"jobs": {field: {"greentraining.io/job": "x"}}}, "test")
    OperatorConfig.parse({"jobs": {field: {"example.com/job": "x"}}}, "test")


def test_the_task_document_is_what_the_pod_is_told() -> None:
    made = run_job(stored(), 3, OperatorConfig(), DEFAULT_POWER)
    text = made["spec"]["template"]["metadata"]["annotations"][TASK_ANNOTATION]
    assert len(text.encode()) <= MAX_DOCUMENT_BYTES
    document = TaskDocument.model_validate_json(text)
    assert document.folder == "shrink-0f8fa"
    assert document.journal_interval_seconds == 300
    assert made["metadata"]["name"] == "shrink-0f8fa-3"


def test_another_job_of_the_same_name_has_another_run_and_folder() -> None:
    other = stored()
    other = other.model_copy(update={"metadata": other.metadata.model_copy(update={"uid": "ffff"})})
    names = {
        run_job(j, 1, OperatorConfig(), DEFAULT_POWER)["metadata"]["name"]
        for j in (stored(), other)
    }
    assert len(names) == 2


def job_body(**status: Any) -> dict[str, Any]:
    made = run_job(stored(), 1, OperatorConfig(), DEFAULT_POWER)
    made["metadata"] |= {"uid": "run-uid", "resourceVersion": "7"}
    return made | {"status": status}


def pod_body(state: dict[str, Any], **more: Any) -> dict[str, Any]:
    meta = {
        "name": "shrink-0f8fa-1-x", "namespace": "team-a", "uid": "pod-uid", "resourceVersion": "9",
        "creationTimestamp": "2026-06-01T00:00:00Z",
        "labels": {"greentraining.io/job": "shrink"},
        "ownerReferences": [{"uid": "run-uid", "controller": True}],
        **more.pop("meta", {}),
    }  # fmt: skip
    status = {"phase": "Running", "containerStatuses": [{"name": "job", "state": state}], **more}
    return {"metadata": meta, "spec": {"nodeName": "node-1"}, "status": status}


def test_a_run_is_read() -> None:
    record = run_record(job_body(active=1, terminating=1, failed=2))
    assert (record.number, record.suspend, record.unfinished, record.failed) == (1, True, 2, 2)
    assert record.owner_uid == UID
    done = {"type": "Complete", "status": "True", "reason": "CompletionsReached"}
    assert run_record(job_body(conditions=[done])).end is RunEnd.COMPLETE


def test_an_end_is_read_with_its_summary() -> None:
    summary = Summary(attempt="pod-uid", outcome=Outcome.SUCCEEDED, message="done")
    ended = {
        "terminated": {
            "exitCode": 0, "startedAt": "2026-06-01T00:00:00Z", "finishedAt": "2026-06-01T01:00:00Z",
            "message": summary.model_dump_json(by_alias=True),
        }
    }  # fmt: skip
    record = pod_record(pod_body(ended))
    assert record.is_over
    assert record.summary() == summary
    other = json.loads(summary.model_dump_json(by_alias=True)) | {"attempt": "another"}
    ended["terminated"]["message"] = json.dumps(other)
    assert pod_record(pod_body(ended)).summary() is None
    ended["terminated"]["message"] = "x" * 5000
    assert pod_record(pod_body(ended)).summary() is None


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (
            {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
            "ImagePullFailed",
        ),
        ({"waiting": {"reason": "CreateContainerConfigError"}}, "ContainerNotStarted"),
        ({"waiting": {"reason": "ContainerCreating"}}, None),
        ({"running": {"startedAt": "2026-06-01T00:00:00Z"}}, None),
    ],
)
def test_what_keeps_a_pod_from_working(state: dict[str, Any], reason: str | None) -> None:
    found = obstacle(pod_record(pod_body(state)), T0)
    assert (found.reason if found else None) == reason


def test_a_run_that_was_let_go_and_gets_no_pod_says_so_after_a_minute() -> None:
    body = job_body(startTime="2026-06-01T00:00:00Z")
    body["spec"]["suspend"] = False
    for at, unfinished, reason in (
        (T0 + timedelta(seconds=30), 0, None), (hours(1), 0, "PodNotCreated"), (hours(1), 1, None),
    ):  # fmt: skip
        body["status"]["active"] = unfinished
        found = run_view(run_record(body), [], at).obstacle
        assert (found.reason if found else None) == reason
    body["spec"]["suspend"] = True
    assert run_view(run_record(body), [], hours(1)).obstacle is None


def test_a_pod_that_does_not_go_is_named_with_its_node() -> None:
    running = {"running": {"startedAt": "2026-06-01T00:00:00Z"}}
    pod = pod_record(pod_body(running, meta={"deletionTimestamp": "2026-06-01T00:02:00Z"}))
    in_time = obstacle(pod, T0 + timedelta(minutes=2))
    assert in_time is not None
    assert in_time.reason == "PodEnding"
    late = obstacle(pod, hours(1))
    assert late is not None
    assert late.reason == "PodNotEnding"
    assert "shrink-0f8fa-1-x" in late.message
    assert "node-1" in late.message


def test_a_pod_that_ends_is_running_until_it_is_late() -> None:
    """Within its grace period and a margin it saves its work; then its node is taken for dead."""
    running = {"running": {"startedAt": "2026-06-01T00:00:00Z"}}
    pod = pod_record(pod_body(running, meta={"deletionTimestamp": "2026-06-01T00:02:00Z"}))
    body = job_body(terminating=1)
    body["spec"]["suspend"] = False
    for seconds, running_pods in ((60, 1), (149, 1), (150, 0)):
        view = run_view(run_record(body), [pod], T0 + timedelta(seconds=seconds))
        assert (view.running, view.active) == (running_pods, 1)


def test_a_pod_that_ended_well_counts_as_running_until_the_job_says_complete() -> None:
    ended = {
        "terminated": {"exitCode": 0, "startedAt": "2026-06-01T00:00:00Z",
                       "finishedAt": "2026-06-01T01:00:00Z"}
    }  # fmt: skip
    run = run_record(job_body(active=1))
    view = run_view(run, [pod_record(pod_body(ended))], hours(1))
    assert view.running == 1
    assert view.end is None


def test_a_run_between_two_attempts_is_still_to_be_held() -> None:
    """It has no pod now, and would have one later that nobody accounts for."""
    body = job_body(failed=1)
    body["spec"]["suspend"] = False
    assert run_view(run_record(body), [], hours(1)).active == 1
    body["spec"]["suspend"] = True
    assert run_view(run_record(body), [], hours(1)).active == 0


def test_a_container_that_could_not_start_did_not_start_in_1970() -> None:
    """Kubernetes says so of a StartError; it would be billed for half a century."""
    broken = {
        "terminated": {"exitCode": 128, "reason": "StartError", "startedAt": "1970-01-01T00:00:00Z",
                       "finishedAt": "2026-06-01T00:00:03Z"}
    }  # fmt: skip
    record = pod_record(pod_body(broken))
    assert record.started is None
    assert record.is_over


def test_each_role_is_told_its_own_place_and_reservation() -> None:
    sites = [
        {"name": "a", "claimName": "data-a"},
        {"name": "b", "claimName": "data-b", "resources": {"gpus": 1, "cpu": 3}},
    ]
    federate = {
        "model": {"builtin": "digits-cnn"}, "data": {"builtin": "digits"}, "rounds": 1, "sites": sites,
    }  # fmt: skip
    job = stored(task={"federate": federate})
    told = Federation(server="shrink.team-a.svc:9092", listen="0.0.0.0:9092")
    documents = {
        role: task_document(job, "shrink-0f8fa", DEFAULT_POWER, timedelta(minutes=5), role, told)
        for role in job.spec.task.roles
    }
    assert list(documents) == ["server", "a", "b"]
    assert [d.folder for d in documents.values()] == [
        "shrink-0f8fa", "shrink-0f8fa/sites/a", "shrink-0f8fa/sites/b",
    ]  # fmt: skip
    assert [(d.gpus, d.cores) for d in documents.values()] == [(0, 2), (0, 2), (1, 3)]
    assert all(d.federation == told for d in documents.values())
