"""A real Prometheus over crashes and a failover: what it adds up is what the statuses say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count, pairwise
from pathlib import Path
from typing import Final

import pytest

from tests.cluster.harness.client import Object
from tests.cluster.harness.operator import SHORT, OperatorProcess
from tests.cluster.harness.script import UNTIL_TOLD
from tests.cluster.harness.waiting import wait_for
from tests.cluster.operator.world import World, joules_of, parts_of
from tests.monitoring.prometheus import Prometheus

SCRAPE_SECONDS: Final = 1.0
ENERGY: Final = "green_energy_joules_total"
EMISSIONS: Final = "green_emissions_grams_total"
Amounts = dict[str, float]
"""What is durable of a job, by the counter that adds it up."""


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


def wait_scraped(world: World, prometheus: Prometheus, replica: OperatorProcess) -> None:
    """Until Prometheus has what a replica counted."""
    time.sleep(SCRAPE_SECONDS)
    told = f"sum({series_of(world, ENERGY, replica)})"

    def is_scraped() -> bool:
        own = replica.metric(ENERGY, namespace=world.namespace)
        return [value for _, value in prometheus.ask(told)] == [pytest.approx(own)]

    wait_for(is_scraped, 30, "Prometheus has what the replica counted")


def series_of(world: World, counter: str, replica: OperatorProcess | None = None) -> str:
    instance = "" if replica is None else f', instance="127.0.0.1:{replica.port}"'
    return f'{counter}{{namespace="{world.namespace}"{instance}}}'


def durable(status: Object) -> Amounts:
    parts = parts_of(status["account"])
    grams = sum(part.get("nanograms", 0) for part in parts) / 1e9
    return {ENERGY: joules_of(status), EMISSIONS: grams}


class Writes:
    """Statuses that are written while a job works, and what was durable when."""

    def __init__(self, world: World, name: str) -> None:
        self._world, self._name = world, name
        self._hours = count(25)
        self._seen: list[tuple[float, Amounts]] = []

    def make(self, seconds: float) -> None:
        """Have them written for so long: whoever changes a job sees a status of the change."""
        end = time.monotonic() + seconds
        while time.monotonic() < end or self._is_standing():
            schedule = {"schedule": {"completeWithin": f"{next(self._hours)}h"}}
            generation = self._world.change(self._name, schedule)["metadata"]["generation"]
            wait_for(lambda g=generation: self._look()["observedGeneration"] >= g, 30, "a write")

    def since(self, scrape: float) -> Amounts:
        """What became durable after a scrape; what did just before may have missed it."""
        seen = [used for at, used in self._seen if at < scrape - 0.5]
        now = durable(self._world.status(self._name))
        return {counter: now[counter] - seen[-1][counter] for counter in now}

    def _look(self) -> Object:
        status = self._world.status(self._name)
        self._seen.append((time.time(), durable(status)))
        return status

    def _is_standing(self) -> bool:
        """The last write brought nothing: there is nothing yet that could be lost."""
        return len(self._seen) < 2 or self._seen[-1][1] == self._seen[-2][1]


def test_a_crash_amid_work_costs_prometheus_at_most_what_was_written_since_its_last_scrape(
    world: World, prometheus: Prometheus
) -> None:
    """Of energy and of emissions; the statuses have it, and no counter is ever ahead of them."""
    world.add_node()
    first, second = world.operators
    first.start().wait_ready()
    world.kubelet.scripts["grows"] = UNTIL_TOLD
    world.create("grows")
    world.wait("grows", "Running")
    writes, allowed = Writes(world, "grows"), {ENERGY: 0.0, EMISSIONS: 0.0}
    begun = time.monotonic()
    for standby in (None, second):
        if standby is not None:
            standby.start().wait_ready()
        told = series_of(world, ENERGY, first)
        writes.make(seconds=2 * SCRAPE_SECONDS)
        wait_for(lambda t=told: sum(v for _, v in prometheus.ask(t)), 30, "it is scraped")
        writes.make(seconds=2 * SCRAPE_SECONDS)
        first.kill()
        ((_, scrape),) = prometheus.ask(f"max(max_over_time(timestamp({told})[1m:100ms]))")
        for counter, amount in writes.since(scrape).items():
            allowed[counter] += amount
        (standby or first.start()).wait_ready()
        leader = standby or first
        wait_for(lambda o=leader: o.metric("green_leader") == 1, 40, "somebody leads")
    world.kubelet.finish("grows")
    expected = durable(world.wait("grows", "Succeeded"))
    wait_scraped(world, prometheus, second)
    over = f"[{int(time.monotonic() - begun) + 30}s]"
    for counter, amount in expected.items():
        series = prometheus.raw(f"{series_of(world, counter)}{over}")
        missing = amount - sum(grown(values) for _, values in series)
        # Counted in whole millijoules and nanograms.
        assert -1e-3 < missing <= allowed[counter] + 1e-3
        assert missing < amount / 2
        assert allowed[counter] > 0


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
    selector = series_of(world, ENERGY)
    for crash, name in enumerate(names):
        world.wait(name, "Running")
        world.kubelet.wait_running(name)
        world.kubelet.finish(name)
        world.wait(name, "Succeeded")
        if crash == len(names) - 1:
            break
        # What the last write made durable is scraped: only that interval may be lost.
        wait_scraped(world, prometheus, first)
        if crash == 3:
            second.start().wait_ready()
            first.kill()
            wait_for(lambda: second.metric("green_leader") == 1, 40, "the standby leads")
        else:
            first.kill()
            first.start().wait_ready()
    wait_scraped(world, prometheus, second)
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
