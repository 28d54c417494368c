"""Pods that fail, vanish, lie or never start: the job ends rightly and every joule is told apart."""

from __future__ import annotations

import pytest

from tests.cluster.harness.client import PODS, QUOTAS, Object
from tests.cluster.harness.container import FALLS_FROM
from tests.cluster.harness.control_plane import ControlPlane
from tests.cluster.harness.operator import OperatorProcess
from tests.cluster.harness.script import (
    UNTIL_TOLD,
    Answers,
    Message,
    Pending,
    Script,
    steady,
)
from tests.cluster.harness.waiting import wait_for
from tests.cluster.operator.world import World, joules_of

QUICK = {"retries": 1}


@pytest.fixture(scope="session")
def control_plane(supported: ControlPlane) -> ControlPlane:
    """What the Job controller does is not the same in all versions."""
    return supported


def test_a_pod_that_is_always_interrupted_ends_after_its_retries(world: World) -> None:
    world.add_node()
    world.kubelet.scripts["tired"] = Script(codes=(75,), fails_after=0.3)
    world.start_operator()
    world.create("tired", retries=1)
    status = world.wait("tired", "Failed")
    assert world.condition("tired", "Failed")["reason"] == "BackoffLimitExceeded"
    assert status["run"]["attempts"] == 2
    assert joules_of(status) == pytest.approx(world.kubelet.joules("tired"), abs=0.003)
    assert status["energy"]["joules"] > 0


def test_a_task_that_cannot_work_as_written_fails_at_once(world: World) -> None:
    world.add_node()
    world.kubelet.scripts["wrong"] = Script(codes=(65,), fails_after=0.3)
    world.start_operator()
    world.create("wrong", retries=5)
    status = world.wait("wrong", "Failed")
    assert world.condition("wrong", "Failed")["reason"] == "InvalidTask"
    assert status["run"]["attempts"] == 1


def test_a_drained_pod_is_no_failure(world: World) -> None:
    world.add_node()
    world.kubelet.scripts["moved"] = UNTIL_TOLD
    world.start_operator()
    world.create("moved", retries=0)
    world.wait("moved", "Running")
    world.kubelet.evict("moved")
    wait_for(lambda: len(world.kubelet.truth("moved")) == 2, what="another attempt")
    world.kubelet.wait_running("moved")
    world.kubelet.finish("moved")
    status = world.wait("moved", "Succeeded")
    assert status["run"]["number"] == 1
    assert joules_of(status) == pytest.approx(world.kubelet.joules("moved"), abs=0.003)


def test_a_pod_that_vanishes_leaves_one_estimated_tail(world: World) -> None:
    world.add_node()
    world.kubelet.scripts["lost"] = UNTIL_TOLD
    world.start_operator()
    world.create("lost")
    world.wait("lost", "Running")
    wait_for(lambda: world.status("lost")["run"]["attempts"] == 1, what="it is counted")
    world.kubelet.vanish("lost")
    wait_for(lambda: len(world.kubelet.truth("lost")) == 2, what="another attempt")
    world.kubelet.wait_running("lost")
    world.kubelet.finish("lost")
    status = world.wait("lost", "Succeeded")
    first, second = status["account"]["latest"]
    assert second["toldEnd"] is True
    assert "tail" not in second
    # Nobody saw the first one's last moments: they are estimated, and no more than an interval.
    tail = first.get("tail", {"millijoules": 0, "provenance": "Estimated"})
    assert tail["provenance"] == "Estimated"
    assert tail["millijoules"] <= 4_000 * 1.01
    assert status["energy"]["measuredJoules"] <= world.kubelet.joules("lost")


def wait_named(world: World, pod: Object) -> Object:
    """The condition that names a pod that does not end, and its node."""
    condition = world.wait_condition("stuck", "Running", "False", "PodNotEnding")
    assert pod["metadata"]["name"] in condition["message"]
    assert pod["spec"]["nodeName"] in condition["message"]
    return condition


def test_a_node_that_dies_is_named_and_no_second_writer_starts(world: World) -> None:
    world.add_node()
    world.kubelet.scripts["stuck"] = UNTIL_TOLD
    operator = world.start_operator()
    world.create("stuck", pod={"terminationGracePeriodSeconds": 1})
    world.wait("stuck", "Running")
    world.kubelet.lose_node("stuck")
    world.change("stuck", {"suspend": True})
    world.wait_condition("stuck", "Suspended", "True", "Person")
    (run,) = world.runs("stuck")
    assert run["spec"]["suspend"] is True
    world.change("stuck", {"suspend": False})
    (pod,) = world.pods("stuck")
    condition = wait_named(world, pod)
    world.wait_event("stuck", "PodNotEnding")
    wait_for_resyncs(operator)
    (run,) = world.runs("stuck")
    assert run["spec"]["suspend"] is True
    assert uids(world, "stuck") == [pod["metadata"]["uid"]]
    assert world.condition("stuck", "Running") == condition


