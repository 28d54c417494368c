"""Objects that a newer version wrote: told, left alone, and no reason to stop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.harness.client import CRDS, GREEN_JOBS, ZONES, Client, Object
from tests.cluster.harness.waiting import wait_for
from tests.cluster.operator.world import World

NAMES = ("greentrainingjobs.greentraining.io", "gridzones.greentraining.io")


@pytest.fixture
def newer_definition(admin: Client) -> Iterator[None]:
    """What a newer version's definitions may look like: fields that this version does not know."""
    _patch(admin, "add")
    yield
    _patch(admin, "remove")


def _patch(admin: Client, operation: str) -> None:
    patch = [
        {"op": operation, "path": f"/spec/versions/0/schema/openAPIV3Schema/properties/{part}/"
         "x-kubernetes-preserve-unknown-fields", "value": True}
        for part in ("spec", "status")
    ]  # fmt: skip
    for name in NAMES:
        admin.patch(CRDS, name, patch, how="json")


@pytest.mark.usefixtures("newer_definition")
def test_what_a_newer_version_wrote_is_not_accepted_and_kept(world: World) -> None:
    world.add_node()
    world.create("newer", teleport={"to": "mars"})
    wait_for(lambda: "teleport" in world.job("newer")["spec"], what="the field is stored")
    operator = world.start_operator()
    condition = world.wait_condition("newer", "Accepted", "False")
    assert "spec.teleport" in condition["message"]
    assert world.runs("newer") == []
    world.wait_events("newer", "NotAccepted")
    # It is counted like any other.
    labels = {"namespace": world.namespace, "condition": "Accepted", "status": "False"}
    wait_for(lambda: operator.metric("green_jobs_by_condition", **labels) == 1, what="it counts")
    assert operator.metric("green_jobs", state="Accepted", namespace=world.namespace) == 1
    # Others go on.
    world.create("usual")
    world.wait("usual", "Succeeded")
    # A status of a newer version is kept, but for the condition.
    world.admin.patch_status(
        GREEN_JOBS, "newer", {"state": "Accepted", "warp": 9, "conditions": []}, world.namespace
    )
    world.change("newer", {"teleport": {"to": "venus"}})
    world.wait_condition("newer", "Accepted", "False")
    assert world.status("newer").get("warp") == 9
    # Once it can be read again, it is worked with.
    world.change("newer", {"teleport": None})
    assert operator.exit_code is None


@pytest.mark.usefixtures("newer_definition")
def test_a_zone_that_a_newer_version_wrote_says_so_and_its_jobs_go_on(world: World) -> None:
    def zone() -> Object:
        return world.admin.get(ZONES, world.zone)

    def wait_ready(status: str, reason: str) -> str:
        def said() -> Object:
            conditions = (zone().get("status") or {}).get("conditions") or [{}]
            return dict(conditions[0])

        wait_for(
            lambda: (said().get("status"), said().get("reason")) == (status, reason),
            what=f"the zone is {status} {reason}", seen=lambda: (zone(), world.operators[0].tail(15)),
        )  # fmt: skip
        return str(said()["message"])

    def change(tide: str) -> None:
        def is_stored() -> bool:
            world.set_zone(tide=tide)
            return "tide" in zone()["spec"]

        wait_for(is_stored, what="the field is stored")

    world.add_node()
    change("high")
    operator = world.start_operator()
    assert "spec.tide" in wait_ready("False", "NotReadable")
    wait_for(lambda: operator.metric("green_zone_source_position", zone=world.zone) == -1)
    # Missing data keep no job waiting.
    world.create("usual")
    assert "spec.tide" in world.wait_condition("usual", "IntensityAvailable", "False")["message"]
    world.wait("usual", "Succeeded")
    world.set_zone()
    wait_ready("True", "FirstSource")
    # What was read of it goes on to count.
    change("low")
    assert "static 200 g/kWh" in wait_ready("False", "NotReadable")
    world.create("later")
    world.wait_condition("later", "IntensityAvailable", "True")
