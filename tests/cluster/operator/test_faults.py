"""The API server refuses, stalls, drops, forgets or is away: the life goes on to its right end."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.cluster.harness.client import GREEN_JOBS
from tests.cluster.harness.control_plane import ControlPlane
from tests.cluster.harness.operator import OperatorProcess
from tests.cluster.harness.proxy import Action, ApiProxy, Request
from tests.cluster.harness.script import UNTIL_TOLD
from tests.cluster.harness.waiting import wait_for
from tests.cluster.operator.life import Life
from tests.cluster.operator.world import World
from tests.conftest import SEED, WHOLE


@dataclass(frozen=True)
class Kind:
    """One way in which a request goes wrong."""

    action: Action
    status: int = 500
    retry_after: int | None = None

    def __str__(self) -> str:
        return f"{self.action.name}-{self.status}"


REFUSALS = (
    Kind(Action.ANSWER, 409),
    Kind(Action.ANSWER, 410),
    Kind(Action.ANSWER, 429, retry_after=1),
    Kind(Action.ANSWER, 500),
)
KINDS = (
    *REFUSALS,
    Kind(Action.ANSWER_AFTER, 500),
    Kind(Action.HANG),
    Kind(Action.HANG_AFTER),
    Kind(Action.DROP),
    Kind(Action.DROP_AFTER),
)
FEWEST_REQUESTS = 26
"""An undisturbed life has so many at least, from which the sample is taken; see ``is_counted``."""
MOST_REQUESTS = 38
"""And so many at most, which the whole matrix tries; a test holds both against one."""
SAMPLE = 5


def is_counted(request: Request) -> bool:
    return not request.is_watch and "/leases" not in request.path and "/namespaces/" in request.path


@pytest.fixture
def proxy(control_plane: ControlPlane) -> Iterator[ApiProxy]:
    made = ApiProxy(control_plane.server, control_plane.authority, counts=is_counted)
    made.start()
    yield made
    made.stop()


def cases() -> list[tuple[Kind, int]]:
    every = [(kind, number) for number in range(1, MOST_REQUESTS + 1) for kind in KINDS]
    reached = every[: FEWEST_REQUESTS * len(KINDS)]
    return every if WHOLE else random.Random(SEED + 1).sample(reached, SAMPLE)


def test_an_undisturbed_life_has_no_more_requests_than_the_matrix(
    world: World, proxy: ApiProxy
) -> None:
    world.add_node()
    life = Life(world, proxy)
    life.run()
    life.check()
    assert life.deaths == 0
    asked = [request.shape for request in proxy.counted]
    assert FEWEST_REQUESTS <= len(asked) <= MOST_REQUESTS, asked


@pytest.mark.matrix
@pytest.mark.parametrize(("kind", "number"), cases(), ids=lambda value: str(value))
def test_one_request_goes_wrong(world: World, proxy: ApiProxy, kind: Kind, number: int) -> None:
    world.add_node()
    fault = proxy.inject(
        kind.action,
        when=lambda request: request.number == number,
        status=kind.status,
        retry_after=kind.retry_after,
    )
    life = Life(world, proxy, timeout=90)
    life.run()
    life.check()
    if not fault.hits:
        pytest.skip(f"this life had {len(proxy.counted)} requests")


def is_of_the_cluster(request: Request) -> bool:
    """Asked of the whole cluster: zones, their statuses, nodes, what the server has."""
    return not request.is_watch and "/namespaces/" not in request.path


def is_of_the_lease(request: Request) -> bool:
    return "/leases" in request.path


def is_a_renewal(request: Request) -> bool:
    """Of the lease that it has made."""
    return is_of_the_lease(request) and request.method == "PUT"


WATCH_KINDS = (
    *REFUSALS,
    Kind(Action.HANG),
    Kind(Action.BROKEN_WATCH, 410),
    Kind(Action.BROKEN_WATCH, 500),
)
LEASE_KINDS = (*REFUSALS, Kind(Action.DROP))


def other_cases() -> list[object]:
    every: list[object] = [
        pytest.param(asked, kind, id=f"{name}-{kind}")
        for name, asked, kinds in (
            ("watch", lambda request: request.is_watch, WATCH_KINDS),
            ("cluster", is_of_the_cluster, KINDS),
            ("lease", is_of_the_lease, LEASE_KINDS),
            ("renewal", is_a_renewal, LEASE_KINDS),
        )
        for kind in kinds
    ]
    return every if WHOLE else random.Random(SEED + 2).sample(every, 3)


@pytest.mark.matrix
@pytest.mark.parametrize(("asked", "kind"), other_cases())
def test_watches_the_lease_and_what_is_asked_of_the_cluster_go_wrong(
    world: World, proxy: ApiProxy, asked: Callable[[Request], bool], kind: Kind
) -> None:
    """Three of them each time, from the start: where the process ends, it is started again."""
    world.add_node()
    fault = proxy.inject(
        kind.action, when=asked, times=3, status=kind.status, retry_after=kind.retry_after
    )
    life = Life(world, proxy, timeout=90)
    life.run()
    life.check()
    assert len(fault.hits) == 3


@pytest.mark.parametrize("action", [Action.SILENT_WATCH, Action.DROP])
def test_without_any_watch_the_sweep_sees_everything(
    world: World, proxy: ApiProxy, action: Action
) -> None:
    world.add_node()
    proxy.inject(action, when=lambda request: request.is_watch, times=-1)
    life = Life(world, proxy, timeout=90)
    life.run()
    life.check()


def test_who_has_not_reached_the_api_server_is_alive_and_not_ready(
    world: World, proxy: ApiProxy
) -> None:
    fault = proxy.inject(Action.DROP, when=lambda request: True, times=-1)
    operator = OperatorProcess(world.plane, world.namespace, world.folder, server=proxy.url).start()
    world.operators.append(operator)
    wait_for(lambda: operator.get("/livez") == "ok" and fault.hits, what="it tries")
    assert operator.get("/readyz") is None
    proxy.faults.clear()
    operator.wait_ready()


def test_watches_that_are_dropped_begin_anew(world: World, proxy: ApiProxy) -> None:
    world.add_node()
    life = Life(world, proxy)
    world.kubelet.scripts["early"] = UNTIL_TOLD
    world.create("early")
    world.wait("early", "Running")
    assert proxy.drop_watches() > 0
    life.run()
    life.check()


def test_what_is_deleted_while_no_watch_lives_is_swept(world: World, proxy: ApiProxy) -> None:
    world.add_node()
    world.kubelet.scripts["ghost"] = UNTIL_TOLD
    life = Life(world, proxy)
    world.create("ghost")
    world.wait("ghost", "Running")
    series = f'green_job_attempts{{name="ghost",namespace="{world.namespace}"}}'
    wait_for(lambda: series in (life.operator.get("/metrics") or ""), what="its series is there")
    proxy.inject(Action.SILENT_WATCH, when=lambda request: request.is_watch, times=-1)
    proxy.drop_watches()
    world.delete("ghost")
    wait_for(lambda: series not in (life.operator.get("/metrics") or series), what="it is swept")
    assert world.admin.find(GREEN_JOBS, "ghost", world.namespace) is None
    world.wait_collected("ghost")


def test_the_api_server_is_away_for_a_while(
    world: World, proxy: ApiProxy, control_plane: ControlPlane
) -> None:
    """Two minutes in the whole matrix; the operator ends with its lease and is started again."""
    world.add_node()
    world.kubelet.scripts["patient"] = UNTIL_TOLD
    life = Life(world, proxy, timeout=90)
    world.create("patient")
    world.wait("patient", "Running")
    with control_plane.without_apiserver():
        time.sleep(120 if WHOLE else 10)
    life.run()
    life.check()
    world.kubelet.finish("patient")
    world.wait("patient", "Succeeded")
    assert len(world.runs("patient")) == 1