def test_a_pod_that_goes_down_with_its_node_is_not_called_running(world: World) -> None:
    """Nobody suspends anything: the node's pods are deleted, and this one stays for ever."""
    world.add_node()
    world.kubelet.scripts["stuck"] = UNTIL_TOLD
    operator = world.start_operator()
    world.create("stuck", pod={"terminationGracePeriodSeconds": 1})
    world.wait("stuck", "Running")
    world.kubelet.lose_node("stuck")
    (pod,) = world.pods("stuck")
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    world.admin.delete(PODS, name, world.namespace)
    condition = wait_named(world, pod)
    labels = {"namespace": world.namespace, "reason": "PodNotEnding"}
    wait_for(
        lambda: operator.metric("green_jobs_waiting", **labels) == 1, what="the alert can see it"
    )
    wait_for_resyncs(operator)
    assert world.condition("stuck", "Running") == condition
    assert uids(world, "stuck") == [uid]
    assert [r["metadata"]["labels"]["greentraining.io/run"] for r in world.runs("stuck")] == ["1"]
    # Somebody deletes the node, and the garbage collector the pod.
    collected = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}
    gone = {"phase": "Failed", "conditions": [collected]}
    world.admin.patch_status(PODS, name, gone, world.namespace)
    world.admin.delete(PODS, name, world.namespace, grace_seconds=0)
    world.wait("stuck", "Running")
    world.kubelet.wait_running("stuck")
    world.kubelet.finish("stuck")
    status = world.wait("stuck", "Succeeded")
    first, second = status["account"]["latest"]
    assert first["tail"]["provenance"] == "Estimated"
    assert first["tail"]["millijoules"] <= 4_000 * 1.01
    assert "tail" not in second
    assert status["run"]["number"] == 1


def uids(world: World, name: str) -> list[str]:
    return [pod["metadata"]["uid"] for pod in world.pods(name)]


def wait_for_resyncs(operator: OperatorProcess, times: int = 3) -> None:
    """Until the operator has listed everything so many times."""

    def lists() -> float:
        return operator.metric("green_api_requests_total", verb="LIST", resource="pods")

    before = lists()
    wait_for(lambda: lists() >= before + times, what="it has looked again")


@pytest.mark.parametrize("message", [m for m in Message if m is not Message.WHOLE])
def test_exit_0_without_the_done_marker_is_no_success(world: World, message: Message) -> None:
    world.add_node()
    world.kubelet.scripts["mute"] = Script(seconds=0.5, message=message)
    world.start_operator()
    world.create("mute", retries=1)
    world.wait("mute", "Failed")
    assert world.condition("mute", "Failed")["reason"] == "NoDoneMarker"
    assert len(world.runs("mute")) == 2


@pytest.mark.parametrize(
    "answers", [a for a in Answers if a not in {Answers.WELL, Answers.FALLING}]
)
def test_a_pod_that_does_not_answer_as_it_should_changes_no_job(
    world: World, answers: Answers
) -> None:
    world.add_node()
    world.kubelet.scripts["odd"] = Script(seconds=600, answers=answers)
    operator = world.start_operator()
    world.create("odd")
    condition = world.wait_condition("odd", "ProgressAvailable", "False")
    assert "energy is estimated" in condition["message"]
    assert world.status("odd")["state"] == "Running"
    endpoint = world.kubelet.wait_running("odd").endpoint
    world.kubelet.finish("odd")
    status = world.wait("odd", "Succeeded")
    truth = world.kubelet.joules("odd")
    # The summary is still the job's own word, bounded by what can be believed.
    assert joules_of(status) == pytest.approx(truth, abs=0.003)
    assert endpoint is not None
    assert endpoint.redirected == []
    # However much is offered, little is taken each time.
    assert endpoint.sent <= 4 * 2**20 * len(endpoint.asked)
    assert operator.exit_code is None


