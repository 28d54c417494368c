"""Named namespaces: one that is gone stops the jobs of no other, and comes back."""

from __future__ import annotations

from tests.cluster.harness.client import GREEN_JOBS, ROLE_BINDINGS
from tests.cluster.harness.operator import bind_in, rules
from tests.cluster.harness.waiting import wait_for
from tests.cluster.operator.world import API, TRAIN, World

# Not the account that must never be refused anything.
ACCOUNT = "green-training-narrow"


def create_in(world: World, namespace: str, name: str) -> None:
    spec = {"task": TRAIN, "schedule": {"policy": "Immediately"}, "suspend": True}
    meta = {"name": name, "namespace": namespace}
    world.admin.create(
        {"apiVersion": API, "kind": "GreenTrainingJob", "metadata": meta, "spec": spec}
    )


def test_a_namespace_that_is_gone_stops_no_other(world: World, other: str) -> None:
    world.add_node()
    both = [world.namespace, other]
    operator = world.start_operator(config={"watchNamespaces": both}, account=ACCOUNT, watched=both)

    def is_seen(name: str) -> bool:
        return bool(world.admin.get(GREEN_JOBS, name, other).get("status"))

    def says(value: int) -> bool:
        line = f'green_namespace_available{{namespace="{other}"}} {value}.0'
        return line in (operator.get("/metrics") or "")

    create_in(world, other, "before")
    wait_for(lambda: is_seen("before"), what="a job there is seen")
    assert says(1)
    world.admin.delete(ROLE_BINDINGS, f"{ACCOUNT}-jobs", other)
    wait_for(lambda: says(0), what="it is away", seen=operator.tail)
    world.create("here")
    world.wait("here", "Succeeded")
    # What is known of it stays.
    assert operator.metric("green_jobs", namespace=other) == 1
    assert operator.exit_code is None
    # A new process has never seen it.
    assert operator.stop() == 0
    operator.start().wait_ready()
    assert says(0)
    world.create("again")
    world.wait("again", "Succeeded")
    # It comes back, and is watched again.
    bind_in(world.plane, world.namespace, ACCOUNT, other, rules()["watchedNamespaces"], "-jobs")
    wait_for(lambda: says(1), what="it is there again", seen=operator.tail)
    create_in(world, other, "after")
    wait_for(lambda: is_seen("after"), what="a job there is seen again", seen=operator.tail)
    assert operator.exit_code is None
    assert operator.log.read_text().count(f"{other} cannot be listed") == 2
