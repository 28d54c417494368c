"""The harness itself: what fails in a later test is then the operator's."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from green_api.contract import DEFAULT_PORT, PROGRESS_PATH, Mark, Outcome, ProgressReply, Summary

from tests.cluster.harness import programs
from tests.cluster.harness.client import JOBS, PODS, Client
from tests.cluster.harness.kubelet import JOB_LABEL, FakeKubelet
from tests.cluster.harness.pods import FakePod
from tests.cluster.harness.script import UNTIL_TOLD, Answers, Death, Pending, Script, stepped
from tests.cluster.harness.waiting import wait_for


def job(name: str, *, suspend: bool = False, retries: int = 3, **pod: Any) -> dict[str, Any]:
    """A plain Job as the operator would make it, but for its content."""
    rules = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {
            "action": "FailJob",
            "onExitCodes": {"operator": "In", "values": [64, 65, 66]},
        },
    ]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "suspend": suspend,
            "backoffLimit": retries,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": rules},
            "template": {
                "metadata": {"labels": {JOB_LABEL: name}},
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 5,
                    "containers": [{"name": "attempt", "image": "none"}],
                    **pod,
                },
            },
        },
    }


def suspend(admin: Client, name: str, namespace: str, *, value: bool) -> None:
    admin.patch(JOBS, name, {"spec": {"suspend": value}}, namespace)


def ask(pod: FakePod, after: int = 0) -> ProgressReply:
    address = pod.object["status"].get("podIP") or pod.endpoint.address  # type: ignore[union-attr]
    url = f"http://{address}:{DEFAULT_PORT}{PROGRESS_PATH}?after={after}"
    with urllib.request.urlopen(url, timeout=5) as answer:
        return ProgressReply.model_validate_json(answer.read())


def condition(admin: Client, name: str, namespace: str, kind: str) -> bool:
    conditions = admin.get(JOBS, name, namespace)["status"].get("conditions", [])
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)


def wait_condition(admin: Client, name: str, namespace: str, kind: str) -> None:
    wait_for(
        lambda: condition(admin, name, namespace, kind),
        what=f"{name} is {kind}",
        seen=lambda: (admin.get(JOBS, name, namespace)["status"], admin.list(PODS, namespace)),
    )


def ended(pod: FakePod) -> dict[str, Any]:
    """How the server was told that a pod ended."""
    (status,) = pod.object["status"]["containerStatuses"]
    terminated: dict[str, Any] = status["state"]["terminated"]
    return terminated


def test_a_job_runs_is_suspended_and_goes_on(
    admin: Client, namespace: str, kubelet: FakeKubelet
) -> None:
    kubelet.scripts["a"] = UNTIL_TOLD
    admin.create(job("a", suspend=True), namespace)
    assert admin.list(PODS, namespace) == []
    suspend(admin, "a", namespace, value=False)
    first = kubelet.wait_running("a")
    reply = wait_for(
        lambda: r if (r := ask(first)).current.counters[0].joules > 0 else None, what="joules"
    )
    assert reply.attempt == first.uid
    assert [entry.mark for entry in reply.entries][:2] == [Mark.STARTED, Mark.WORKING]

    suspend(admin, "a", namespace, value=True)
    wait_for(lambda: not admin.list(PODS, namespace), what="no pods")
    assert ended(first)["exitCode"] == 75
    summary = Summary.model_validate_json(ended(first)["message"])
    assert summary.outcome is Outcome.INTERRUPTED
    (truth,) = kubelet.truth("a")
    assert summary.final is not None
    assert sum(c.joules for c in summary.final.counters) == truth.total > 0
    with pytest.raises(OSError):  # noqa: PT011 - refused, or closed at once
        ask(first)

    suspend(admin, "a", namespace, value=False)
    second = kubelet.wait_running("a")
    entries = ask(second).entries
    assert {entry.attempt for entry in entries} == {first.uid, second.uid}
    assert entries == sorted(entries, key=lambda entry: entry.sequence)
    kubelet.finish("a")
    wait_condition(admin, "a", namespace, "Complete")
    summary = Summary.model_validate_json(ended(second)["message"])
    assert summary.report_sha256 is not None
    assert next(e for e in summary.kept if e.attempt == summary.attempt).mark is Mark.WORKING
    assert kubelet.joules("a") == sum(truth.total for truth in kubelet.truth("a")) > 0


def test_saved_work_is_not_done_again_and_a_done_job_ends_at_once(
    admin: Client, namespace: str, kubelet: FakeKubelet
) -> None:
    kubelet.scripts["a"] = Script(seconds=3, interval=0.5, hardware=stepped([100, 200]))
    admin.create(job("a"), namespace)
    kubelet.wait_running("a")
    wait_for(lambda: kubelet.truth("a")[0].total > 150, what="1.25 seconds of work")
    suspend(admin, "a", namespace, value=True)
    wait_for(lambda: not admin.list(PODS, namespace), what="no pods")
    suspend(admin, "a", namespace, value=False)
    wait_condition(admin, "a", namespace, "Complete")
    one, two = (truth.total for truth in kubelet.truth("a"))
    assert one > 150
    assert two < 500 - 150 + 30

    again = job("again")
    again["spec"]["template"]["metadata"]["labels"][JOB_LABEL] = "a"
    admin.create(again, namespace)
    wait_condition(admin, "again", namespace, "Complete")
    *_, third = kubelet.pods_of("a")
    summary = Summary.model_validate_json(ended(third)["message"])
    assert summary.report_sha256 is not None
    assert summary.final is None


def test_exit_codes_follow_one_another(admin: Client, namespace: str, kubelet: FakeKubelet) -> None:
    kubelet.scripts["a"] = Script(codes=(1, 65), fails_after=0.2)
    admin.create(job("a"), namespace)
    wait_condition(admin, "a", namespace, "Failed")
    assert [truth.code for truth in kubelet.truth("a")] == [1, 65]


@pytest.mark.parametrize("pending", [Pending.UNSCHEDULABLE, Pending.IMAGE_PULL_BACK_OFF])
def test_a_pod_waits_as_long_as_its_script_says(
    admin: Client, namespace: str, kubelet: FakeKubelet, pending: Pending
) -> None:
    kubelet.scripts["a"] = Script(pending=pending)
    admin.create(job("a"), namespace)
    wait_for(
        lambda: pending.value in json.dumps(admin.list(PODS, namespace)[0]["status"]),
        what=pending.value,
    )
    kubelet.scripts["a"] = Script(seconds=0.2)
    wait_condition(admin, "a", namespace, "Complete")


def test_a_pod_goes_to_a_node_that_its_selector_fits(
    admin: Client, namespace: str, kubelet: FakeKubelet
) -> None:
    kubelet.default = Script(seconds=0.2)
    admin.create(job("a", nodeSelector={"grid": "gb"}), namespace)
    wait_for(
        lambda: "Unschedulable" in json.dumps(admin.list(PODS, namespace)), what="Unschedulable"
    )
    node = kubelet.add_node({"grid": "gb"}, gpus=1)
    wait_condition(admin, "a", namespace, "Complete")
    assert kubelet.pods_of("a")[0].node == node.name


@pytest.mark.parametrize("death", Death)
def test_ends_without_last_words(
    admin: Client, namespace: str, kubelet: FakeKubelet, death: Death
) -> None:
    kubelet.scripts["a"] = Script(death=death, dies_after=0.3)
    admin.create(job("a"), namespace)
    pod = kubelet.wait_running("a")
    wait_for(lambda: kubelet.truth("a")[0].ended, what="its end")
    assert kubelet.truth("a")[0].total >= 0.3 * 340
    if death is Death.NODE_DIES:
        suspend(admin, "a", namespace, value=True)
        wait_for(lambda: admin.get(PODS, pod.name, namespace)["metadata"].get("deletionTimestamp"))
        assert admin.get(PODS, pod.name, namespace)["status"]["phase"] == "Running"
        assert pod.endpoint is not None
        with pytest.raises(OSError):  # noqa: PT011 - refused, or closed at once
            ask(pod)
    elif death is Death.VANISHES:
        wait_for(lambda: admin.find(PODS, pod.name, namespace) is None, what="no pod")
    else:
        wait_for(lambda: admin.get(PODS, pod.name, namespace)["status"]["phase"] == "Failed")
        status = admin.get(PODS, pod.name, namespace)["status"]["containerStatuses"][0]
        assert status["state"]["terminated"]["exitCode"] == 137
        assert "message" not in status["state"]["terminated"]


def test_an_evicted_pod_is_a_disruption(
    admin: Client, namespace: str, kubelet: FakeKubelet
) -> None:
    kubelet.scripts["a"] = UNTIL_TOLD
    admin.create(job("a", retries=0), namespace)
    first = kubelet.wait_running("a")
    kubelet.evict("a")
    second = wait_for(
        lambda: pod if (pod := kubelet.running("a")) not in (None, first) else None,
        what="another pod",
    )
    assert ask(second).attempt == second.uid
    kubelet.finish("a")
    wait_condition(admin, "a", namespace, "Complete")


@pytest.mark.parametrize("answers", Answers)
def test_answers(admin: Client, namespace: str, kubelet: FakeKubelet, answers: Answers) -> None:
    kubelet.scripts["a"] = Script(seconds=100, answers=answers)
    admin.create(job("a"), namespace)
    pod = kubelet.wait_running("a")
    assert pod.endpoint is not None
    url = f"http://{pod.endpoint.address}:{DEFAULT_PORT}{PROGRESS_PATH}?after=0"
    truthful = 100 * 340
    if answers in (Answers.REFUSES, Answers.HANGS):
        with pytest.raises(OSError):  # noqa: PT011 - refused, or timed out
            urllib.request.urlopen(url, timeout=0.5)
        return
    with urllib.request.urlopen(url, timeout=5) as answer:
        if answers in (Answers.HUGE, Answers.DRIPS):
            assert answer.length == 100 * 1024 * 1024
            assert answer.read(1) == b" "
            return
        body = answer.read()
    if answers is Answers.REDIRECTS:
        assert pod.endpoint.redirected == ["/elsewhere"]
    elif answers is not Answers.NONSENSE:
        reply = ProgressReply.model_validate_json(body)
        assert (reply.attempt == pod.uid) == (answers is not Answers.OTHER_UID)
        joules = sum(c.joules for c in reply.current.counters)
        assert (joules < truthful) == (answers is not Answers.ABSURD)
        if answers is Answers.FALLING:
            wait_for(
                lambda: sum(c.joules for c in ask(pod).current.counters) < joules, 5, "it falls"
            )


def test_nothing_of_a_kubelet_stays(admin: Client, namespace: str, tmp_path: Path) -> None:
    kubelet = FakeKubelet(admin, tmp_path / "claims", namespaces=(namespace,))
    kubelet.default = UNTIL_TOLD
    kubelet.start()
    admin.create(job("a"), namespace)
    pod = kubelet.wait_running("a")
    suspend(admin, "a", namespace, value=True)
    kubelet.stop()
    wait_for(lambda: admin.find(PODS, pod.name, namespace) is None, what="no pod")


def test_programs_that_are_given_are_taken_and_only_the_others_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, built = tmp_path / "given", tmp_path / "built"
    names = ("kube-apiserver", "kubectl", "etcd", "openssl", "setpriv")
    given.mkdir()
    for name in names:
        (given / name).touch()
    asked: list[list[str]] = []

    def build(version: str, missing: list[str]) -> dict[str, Path]:
        asked.append(missing)
        return {name: built / version / name for name in missing}

    monkeypatch.setattr(programs, "_build", build)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(given))
    found = programs.find_programs(names=("kube-apiserver", "kubectl"))
    assert asked == []
    assert found.paths == {name: given / name for name in names}
    # What setup-envtest gives has no controllers.
    assert programs.find_programs()["kubectl"] == given / "kubectl"
    assert asked == [["kube-controller-manager"]]
    # The folder has one version, and no other one is taken from it.
    oldest = programs.find_programs(programs.OLDEST, ("kube-apiserver",))
    assert oldest["kube-apiserver"] == built / programs.OLDEST / "kube-apiserver"
