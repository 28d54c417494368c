"""A real Prometheus over crashes and a failover: what it adds up is what the statuses say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.cluster.harness.operator import SHORT, OperatorProcess
from tests.cluster.harness.script import UNTIL_TOLD
from tests.cluster.harness.waiting import wait_for
from tests.cluster.operator.world import World, joules_of
from tests.monitoring.prometheus import Prometheus

SCRAPE_SECONDS = 1.0


@pytest.fixture
def prometheus(world: World, tmp_path: Path) -> Iterator[Prometheus]:
    """Scrapes the replicas of this test, which keep their ports over restarts."""
    config = {**SHORT, "watchNamespaces": [world.namespace]}
    world.operators += [
        OperatorProcess(world.plane, world.namespace, world.folder, config, name=name)
        for name in ("replica-a", "replica-b")
    ]
    targets = tuple(f"127.0.0.1:{replica.port}" for replica in world.operators)
    scraper = Prometheus(tmp_path, targets)
    scraper.start()
    yield scraper
    scraper.stop()


def grown(values: list[float]) -> float:
    """By how much a counter grew from its first sample on: ``increase`` without its stretching."""
    return sum(b - a if b >= a else b for a, b in pairwise(values))


def test_the_increase_over_three_restarts_and_a_failover_is_the_sum_of_the_statuses(
    world: World, prometheus: Prometheus
) -> None:
    """But for what a status write made durable within one scrape interval before each crash."""
    world.add_node()
    begun = time.monotonic()
    first, second = world.operators
    first.start().wait_ready()
    names = [f"job-{i}" for i in range(5)]
    for name in names:
        world.kubelet.scripts[name] = UNTIL_TOLD
        world.create(name)
    selector = f'green_energy_joules_total{{namespace="{world.namespace}"}}'

    def wait_scraped(replica: OperatorProcess) -> None:
        time.sleep(SCRAPE_SECONDS)
        told = f'sum({selector[:-1]}, instance="127.0.0.1:{replica.port}"}})'

        def is_scraped() -> bool:
            own = replica.metric("green_energy_joules_total", namespace=world.namespace)
            return [value for _, value in prometheus.ask(told)] == [pytest.approx(own)]

        wait_for(is_scraped, 30, "Prometheus has what the replica counted")

    for crash, name in enumerate(names):
        world.wait(name, "Running")
        world.kubelet.wait_running(name)
        world.kubelet.finish(name)
        world.wait(name, "Succeeded")
        if crash == len(names) - 1:
            break
        # What the last write made durable is scraped: only that interval may be lost.
        wait_scraped(first)
        if crash == 3:
            second.start().wait_ready()
            first.kill()
            wait_for(lambda: second.metric("green_leader") == 1, 40, "the standby leads")
        else:
            first.kill()
            first.start().wait_ready()
    wait_scraped(second)
    statuses = [world.status(name) for name in names]
    expected = sum(joules_of(status) for status in statuses)
    over = f"{int(time.monotonic() - begun) + 5}s"
    series = prometheus.raw(f"{selector}[{over}]")
    assert {labels["instance"].rpartition(":")[2] for labels, _ in series} == {
        str(first.port), str(second.port),
    }  # fmt: skip
    assert sum(grown(values) for _, values in series) == pytest.approx(expected, rel=0.005)
    ((_, increase),) = prometheus.ask(f"sum(increase({selector}[{over}]))")
    # Prometheus stretches each increase to the ends of the time.
    assert increase == pytest.approx(expected, rel=0.1)
