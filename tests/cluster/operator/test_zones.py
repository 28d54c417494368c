"""Grid zones in a cluster: live sources polled once for all, the node's zone, a history that stays."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.cluster.harness.client import ZONES
from tests.cluster.harness.script import UNTIL_TOLD
from tests.cluster.harness.waiting import wait_for
from tests.cluster.operator.world import LABEL, SOON, World, now, static
from tests.sources.provider import (
    HALF_HOUR,
    HOUR,
    Provider,
    Reply,
    maps_latest,
    maps_series,
    mix,
    neso_point,
    neso_region,
    serving,
)

KEY = "not-a-real-key-4711"


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serving() as made:
        yield made


def half_hour() -> datetime:
    return now().replace(minute=now().minute // 30 * 30, second=0, microsecond=0)


def hour() -> datetime:
    return now().replace(minute=0, second=0, microsecond=0)


def windy(percent: float) -> list[dict[str, object]]:
    return mix({"wind": percent, "gas": 100 - percent})


def neso_answers(provider: Provider) -> None:
    """Dirty now, windy in two hours, for half a day."""
    past = [
        neso_point(half_hour() - i * HALF_HOUR, 300, 310, generationmix=windy(20))
        for i in range(48)
    ]
    ahead = [
        neso_point(
            half_hour() + i * HALF_HOUR, 50 if 4 <= i < 28 else 300,
            generationmix=windy(90 if 4 <= i < 28 else 20),
        )
        for i in range(96)
    ]  # fmt: skip
    provider.script("pt24h", Reply(neso_region(13, *past)))
    provider.script("fw48h", Reply(neso_region(13, *ahead)))


def maps_answers(provider: Provider) -> None:
    provider.script("history", Reply(maps_series("history", hour() - 24 * HOUR, 24, lambda _: 400)))
    provider.script("latest", Reply(maps_latest(hour(), 400)))
    provider.script(
        "forecast",
        Reply(maps_series("forecast", hour(), 48, lambda i: 90 if 3 <= i < 12 else 400)),
    )


def test_jobs_shift_on_nesos_forecast_towards_renewable_hours(
    world: World, provider: Provider
) -> None:
    neso_answers(provider)
    world.set_zone({"ukNeso": {"region": 13}})
    world.start_operator(config={"sourceUrls": {"ukNeso": provider.url}})
    for name in ("one", "two", "three"):
        world.create(name)
        status = world.wait(name, "Planned")
        planned = datetime.fromisoformat(status["plannedStart"])
        assert planned == half_hour() + 4 * HALF_HOUR
        assert status["plan"]["intensityGramsPerKilowattHour"] == 50
        assert status["plan"]["renewablePercent"] == 90
        assert status["plan"]["signal"] == "AverageDirect"
    # Once for all jobs.
    assert len(provider.asked("fw48h")) == 1
    history = wait_for(lambda: world.history(world.zone), what="the history is stored")
    assert len(base64.b64decode(history["binaryData"]["history"])) > 100


def test_electricity_maps_gets_its_key_from_a_secret_and_nobody_else_sees_it(
    world: World, provider: Provider
) -> None:
    maps_answers(provider)
    secret = {"name": "electricity-maps", "namespace": world.namespace}
    world.admin.create(
        {"apiVersion": "v1", "kind": "Secret", "metadata": secret, "stringData": {"token": KEY}}
    )
    reference = {"name": "electricity-maps", "key": "token"}
    world.set_zone({"electricityMaps": {"zone": "DE", "secretKeyRef": reference}})
    operator = world.start_operator(config={"sourceUrls": {"electricityMaps": provider.url}})
    world.create("shrink")
    status = world.wait("shrink", "Planned")
    assert datetime.fromisoformat(status["plannedStart"]) == hour() + 3 * HOUR
    assert status["plan"]["signal"] == "AverageLifecycle"
    (asked,) = provider.asked("forecast")
    assert {k.lower(): v for k, v in asked.headers.items()}["auth-token"] == KEY
    assert KEY not in operator.log.read_text()
    assert KEY not in world.plane.kubectl(
        "get", "gtj,gridzones,events,cm", "-n", world.namespace, "-o", "yaml"
    )


def test_a_provider_that_fails_is_passed_over_and_the_job_goes_on(
    world: World, provider: Provider
) -> None:
    provider.script("intensity", Reply({}, status=200))
    world.add_node()
    world.set_zone({"ukNeso": {}}, static(250))
    operator = world.start_operator(config={"sourceUrls": {"ukNeso": provider.url}})
    world.create("shrink")
    status = world.wait("shrink", "Succeeded")
    assert "passed over" in world.condition("shrink", "IntensityAvailable")["message"]
    assert status["emissions"]["signal"] == "AverageLifecycle"
    assert operator.metric("green_zone_polls_total", zone=world.zone, result="failed") >= 1
    # The zone says it too, without a job; one write, for nothing changes.
    row = world.plane.kubectl("get", "gridzone", world.zone, "--no-headers")
    assert "static 250 g/kWh" in row
    assert " True " in row
    told = world.admin.get(ZONES, world.zone)["status"]["conditions"][0]
    assert (told["type"], told["status"], told["reason"]) == ("Ready", "True", "Fallback")
    assert "ukNeso" in told["message"]
    assert operator.metric("green_api_requests_total", verb="PATCH", resource="gridzones") <= 2


def test_emissions_are_those_of_the_nodes_zone_and_another_one_is_told(world: World) -> None:
    other = f"other-{world.namespace}"
    world.set_zone(static(1000), name=other)
    world.add_node(other)
    # The planned zone selects no node by itself; the author sends the pod elsewhere.
    world.set_zone(static(100), nodeSelector={})
    world.start_operator()
    world.create("shrink", pod={"nodeSelector": {LABEL: other}})
    status = world.wait("shrink", "Succeeded")
    assert status["plan"]["zone"] == world.zone
    assert status["emissions"]["zone"] == other
    grams = status["emissions"]["micrograms"] / 1e6
    assert grams == pytest.approx(status["energy"]["joules"] / 3.6e6 * 1000, rel=0.01)
    condition = world.condition("shrink", "ZoneAsPlanned")
    assert (condition["status"], condition["reason"]) == ("False", "OtherZone")
    assert other in condition["message"]


def test_a_job_goes_to_the_cleaner_of_its_zones(world: World) -> None:
    clean = f"clean-{world.namespace}"
    world.set_zone(static(30), name=clean)
    world.set_zone(static(300))
    world.add_node()
    there = world.add_node(clean)
    world.kubelet.scripts["choosy"] = UNTIL_TOLD
    world.start_operator()
    world.create("choosy", placement={"zones": [world.zone, clean]})
    status = world.wait("choosy", "Running")
    assert status["plan"]["zone"] == clean
    (pod,) = world.pods("choosy")
    assert pod["spec"]["nodeSelector"] == {LABEL: clean}
    assert pod["spec"]["nodeName"] == there.name
    world.kubelet.finish("choosy")
    assert world.wait("choosy", "Succeeded")["emissions"]["zone"] == clean


def test_a_run_stays_in_the_zone_that_it_was_started_in(world: World) -> None:
    other = f"other-{world.namespace}"
    world.set_zone(static(300), name=other)
    world.set_zone(static(30))
    world.add_node()
    world.add_node(other)
    world.kubelet.scripts["settled"] = UNTIL_TOLD
    world.start_operator()
    world.create("settled", placement={"zones": [other, world.zone]})
    world.wait("settled", "Running")
    world.change("settled", {"suspend": True})
    world.wait("settled", "Suspended")
    # The other zone is the cleaner one now; what has begun cannot follow, nor does its plan.
    world.set_zone(static(10), name=other)
    world.change("settled", {"suspend": False})
    wait_for(
        lambda: world.status("settled")["state"] == "Running", what="it goes on",
        seen=lambda: world.status("settled"),
    )  # fmt: skip
    assert world.status("settled")["plan"]["zone"] == world.zone
    (pod,) = [p for p in world.pods("settled") if "deletionTimestamp" not in p["metadata"]]
    assert pod["spec"]["nodeSelector"] == {LABEL: world.zone}
    world.kubelet.finish("settled")
    assert world.wait("settled", "Succeeded")["emissions"]["zone"] == world.zone


def test_a_run_that_began_without_a_zone_goes_on_where_it_was(world: World) -> None:
    """Its template is settled: the API server refuses the nodes of a zone that is known since."""
    world.add_node()
    world.kubelet.scripts["early"] = UNTIL_TOLD
    world.start_operator()
    world.create("early", placement=None)
    assert "zone" not in world.wait("early", "Running")["plan"]
    world.change("early", {"suspend": True})
    world.wait("early", "Suspended")
    wait_for(lambda: not world.pods("early"), what="the pod is gone")
    world.set_zone(static(100), default=True)
    wait_for(
        lambda: world.condition("early", "IntensityAvailable")["status"] == "True",
        what="the default zone is seen",
    )
    world.change("early", {"suspend": False})
    status = world.wait("early", "Running")
    assert status["plan"]["zone"] == world.zone
    refused = [
        e for e in world.plane.audit.events() if e.namespace == world.namespace and e.code == 422
    ]
    assert [(e.verb, e.resource) for e in refused] == [("patch", "jobs")]
    (run,) = world.runs("early")
    assert "greentraining.io/zone" not in run["metadata"].get("annotations", {})
    world.kubelet.finish("early")
    # The node says where the energy came from.
    assert world.wait("early", "Succeeded")["emissions"]["zone"] == world.zone


def test_a_history_outlives_the_operator(world: World, provider: Provider) -> None:
    neso_answers(provider)
    world.set_zone({"ukNeso": {"region": 13}}, static(250))
    config = {"sourceUrls": {"ukNeso": provider.url}}
    first = world.start_operator(config=config)
    before = wait_for(lambda: world.history(world.zone), what="the history is stored")
    first.stop()
    # The provider is silent from now on: what was observed is still accounted by.
    provider.script("intensity", Reply(status=500))
    world.start_operator("second", config=config)
    world.create("shrink", {**SOON, "policy": "Immediately"})
    world.wait_condition("shrink", "IntensityAvailable", "True")
    after = world.history(world.zone)
    assert after is not None
    assert after["binaryData"] == before["binaryData"]


def test_a_new_forecast_moves_the_plan_and_one_that_says_the_same_writes_nothing(
    world: World,
) -> None:
    begin = now() - timedelta(minutes=1)
    world.set_zone(world.set_trace([400] * 12 + [10] * 30 + [400] * 60, begin))
    operator = world.start_operator()
    world.create("shrink", {**SOON, "expectedDuration": "10m"})
    first = world.wait("shrink", "Planned")
    writes = operator.metric("green_api_requests_total", verb="PATCH", resource="greentrainingjobs")
    # The same figures under another name: a refresh that changes no plan.
    world.set_zone(world.set_trace([400] * 12 + [10] * 30 + [400] * 60, begin, "same"))
    world.wait_condition("shrink", "IntensityAvailable", "True")
    world.set_zone(world.set_trace([400] * 24 + [10] * 30 + [400] * 48, begin, "later"))
    wait_for(
        lambda: world.status("shrink")["plannedStart"] != first["plannedStart"],
        what="the plan has moved",
    )
    moved = datetime.fromisoformat(world.status("shrink")["plannedStart"])
    assert moved - datetime.fromisoformat(first["plannedStart"]) == timedelta(hours=1)
    assert moved.tzinfo == UTC or moved.utcoffset() == timedelta(0)
    after = operator.metric("green_api_requests_total", verb="PATCH", resource="greentrainingjobs")
    assert after - writes <= 2
    world.wait_events("shrink", "Planned")
