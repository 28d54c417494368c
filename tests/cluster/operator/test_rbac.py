"""What the operator may do is what it does: rules and audit log of the API server agree."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.harness.audit import service_account_user
from tests.cluster.harness.client import GREEN_JOBS, JOBS
from tests.cluster.harness.operator import ACCOUNT, rules
from tests.cluster.harness.script import UNTIL_TOLD, Script
from tests.cluster.harness.waiting import wait_for
from tests.cluster.operator.federation import Federation
from tests.cluster.operator.test_zones import KEY, hour, maps_answers
from tests.cluster.operator.world import World, static
from tests.sources.provider import HOUR, Provider, Reply, maps_series, serving


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serving() as made:
        yield made


def a_federation(world: World) -> Federation:
    """A run whose Service is there already, as an operator leaves it that was killed after it."""
    federation = Federation(world)
    federation.set_up()
    federation.create({"policy": "Immediately"})
    federation.make_service(is_ours=True)
    return federation


def test_granted_is_what_is_used(world: World, provider: Provider, other: str) -> None:
    """A tour of everything that needs a right, undisturbed; nothing more is granted.

    The jobs are in another namespace than the operator: what it needs at home only, such as the
    providers' keys, it may not have where the jobs are.
    """
    world.home = other
    since = world.plane.audit.position
    maps_answers(provider)
    secret = {"name": "electricity-maps", "namespace": world.home}
    world.admin.create(
        {"apiVersion": "v1", "kind": "Secret", "metadata": secret, "stringData": {"token": KEY}}
    )
    reference = {"name": "electricity-maps", "key": "token"}
    world.set_zone({"electricityMaps": {"zone": "DE", "secretKeyRef": reference}}, static())
    world.add_node()
    world.kubelet.scripts["brief"] = Script(seconds=0.5)
    world.kubelet.scripts["lost"] = UNTIL_TOLD
    urls = {"sourceUrls": {"electricityMaps": provider.url}}
    federation = a_federation(world)
    first = world.start_operator(config=urls)
    wait_for(lambda: world.history(world.zone), what="the history is stored")
    world.create("brief", {"policy": "Immediately"}, ttlSecondsAfterFinished=1)
    federation.wait_all_running()
    federation.finish()
    world.wait(federation.name, "Succeeded")
    world.create("lost", {"policy": "Immediately"})
    world.wait("lost", "Running")
    (run,) = world.runs("lost")
    world.admin.delete(JOBS, run["metadata"]["name"], world.namespace)
    wait_for(lambda: len(world.kubelet.truth("lost")) == 2, what="a second run")
    gone = lambda: world.admin.find(GREEN_JOBS, "brief", world.namespace) is None  # noqa: E731
    wait_for(gone, what="its time to live is over")
    first.stop()
    # Another process stores what is new to the history of the first.
    provider.script(
        "history",
        Reply(maps_series("history", hour() - 24 * HOUR, 24, lambda i: 300 + i)),
    )
    before = world.history(world.zone)
    world.start_operator("second", config=urls)
    wait_for(lambda: world.history(world.zone) != before, what="what is new is stored")

    user = service_account_user(world.home, ACCOUNT)
    places = {"ownNamespace": world.home, "watchedNamespaces": world.namespace, "cluster": ""}
    assert set(rules()) == set(places)
    for part, namespace in places.items():
        compared = world.plane.audit.compare(user, rules()[part], since, namespace)
        assert (part, compared.unused) == (part, frozenset())
        assert (part, compared.denied) == (part, frozenset())
    asked = [e for e in world.plane.audit.events(user, since) if e.resource]
    assert {e.namespace for e in asked} == set(places.values())
    assert [e for e in asked if e.forbidden] == []
