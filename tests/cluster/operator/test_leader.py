"""Two replicas: one acts, the other is ready, and none writes beside the other."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest

from tests.cluster.harness.client import LEASES
from tests.cluster.harness.control_plane import ControlPlane
from tests.cluster.harness.operator import OperatorProcess
from tests.cluster.harness.proxy import Action, ApiProxy
from tests.cluster.harness.script import UNTIL_TOLD
from tests.cluster.harness.waiting import wait_for
from tests.cluster.operator.world import SOON, World, now

LOST_LEASE = 3
LEASE = "green-training-operator"
RENEW_DEADLINE = timedelta(seconds=6)


@pytest.fixture
def make_proxy(control_plane: ControlPlane) -> Iterator[Callable[[], ApiProxy]]:
    made: list[ApiProxy] = []

    def make() -> ApiProxy:
        proxy = ApiProxy(control_plane.server, control_plane.authority)
        made.append(proxy)
        proxy.start()
        return proxy

    yield make
    for proxy in made:
        proxy.stop()


def sleep_until(moment: datetime) -> None:
    time.sleep(max((moment - now()).total_seconds(), 0))


def leads(operator: OperatorProcess) -> bool:
    return operator.metric("green_leader") == 1


def holder(world: World) -> str:
    lease = world.admin.find(LEASES, LEASE, world.namespace)
    return str(lease["spec"].get("holderIdentity", "")) if lease else ""


def two(
    world: World, make_proxy: Callable[[], ApiProxy]
) -> tuple[tuple[OperatorProcess, ApiProxy], tuple[OperatorProcess, ApiProxy]]:
    """A leader and a standby, each with its own proxy."""
    pairs = []
    for name in ("first", "second"):
        proxy = make_proxy()
        operator = world.start_operator(name, server=proxy.url)
        pairs.append((operator, proxy))
        wait_for(lambda: holder(world).startswith("first"), what="the first one leads")
    return pairs[0], pairs[1]


def test_a_standby_takes_over_within_15_seconds_of_a_kill(
    world: World, make_proxy: Callable[[], ApiProxy]
) -> None:
    world.add_node()
    (leader, _), (standby, _) = two(world, make_proxy)
    assert not leads(standby)
    assert standby.get("/readyz") is not None
    leader.kill()
    killed = now()
    world.create("after")
    world.wait("after", "Succeeded")
    assert holder(world).startswith("second")
    lease = world.admin.get(LEASES, LEASE, world.namespace)["spec"]
    assert lease["leaseTransitions"] == 1
    taken = datetime.fromisoformat(lease["acquireTime"])
    assert timedelta(0) < taken - killed < timedelta(seconds=15)
    about = [e for e in world.plane.audit.events() if e.resource == "greentrainingjobs/status"]
    first = min(e.time for e in about if e.namespace == world.namespace and e.name == "after")
    assert first - killed < timedelta(seconds=15)


def test_an_orderly_end_hands_over_at_once(
    world: World, make_proxy: Callable[[], ApiProxy]
) -> None:
    (leader, _), (standby, _) = two(world, make_proxy)
    assert leader.stop() == 0
    wait_for(lambda: leads(standby), 5, "the standby leads")


def test_a_leader_that_was_stopped_and_continued_writes_nothing(
    world: World, make_proxy: Callable[[], ApiProxy]
) -> None:
    world.add_node()
    (leader, proxy), (standby, _) = two(world, make_proxy)
    # More jobs than workers: those that wait for an answer, and those whose turn has not come.
    held = proxy.inject(Action.HANG, when=lambda request: request.number > 0, times=-1)
    for number in range(20):
        world.create(f"job-{number}", suspend=True)
    wait_for(lambda: held.hits, what="it is about to write")
    leader.signal(signal.SIGSTOP)
    wait_for(lambda: leads(standby), 20, "the standby leads")
    proxy.faults.clear()
    # Nothing tells it that the lease is another's: only its own clock does.
    proxy.inject(Action.HANG, when=lambda request: "/leases" in request.path, times=-1)
    # Its workers are free to go on with the next write.
    assert proxy.drop_hanging() > 0
    before = len(proxy.writes)
    leader.signal(signal.SIGCONT)
    wait_for(lambda: leader.exit_code is not None, what="the old leader ends")
    assert leader.exit_code == LOST_LEASE
    assert [r.shape for r in proxy.writes[before:] if "/leases/" not in r.path] == []
    assert holder(world).startswith("second")


def test_a_leader_whose_api_server_hangs_ends_and_writes_nothing(
    world: World, make_proxy: Callable[[], ApiProxy]
) -> None:
    world.add_node()
    (leader, proxy), (standby, _) = two(world, make_proxy)
    began = time.monotonic()
    fault = proxy.inject(Action.HANG, when=lambda request: True, times=-1)
    world.create("meanwhile")
    wait_for(lambda: leader.exit_code is not None, what="the cut-off leader ends")
    assert leader.exit_code == LOST_LEASE
    assert time.monotonic() - began < RENEW_DEADLINE.total_seconds() + 4
    assert fault.hits
    world.wait("meanwhile", "Succeeded")
    assert leads(standby)
    assert len(world.runs("meanwhile")) == 1


def test_a_refused_connection_ends_the_leader_at_its_deadline_and_the_standby_never(
    world: World, make_proxy: Callable[[], ApiProxy], control_plane: ControlPlane
) -> None:
    world.add_node()
    (leader, _), (standby, _) = two(world, make_proxy)
    lease = world.admin.get(LEASES, LEASE, world.namespace)["spec"]
    renewed = datetime.fromisoformat(lease["renewTime"])
    control_plane.stop_apiserver()
    away = now()
    sleep_until(renewed + RENEW_DEADLINE - timedelta(seconds=1))
    # It may write no more soon, and may still hope.
    assert leader.exit_code is None
    wait_for(lambda: leader.exit_code is not None, 10, "the leader ends")
    assert leader.exit_code == LOST_LEASE
    assert now() - renewed > RENEW_DEADLINE
    assert now() - away < RENEW_DEADLINE + timedelta(seconds=4)
    # The standby lives on, and does not say that it could take over.
    wait_for(lambda: standby.get("/readyz") is None, 30, "the standby is not ready")
    assert now() - away > 2 * RENEW_DEADLINE
    assert standby.get("/livez") == "ok"
    assert standby.exit_code is None
    control_plane.start_apiserver()
    wait_for(lambda: leads(standby), what="the standby leads")
    wait_for(lambda: standby.get("/readyz") is not None, what="it is ready")
    world.create("after", suspend=True)
    world.wait("after", "Planned")


WORK = timedelta(minutes=30)


def set_ever_cleaner(world: World) -> None:
    """It gets cleaner for hours: the latest start is the best one."""
    world.set_zone(world.set_trace([500 - 5 * i for i in range(60)], now() - timedelta(minutes=1)))


def plan_late(world: World, ahead: timedelta, margin: timedelta) -> datetime:
    """A job whose latest start is so far ahead; when that is."""
    world.add_node()
    world.kubelet.scripts["late"] = UNTIL_TOLD
    seconds = round((ahead + WORK + margin).total_seconds())
    schedule = {**SOON, "expectedDuration": "30m", "completeWithin": f"{seconds}s"}
    world.create("late", {**schedule, "interruptible": False})
    status = world.wait("late", "Planned")
    latest = datetime.fromisoformat(status["plan"]["latestStart"])
    assert ahead - timedelta(seconds=16) < latest - now() <= ahead
    return latest


def test_a_deadline_is_met_though_the_leader_dies_a_minute_before_the_latest_start(
    world: World, make_proxy: Callable[[], ApiProxy]
) -> None:
    set_ever_cleaner(world)
    (leader, _), (standby, _) = two(world, make_proxy)
    latest = plan_late(world, timedelta(seconds=66), margin=timedelta(minutes=15))
    leader.kill()
    status = world.wait("late", "Running", timeout=90)
    started = datetime.fromisoformat(status["startTime"])
    assert started - latest < timedelta(seconds=10)
    assert started + WORK < datetime.fromisoformat(status["deadline"])
    assert leads(standby)


def test_a_deadline_is_met_though_no_operator_is_there_at_the_latest_start(world: World) -> None:
    set_ever_cleaner(world)
    config = {"outageMargin": "40s"}
    operator = world.start_operator(config=config)
    latest = plan_late(world, timedelta(seconds=20), margin=timedelta(seconds=40))
    sleep_until(latest - timedelta(seconds=4))
    operator.kill()
    sleep_until(latest + timedelta(seconds=15))
    assert world.status("late")["state"] == "Planned"
    world.start_operator("later", config=config)
    status = world.wait("late", "Running", timeout=30)
    started, deadline = (datetime.fromisoformat(status[k]) for k in ("startTime", "deadline"))
    # What the margin is for: it starts late, and is done in time.
    assert latest < started < deadline - WORK
