"""Counters that grow once by what is durable, over restarts; probes that say what is true."""

from __future__ import annotations

import pytest

from tests.cluster.harness.proxy import Action, ApiProxy
from tests.cluster.harness.script import UNTIL_TOLD, Pending, Script
from tests.cluster.harness.waiting import wait_for
from tests.cluster.operator.test_zones import neso_answers
from tests.cluster.operator.world import World, parts_of
from tests.sources.provider import serving


def test_counters_of_all_processes_add_up_to_the_statuses(world: World) -> None:
    world.add_node()
    names = [f"job-{i}" for i in range(3)]
    for name in names:
        world.kubelet.scripts[name] = UNTIL_TOLD
    operator = world.start_operator()
    for name in names:
        world.create(name)
    counted = {"joules": 0.0, "grams": 0.0}

    def take() -> None:
        labels = {"namespace": world.namespace, "zone": world.zone, "task": "train"}
        counted["joules"] += operator.metric("green_energy_joules_total", **labels)
        counted["grams"] += operator.metric("green_emissions_grams_total", **labels)

    for restart, name in enumerate(names):
        world.wait(name, "Running")
        world.kubelet.wait_running(name)
        world.kubelet.finish(name)
        world.wait(name, "Succeeded")
        # It counts once its write is answered, which is after the status can be read.
        space = {"namespace": world.namespace, "state": "Succeeded"}
        wait_for(
            lambda o=operator, n=restart + 1, s=space: o.metric("green_jobs", **s) == n,
            what="it knows that its write is done",
        )
        take()
        assert operator.stop() == 0
        operator = world.start_operator(f"operator-{restart}")
        wait_for(lambda o=operator: o.metric("green_leader") == 1, what="it leads")
    take()
    statuses = [world.status(name) for name in names]
    parts = [part for status in statuses for part in parts_of(status["account"])]
    joules = sum(part["millijoules"] for part in parts) / 1000
    grams = sum(part.get("nanograms", 0) for part in parts) / 1e9
    # An orderly end leaves nothing behind that is durable and not counted.
    assert counted["joules"] == pytest.approx(joules, abs=0.01)
    assert counted["grams"] == pytest.approx(grams, rel=1e-6)


def test_a_restart_tells_nothing_anew_and_writes_nothing(world: World) -> None:
    world.add_node()
    world.kubelet.scripts["works"] = UNTIL_TOLD
    world.kubelet.scripts["stuck"] = Script(pending=Pending.UNSCHEDULABLE)
    operator = world.start_operator()
    for name in ("works", "stuck", "waits"):
        world.create(name, suspend=name == "waits")
    world.wait("works", "Running")
    world.wait("waits", "Planned")
    world.wait_event("stuck", "Unschedulable")
    assert operator.stop() == 0
    told = {name: world.events(name) for name in ("works", "stuck", "waits")}
    before = {name: world.job(name)["metadata"]["resourceVersion"] for name in ("stuck", "waits")}
    operator = world.start_operator("again")
    wait_for(lambda: operator.metric("green_leader") == 1, what="it leads")
    wait_for(lambda: operator.metric("green_jobs", namespace=world.namespace) == 3, what="all seen")
    wait_for(lambda: operator.metric("green_queue_depth") == 0, what="it has looked at all")
    assert {name: world.events(name) for name in told} == told
    after = {name: world.job(name)["metadata"]["resourceVersion"] for name in before}
    assert after == before
    # What is off by seconds would put every deadline off.
    assert abs(operator.metric("green_clock_offset_seconds")) < 5


def test_jobs_are_counted_and_what_they_wait_for_is_told(world: World) -> None:
    world.add_node()
    world.kubelet.scripts["works"] = UNTIL_TOLD
    operator = world.start_operator()
    world.create("paused", suspend=True)
    world.create("works")
    world.wait("works", "Running")
    world.wait("paused", "Planned")
    space = {"namespace": world.namespace}
    wait_for(lambda: operator.metric("green_jobs", state="Running", **space) == 1, what="one runs")
    assert operator.metric("green_jobs", state="Planned", **space) == 1
    assert operator.metric("green_jobs_waiting", reason="Person", **space) == 1
    page = operator.get("/metrics") or ""
    # Jobs that wait have no series of their own.
    assert 'name="paused"' not in page
    assert 'green_job_energy_joules{name="works"' in page
    assert operator.metric("green_reconcile_duration_seconds_count") > 2
    assert operator.metric("green_job_start_delay_seconds_count", **space) == 1
    assert operator.metric("green_api_requests_total", verb="POST", resource="jobs") == 2
    assert operator.metric("green_queue_depth") == 0
    assert operator.metric("green_queue_oldest_seconds") < 5
    assert operator.get("/livez") == "ok"
    assert operator.get("/readyz") == "ok"


def test_a_reconciliation_that_somebody_was_faster_than_is_counted(
    world: World, proxy: ApiProxy
) -> None:
    world.add_node()
    operator = world.start_operator(server=proxy.url)
    fault = proxy.inject(
        Action.ANSWER, status=409,
        when=lambda r: r.shape.endswith("/greentrainingjobs/*/status") and r.is_write,
    )  # fmt: skip
    world.create("shrink")
    world.wait("shrink", "Succeeded")
    assert fault.hits
    assert operator.metric("green_reconcile_errors_total", reason="Conflict") >= 1
    assert operator.metric("green_reconcile_errors_total", reason="Defect") == 0


def test_the_age_of_a_zones_data_counts_from_the_poll_and_is_absent_without_data(
    world: World,
) -> None:
    blind = f"{world.zone}-blind"
    gone = {"configMapKeyRef": {"name": "gone", "key": "x"}, "signal": "AverageLifecycle"}
    world.set_zone({"trace": gone}, name=blind)
    world.set_zone({"ukNeso": {"region": 13}})
    with serving() as provider:
        neso_answers(provider)
        operator = world.start_operator(config={"sourceUrls": {"ukNeso": provider.url}})

        def series(zone: str, name: str = "green_zone_data_age_seconds") -> list[float]:
            lines = (operator.get("/metrics") or "").splitlines()
            start = f'{name}{{zone="{zone}"}} '
            return [float(line.split()[-1]) for line in lines if line.startswith(start)]

        (age,) = wait_for(lambda: series(world.zone), what="the zone was polled")
        assert 0 <= age < 60
        wait_for(
            lambda: series(blind, "green_zone_source_position") == [-1],
            what="the other one has no source that can be used",
        )
        assert series(blind) == []
