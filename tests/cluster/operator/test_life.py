"""A job's life in a cluster, undisturbed, and what people do to it meanwhile."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest

from tests.cluster.harness.client import GREEN_JOBS, JOBS
from tests.cluster.harness.control_plane import ControlPlane
from tests.cluster.harness.script import UNTIL_TOLD, Script
from tests.cluster.harness.waiting import wait_for
from tests.cluster.operator.world import SOON, World, joules_of, now, static

MOST_STATUS_BYTES = 8 * 1024


@pytest.fixture(scope="session")
def control_plane(supported: ControlPlane) -> ControlPlane:
    """What the Job controller does is not the same in all versions."""
    return supported


def test_a_job_waits_for_clean_power_is_suspended_resumed_and_succeeds(world: World) -> None:
    world.add_node()
    world.kubelet.scripts["shrink"] = UNTIL_TOLD
    world.start_operator()
    # Far enough that a busy machine has planned it by then.
    soon = now() + timedelta(seconds=30)
    world.set_zone(world.set_trace([400, 400, 100, 400, 400], soon - timedelta(minutes=10)))
    world.create("shrink", {**SOON, "expectedDuration": "4m", "completeWithin": "34m"})

    status = world.wait("shrink", "Planned")
    assert abs(datetime.fromisoformat(status["plannedStart"]) - soon) < timedelta(seconds=1)
    assert status["plan"]["intensityGramsPerKilowattHour"] == 100
    assert status["plan"]["runNowIntensityGramsPerKilowattHour"] > 100
    assert status["difference"].endswith("expected")
    (run,) = world.runs("shrink")
    assert run["spec"]["suspend"] is True
    assert world.pods("shrink") == []

    world.wait("shrink", "Running")
    # The forecast changes: the clean time begins in half a minute.
    world.set_zone(
        world.set_trace([400, 400, 50, 400, 400], now() - timedelta(minutes=9, seconds=30), "later")
    )
    world.wait_condition("shrink", "Suspended", "True", "Plan")
    wait_for(lambda: not world.pods("shrink"), what="the pod is gone")
    world.wait("shrink", "Running")
    wait_for(lambda: len(world.kubelet.truth("shrink")) == 2, what="a second attempt")
    world.kubelet.wait_running("shrink")
    world.kubelet.finish("shrink")

    status = world.wait("shrink", "Succeeded")
    assert len(world.runs("shrink")) == 1
    assert joules_of(status) == pytest.approx(world.kubelet.joules("shrink"), abs=0.003)
    assert status["run"]["attempts"] == 2
    assert status["reportPath"].endswith("report.json")
    assert len(json.dumps(status).encode()) < MOST_STATUS_BYTES
    world.wait_events("shrink", "Planned", "Started", "Suspended", "Resumed", "Succeeded")
    emissions = status["emissions"]
    assert emissions["micrograms"] > 0
    assert emissions["differenceMicrograms"] == (
        emissions["counterfactualMicrograms"] - emissions["micrograms"]
    )


def test_a_person_pauses_and_goes_on(world: World) -> None:
    world.add_node()
    world.kubelet.scripts["shrink"] = UNTIL_TOLD
    world.start_operator()
    world.create("shrink", suspend=True)
    status = world.wait("shrink", "Planned")
    assert "spec.suspend" in status["message"]
    world.change("shrink", {"suspend": False})
    world.wait("shrink", "Running")
    world.change("shrink", {"suspend": True})
    world.wait_condition("shrink", "Suspended", "True", "Person")
    wait_for(lambda: not world.pods("shrink"), what="the pod is gone")
    world.change("shrink", {"suspend": False})
    world.wait("shrink", "Running")
    wait_for(lambda: len(world.kubelet.truth("shrink")) == 2, what="a second attempt")
    world.kubelet.finish("shrink")
    status = world.wait("shrink", "Succeeded")
    assert joules_of(status) == pytest.approx(world.kubelet.joules("shrink"), abs=0.003)


def test_a_job_that_asks_to_start_now_starts_now_and_needs_no_estimate(world: World) -> None:
    world.add_node()
    world.set_zone(world.set_trace([400, 400, 10, 10], now() - timedelta(minutes=7)))
    world.start_operator()
    world.create("urgent", {"policy": "Immediately"})
    status = world.wait("urgent", "Succeeded")
    assert status["plan"]["reason"] == "StartsImmediately"
    assert "expectedEnergyJoules" not in status["plan"]


def dirty_for_an_hour(world: World) -> None:
    """A node, in a zone whose power is dirty for an hour yet."""
    world.add_node()
    world.set_zone(world.set_trace([400] * 12 + [10] * 60, now() - timedelta(minutes=1)))


def test_a_shorter_deadline_starts_a_waiting_job(world: World) -> None:
    dirty_for_an_hour(world)
    world.start_operator()
    world.create("shrink", {**SOON, "expectedDuration": "10m"})
    world.wait("shrink", "Planned")
    world.change("shrink", {"schedule": {"completeWithin": "26m"}})
    status = world.wait("shrink", "Succeeded")
    assert status["observedGeneration"] == 2


def test_a_later_deadline_suspends_a_job_that_had_to_run(world: World) -> None:
    dirty_for_an_hour(world)
    world.kubelet.scripts["shrink"] = UNTIL_TOLD
    world.start_operator()
    world.create("shrink", {**SOON, "expectedDuration": "10m", "completeWithin": "26m"})
    world.wait("shrink", "Running")
    world.change("shrink", {"schedule": {"completeWithin": "6h"}})
    world.wait_condition("shrink", "Suspended", "True", "Plan")
    assert world.status("shrink")["run"]["failedAttempts"] == 0


def test_who_does_not_want_to_wait_any_longer_says_so(world: World) -> None:
    dirty_for_an_hour(world)
    world.start_operator()
    world.create("shrink", {**SOON, "expectedDuration": "10m"})
    world.wait("shrink", "Planned")
    world.change("shrink", {"schedule": {"policy": "Immediately"}})
    status = world.wait("shrink", "Succeeded")
    assert status["plan"]["reason"] == "StartsImmediately"


@pytest.mark.parametrize(
    "moment", ["at once", "Planned", "Running", "Ending", "Suspended", "Succeeded"]
)
def test_a_job_can_be_deleted_at_any_moment(world: World, moment: str) -> None:
    world.add_node()
    seconds = 2 if moment == "Succeeded" else 600
    world.kubelet.scripts["shrink"] = Script(seconds=seconds, stop_seconds=3)
    operator = world.start_operator()
    world.create("shrink", suspend=moment == "Planned")
    if moment in {"Ending", "Suspended"}:
        world.wait("shrink", "Running")
        world.kubelet.wait_running("shrink")
        world.change("shrink", {"suspend": True})
        world.wait("shrink", "Suspended")
        if moment == "Suspended":
            wait_for(lambda: not world.pods("shrink"), what="its pod is gone")
    elif moment != "at once":
        world.wait("shrink", moment)
    world.delete("shrink")
    world.wait_collected("shrink")
    series = f'namespace="{world.namespace}"'
    wait_for(
        lambda: (
            not [
                line
                for line in (operator.get("/metrics") or series).splitlines()
                if line.startswith("green_job_") and series in line and "start_delay" not in line
            ]
        ),
        what="the job's series are gone",
    )
    # The same name again is another job, with its own runs and books.
    world.create("shrink", suspend=True)
    status = world.wait("shrink", "Planned")
    assert "energy" not in status or status["energy"]["joules"] == 0


def test_a_finished_job_goes_after_its_time_to_live(world: World) -> None:
    world.add_node()
    world.kubelet.scripts["brief"] = Script(seconds=1)
    world.start_operator()
    world.create("brief", ttlSecondsAfterFinished=2)
    world.wait("brief", "Succeeded")
    wait_for(
        lambda: world.admin.find(GREEN_JOBS, "brief", world.namespace) is None, what="it is gone"
    )
    world.wait_collected("brief")


def test_a_run_that_was_deleted_by_hand_is_followed_by_another(world: World) -> None:
    world.add_node()
    world.kubelet.scripts["shrink"] = UNTIL_TOLD
    world.start_operator()
    world.create("shrink")
    world.wait("shrink", "Running")
    (run,) = world.runs("shrink")
    world.admin.delete(JOBS, run["metadata"]["name"], world.namespace)
    wait_for(lambda: len(world.kubelet.truth("shrink")) == 2, what="a second attempt")
    world.kubelet.wait_running("shrink")
    world.kubelet.finish("shrink")
    status = world.wait("shrink", "Succeeded")
    assert status["run"]["number"] == 2
    assert joules_of(status) == pytest.approx(world.kubelet.joules("shrink"), abs=0.003)


@pytest.mark.parametrize("has_our_labels", [False, True])
def test_a_job_of_somebody_else_with_a_runs_name_is_left_alone(
    world: World, has_our_labels: bool
) -> None:
    world.add_node()
    uid = world.create("shrink")["metadata"]["uid"]
    labels = {"greentraining.io/job": "shrink", "greentraining.io/run": "1"}
    name = f"shrink-{uid[:5]}-1"
    container = {"name": "job", "image": "example.test/other"}
    foreign = world.admin.create(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": name, "namespace": world.namespace,
                "labels": labels if has_our_labels else {},
            },
            "spec": {
                "suspend": True,
                "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
            },
        }
    )  # fmt: skip
    world.start_operator()
    condition = world.wait_condition("shrink", "Running", "False", "RunRefused")
    assert f"the Job {name} exists and is not this job's" in condition["message"]
    world.wait_event("shrink", "RunRefused")
    # Neither when the job asks for something else of its run.
    world.change("shrink", {"suspend": True})
    wait_for(lambda: "paused" in world.status("shrink")["message"], what="the pause is seen")
    world.change("shrink", {"suspend": False})
    left = world.admin.get(JOBS, name, world.namespace)
    assert (left["metadata"]["uid"], left["spec"]) == (foreign["metadata"]["uid"], foreign["spec"])
    assert left["metadata"].get("ownerReferences") is None
    assert world.pods("shrink") == []
    # It does as the condition asks, and the run is made.
    world.admin.delete(JOBS, name, world.namespace)
    world.wait("shrink", "Succeeded")


def test_kubectl_reads_well(world: World) -> None:
    world.add_node()
    world.kubelet.scripts["shrink"] = Script(seconds=2)
    world.start_operator()
    world.create("shrink")
    kubectl = world.plane.kubectl
    kubectl(
        "wait", "gtj/shrink", "-n", world.namespace, "--for=condition=Succeeded", "--timeout=90s"
    )
    table = kubectl("get", "gtj", "-n", world.namespace)
    header, row = table.strip().splitlines()
    assert header.split() == [
        "NAME",
        "STATE",
        "PLANNED-START",
        "DEADLINE",
        "DIFFERENCE",
        "ZONE",
        "AGE",
    ]
    assert "Succeeded" in row
    wide = kubectl("get", "gtj", "-n", world.namespace, "-o", "wide").splitlines()[0].split()
    assert wide[-4:] == ["ENERGY", "INTENSITY", "MESSAGE", "AGE"]
    described = kubectl("describe", "gtj", "shrink", "-n", world.namespace)
    assert "Succeeded  " in described
    assert "the task is complete" in described


def test_without_a_zone_a_job_starts_and_says_so(world: World) -> None:
    world.add_node()
    world.start_operator()
    world.create("shrink", placement={"zones": ["nowhere"]})
    status = world.wait("shrink", "Succeeded")
    assert status["plan"]["reason"] == "IntensityUnknown"
    condition = world.condition("shrink", "IntensityAvailable")
    assert condition["status"] == "False"
    assert "nowhere" in condition["message"]
    assert status["energy"]["joules"] == pytest.approx(world.kubelet.joules("shrink"), abs=1)


def test_a_zone_that_loses_its_source_keeps_the_job_going(world: World) -> None:
    dirty_for_an_hour(world)
    world.start_operator()
    world.create("shrink", {**SOON, "expectedDuration": "10m"})
    world.wait("shrink", "Planned")
    world.set_zone(
        {"trace": {"configMapKeyRef": {"name": "gone", "key": "x"}, "signal": "AverageLifecycle"}},
        static(300),
    )
    status = world.wait("shrink", "Succeeded")
    condition = world.condition("shrink", "IntensityAvailable")
    assert condition["status"] == "True"
    assert "passed over" in condition["message"]
    assert status["emissions"]["micrograms"] > 0