def test_a_counter_that_falls_adds_nothing(world: World) -> None:
    world.add_node()
    gpu = steady(cpu=0.0)
    world.kubelet.scripts["odd"] = Script(seconds=600, answers=Answers.FALLING, hardware=gpu)
    world.start_operator()
    world.create("odd")
    endpoint = world.kubelet.wait_running("odd").endpoint
    assert endpoint is not None
    # By then it has drawn more than it ever claimed, and told ever less.
    wait_for(lambda: world.kubelet.joules("odd") > 2 * FALLS_FROM, what="it has worked")
    assert len(endpoint.asked) > 2
    world.wait_condition("odd", "ProgressAvailable", "True")
    world.kubelet.finish("odd")
    status = world.wait("odd", "Succeeded")
    assert joules_of(status) == pytest.approx(world.kubelet.joules("odd"), abs=0.003)


def test_a_pod_on_a_foreign_network_is_not_asked(world: World) -> None:
    world.add_node()
    world.kubelet.scripts["far"] = UNTIL_TOLD
    world.start_operator(config={"podNetworks": ["10.0.0.0/8"]})
    world.create("far")
    condition = world.wait_condition("far", "ProgressAvailable", "False")
    assert "pod networks" in condition["message"]


@pytest.mark.parametrize(
    ("pending", "reason"),
    [(Pending.UNSCHEDULABLE, "Unschedulable"), (Pending.IMAGE_PULL_BACK_OFF, "ImagePullFailed")],
)
def test_what_keeps_a_pod_from_starting_is_a_reason_of_its_own(
    world: World, pending: Pending, reason: str
) -> None:
    world.add_node()
    world.kubelet.scripts["blocked"] = Script(seconds=0.5, pending=pending)
    world.start_operator()
    world.create("blocked")
    condition = world.wait_condition("blocked", "Running", "False", reason)
    status = world.status("blocked")
    assert status["state"] == "Planned"
    assert status["message"] == condition["message"]
    world.wait_event("blocked", reason)
    world.kubelet.scripts["blocked"] = Script(seconds=0.5)
    world.wait("blocked", "Succeeded")


def test_a_pod_that_a_quota_refuses_is_told_and_comes_once_there_is_room(world: World) -> None:
    world.add_node()
    world.kubelet.scripts["refused"] = Script(seconds=0.5)
    full = {"apiVersion": "v1", "kind": "ResourceQuota", "spec": {"hard": {"pods": "0"}}}
    metadata = {"name": "full", "namespace": world.namespace}
    world.admin.create(full | {"metadata": metadata})
    # What the quota controller writes, which is not running here; admission goes by it.
    counted = {"hard": {"pods": "0"}, "used": {"pods": "0"}}
    world.admin.patch_status(QUOTAS, "full", counted, world.namespace)
    world.start_operator()
    world.create("refused")
    condition = world.wait_condition("refused", "Running", "False", "PodNotCreated", timeout=110)
    (run,) = world.runs("refused")
    assert run["metadata"]["name"] in condition["message"]
    assert "quota" in condition["message"]
    world.wait_event("refused", "PodNotCreated")
    world.admin.delete(QUOTAS, "full", world.namespace)
    # The Job controller waits longer and longer between two tries.
    world.wait("refused", "Succeeded", timeout=150)


def test_a_missing_claim_is_told_while_the_job_still_waits(world: World) -> None:
    world.add_node()
    world.start_operator()
    world.create("homeless", storage={"claimName": "nowhere"}, suspend=True)
    condition = world.wait_condition("homeless", "ClaimBound", "False", "ClaimNotFound")
    assert "nowhere" in condition["message"]
    assert "create it" in condition["message"]


def test_a_claim_that_comes_with_its_job_is_not_called_missing(world: World) -> None:
    world.add_node()
    world.start_operator()
    world.create("first")
    world.wait("first", "Succeeded")  # its namespace's claims are known from now on
    world.add_claim("late")
    world.create("second", storage={"claimName": "late"})
    world.wait("second", "Succeeded")
    assert world.condition("second", "ClaimBound") == {}
    assert "ClaimNotFound" not in world.events("second")


def test_an_address_that_another_pod_has_now_adds_nothing(world: World) -> None:
    """The reply names its pod: another tenant's answer at the same address is not taken."""
    world.add_node()
    world.kubelet.scripts["mine"] = Script(seconds=600, answers=Answers.OTHER_UID)
    world.start_operator()
    world.create("mine")
    condition = world.wait_condition("mine", "ProgressAvailable", "False")
    assert "another attempt" in condition["message"]
