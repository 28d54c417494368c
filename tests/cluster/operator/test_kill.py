"""SIGKILL before and after every API write of a job's life, one by one.

The writes are recorded from an undisturbed life. After a restart there is exactly one run, every
joule is in the books once, and the job ends as it should. ``make test`` runs a sample.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.harness.control_plane import ControlPlane
from tests.cluster.harness.proxy import ApiProxy, Request
from tests.cluster.operator.life import Life, check, kill_cases
from tests.cluster.operator.world import World

MOST_WRITES = 26
"""Not fewer than an undisturbed life has; a test holds it against one."""
SAMPLE = 4


def is_of_a_life(request: Request) -> bool:
    """Every write but the lease's, which come by the clock."""
    return request.is_write and "/leases" not in request.path


@pytest.fixture
def proxy(control_plane: ControlPlane) -> Iterator[ApiProxy]:
    made = ApiProxy(control_plane.server, control_plane.authority, counts=is_of_a_life)
    made.start()
    yield made
    made.stop()


def test_an_undisturbed_life_has_no_more_writes_than_the_matrix(
    world: World, proxy: ApiProxy
) -> None:
    world.add_node()
    life = Life(world, proxy)
    life.run()
    check(world)
    assert life.deaths == 0
    assert 10 < len(proxy.counted) <= MOST_WRITES, [r.shape for r in proxy.counted]


@pytest.mark.matrix
@pytest.mark.parametrize(("number", "after"), kill_cases(MOST_WRITES, reached=12, sample=SAMPLE))
def test_killed_at_a_write(world: World, proxy: ApiProxy, number: int, after: bool) -> None:
    world.add_node()
    life = Life(world, proxy)
    fault = proxy.kill_at(number, lambda: life.operator.pid, after=after)
    life.run()
    check(world)
    if not fault.hits:
        pytest.skip(f"this life had {len(proxy.counted)} writes")
    assert life.deaths >= 1 or number == len(proxy.counted)
