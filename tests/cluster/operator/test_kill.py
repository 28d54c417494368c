"""SIGKILL before and after every API write of a job's life, one by one.

The writes are recorded from an undisturbed life. After a restart there is exactly one run, every
joule is in the books once, and the job ends as it should. ``make test`` runs a sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.cluster.harness.control_plane import ControlPlane
from tests.cluster.harness.proxy import ApiProxy, Request
from tests.cluster.operator.life import Life, ShortLife, kill_cases
from tests.cluster.operator.world import World


@dataclass(frozen=True)
class Kind:
    """A kind of life."""

    life: type[Life]
    end: str
    """The event that tells of its end."""
    fewest: int
    """An undisturbed life has so many writes at least, from which the sample is taken."""
    most: int
    """And so many at most, which the whole matrix tries; a test holds both against one."""


LONG = Kind(Life, "Succeeded", fewest=16, most=26)
SHORT = Kind(ShortLife, "Failed", fewest=9, most=20)
CASES = [
    pytest.param(
        kind, number, after, id=f"{kind.life.__name__}-{number}-{'after' if after else 'before'}"
    )
    for kind, sample in ((LONG, 3), (SHORT, 1))
    for number, after in kill_cases(kind.most, reached=kind.fewest, sample=sample)
]


def is_of_a_life(request: Request) -> bool:
    """Every write but the lease's, which come by the clock."""
    return request.is_write and "/leases" not in request.path


@pytest.fixture
def proxy(control_plane: ControlPlane) -> Iterator[ApiProxy]:
    made = ApiProxy(control_plane.server, control_plane.authority, counts=is_of_a_life)
    made.start()
    yield made
    made.stop()


@pytest.mark.parametrize("kind", [LONG, SHORT], ids=lambda kind: kind.life.__name__)
def test_an_undisturbed_life_has_no_more_writes_than_the_matrix(
    world: World, proxy: ApiProxy, kind: Kind
) -> None:
    world.add_node()
    life = kind.life(world, proxy)
    life.run()
    life.check()
    # Who dies between a status and its event tells it to nobody: rather none than twice.
    assert kind.end in world.events(life.name)
    assert life.deaths == 0
    assert kind.fewest <= len(proxy.counted) <= kind.most, [r.shape for r in proxy.counted]


@pytest.mark.matrix
@pytest.mark.parametrize(("kind", "number", "after"), CASES)
def test_killed_at_a_write(
    world: World, proxy: ApiProxy, kind: Kind, number: int, after: bool
) -> None:
    world.add_node()
    life = kind.life(world, proxy)
    fault = proxy.kill_at(number, lambda: life.operator.pid, after=after)
    life.run()
    life.check()
    if not fault.hits:
        pytest.skip(f"this life had {len(proxy.counted)} writes")
    assert life.deaths >= 1 or number == len(proxy.counted)
