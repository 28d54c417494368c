"""Federated jobs in a cluster: a server and its sites are one run, whatever happens to either."""

from __future__ import annotations

import re
import subprocess
import textwrap
from collections.abc import Iterator
from datetime import datetime, timedelta
from signal import Signals

import pytest

from tests.cluster.harness.client import SECRETS, SERVICES
from tests.cluster.harness.control_plane import ControlPlane
from tests.cluster.harness.programs import ROOT
from tests.cluster.harness.proxy import Action, ApiProxy, Request
from tests.cluster.harness.script import Script
from tests.cluster.harness.waiting import wait_for
from tests.cluster.operator.federation import ROLES, SITES, FederatedLife, Federation
from tests.cluster.operator.life import kill_cases
from tests.cluster.operator.test_cli import Green
from tests.cluster.operator.test_kill import is_of_a_life
from tests.cluster.operator.world import SOON, World, now
from tests.conftest import WHOLE

MOST_WRITES = 80
"""Not fewer than an undisturbed life has, on a busy machine too; a test holds it against one."""
SAMPLE = 3
NOW = {"policy": "Immediately", "interruptible": True}


@pytest.fixture
def proxy(control_plane: ControlPlane) -> Iterator[ApiProxy]:
    made = ApiProxy(control_plane.server, control_plane.authority, counts=is_of_a_life)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def ward(world: World) -> Federation:
    made = Federation(world)
    made.set_up()
    return made


def test_a_federated_job_waits_for_clean_power_is_suspended_resumed_and_succeeds(
    world: World, ward: Federation
) -> None:
    # The server's first word is written; later figures alone only every five minutes.
    ward.rounds = 1
    world.start_operator()
    # Far enough that a busy machine has planned it by then.
    soon = now() + timedelta(seconds=30)
    world.set_zone(world.set_trace([400, 400, 100, 400, 400], soon - timedelta(minutes=10)))
    ward.create({**SOON, "expectedDuration": "4m", "completeWithin": "34m"})
    status = world.wait("ward", "Planned")
    assert abs(datetime.fromisoformat(status["plannedStart"]) - soon) < timedelta(seconds=1)
    wait_for(lambda: len(ward.jobs()) == 3, what="a Job for each role")
    assert all(job["spec"]["suspend"] for job in ward.jobs().values())
    assert world.pods("ward") == []
    ward.check_set()

    world.wait("ward", "Running")
    ward.wait_all_running()
    wait_for(lambda: ward.role("server").get("rounds") == 1, what="the server's word is heard")
    assert ward.role("north")["bytes"] == 1000
    world.set_zone(
        world.set_trace([400, 400, 50, 400, 400], now() - timedelta(minutes=9, seconds=30), "later")
    )
    world.wait_condition("ward", "Suspended", "True", "Plan")
    wait_for(lambda: not world.pods("ward"), what="the pods are gone")
    ward.wait_role("north", "Waiting")
    world.wait("ward", "Running")
    wait_for(lambda: all(ward.attempts(r) == 2 for r in ROLES), what="each has a second attempt")
    ward.wait_all_running()
    ward.finish("server")
    ward.wait_role("server", "Ended")
    assert world.status("ward")["state"] == "Running"
    ward.finish(*SITES)

    status = world.wait("ward", "Succeeded")
    ward.check_energy()
    assert len(ward.jobs()) == 3
    assert {row["name"]: row["zone"] for row in status["roles"]} == {
        "server": world.zone, "north": ward.zone_of_north, "south": world.zone,
    }  # fmt: skip
    grams = {row["name"]: row["micrograms"] / row["joules"] for row in status["roles"]}
    assert grams["north"] < grams["south"]
    assert status["result"]["rounds"]["rounds"] == 2
    world.wait_events("ward", "Planned", "Started", "Suspended", "Resumed", "Succeeded")
    assert world.condition("ward", "Stalled") == {}
    page = Green(world).text("explain", "ward")
    assert "Role State Rounds" in page
    assert all(f"{role} Ended" in page for role in ROLES)
    assert "Actual" in page
    assert "Counterfactual" in page


def test_a_site_that_is_lost_does_not_fail_the_run(world: World, ward: Federation) -> None:
    world.kubelet.scripts["ward/north"] = Script(codes=(65,), fails_after=0.5)
    world.start_operator()
    ward.create(NOW)
    ward.wait_role("north", "Failed")
    ward.wait_all_running("server", "south")
    assert "north failed" in world.wait("ward", "Running")["message"]
    ward.finish("server", "south")
    world.wait("ward", "Succeeded")
    assert ward.role("north")["state"] == "Failed"
    ward.check_energy()


def test_the_servers_failure_ends_the_sites(world: World, ward: Federation) -> None:
    world.start_operator()
    ward.create(NOW)
    ward.wait_all_running()
    world.kubelet.finish("ward/server", 65)
    world.wait("ward", "Failed")
    wait_for(lambda: not [p for p in world.pods("ward") if "north" in p["metadata"]["name"]],
             what="the sites' pods are gone")  # fmt: skip
    assert all(ward.jobs()[site]["spec"]["suspend"] for site in SITES)
    assert world.condition("ward", "Failed")["reason"] == "InvalidTask"
    ward.check_energy()


@pytest.mark.skipif(not WHOLE, reason="waits a minute; GREEN_MATRIX=all runs it")
def test_a_site_that_does_not_hear_the_end_is_told_to_go(world: World, ward: Federation) -> None:
    world.start_operator()
    ward.create(NOW)
    ward.wait_all_running()
    ward.finish("server", "south")
    world.wait("ward", "Succeeded", timeout=120)
    assert ward.jobs()["north"]["spec"]["suspend"] is True
    ward.check_energy()


def test_it_is_stalled_as_its_server_says(world: World, ward: Federation) -> None:
    world.start_operator()
    ward.create(NOW)
    ward.wait_all_running()
    ward.stalled = "north is missing, 2 are needed"
    condition = world.wait_condition("ward", "Stalled", "True", "SitesMissing")
    assert "north is missing" in condition["message"]
    page = Green(world).text("explain", "ward")
    assert "SitesMissing: North is missing" in page
    assert "To mend it: see why the sites that are named do not work" in page
    ward.stalled = ""
    world.wait_condition("ward", "Stalled", "False", "EnoughSites")
    ward.finish()
    world.wait("ward", "Succeeded")
    world.wait_event("ward", "Stalled")


def test_without_an_operator_a_run_is_started_as_the_guide_says(
    world: World, ward: Federation
) -> None:
    begin = now() - timedelta(minutes=1)
    world.set_zone(world.set_trace([400] * 24 + [100] * 24 + [400] * 12, begin))
    operator = world.start_operator()
    ward.create()
    wait_for(lambda: len(ward.jobs()) == 3, what="a Job for each role")
    world.wait("ward", "Planned")
    operator.stop()
    guide = (ROOT / "docs" / "guide.md").read_text()
    (block,) = re.findall(r"\n((?:    .*\n)*    run=.*\n(?:    .*\n)+)", guide)
    block = block.replace("NAME", "ward").replace("team-a", world.namespace)
    subprocess.run(
        ["bash", "-euc", textwrap.dedent(block)], check=True, env=world.plane.environment
    )
    assert not any(job["spec"]["suspend"] for job in ward.jobs().values())
    ward.wait_all_running()


@pytest.mark.parametrize("role", ["server", "north"])
def test_a_role_whose_job_was_deleted_by_hand_is_made_again(
    world: World, ward: Federation, role: str
) -> None:
    world.start_operator()
    ward.create(NOW)
    ward.wait_all_running()
    wait_for(lambda: world.status("ward")["run"]["attempts"] == 3, what="all are counted")
    ward.delete_job(role)
    wait_for(lambda: ward.attempts(role) == 2, what="a second attempt")
    ward.wait_all_running()
    ward.finish()
    status = world.wait("ward", "Succeeded")
    assert status["run"]["number"] == 1
    ward.check_set()
    assert len(ward.secrets()) == 3
    truths = world.kubelet.truth(f"ward/{role}")
    assert truths[0].ended is not None
    assert truths[0].ended <= truths[1].started


def test_a_run_that_was_deleted_by_hand_is_followed_by_another_with_other_keys(
    world: World, ward: Federation
) -> None:
    operator = world.start_operator()
    ward.create(NOW)
    ward.wait_all_running()
    wait_for(lambda: world.status("ward")["run"]["attempts"] == 3, what="all are counted")
    # At one stroke: else what is left of the run is made whole again.
    operator.signal(Signals.SIGSTOP)
    for role in ROLES:
        ward.delete_job(role)
    operator.signal(Signals.SIGCONT)
    wait_for(lambda: all(ward.attempts(r) == 2 for r in ROLES), what="each has a second attempt")
    ward.wait_all_running()
    ward.finish()
    assert world.wait("ward", "Succeeded")["run"]["number"] == 2
    ward.check_set()
    assert len(ward.secrets()) == 6


def test_everything_goes_with_the_job(world: World, ward: Federation) -> None:
    world.start_operator()
    ward.create(NOW)
    ward.wait_all_running()
    world.delete("ward")
    world.wait_collected("ward")
    wait_for(lambda: not ward.secrets() and not ward.services(), 90, "Secrets and Service are gone")


def test_jobs_beside_each_other_share_no_name_and_no_secret(world: World, ward: Federation) -> None:
    other = Federation(world, "ward-2")
    other.set_up()
    world.start_operator()
    ward.create(NOW)
    other.create(NOW)
    ward.wait_all_running()
    other.wait_all_running()
    (mine,), (theirs,) = ward.services(), other.services()
    assert mine["metadata"]["name"] != theirs["metadata"]["name"]
    for service, owner in ((mine, "ward"), (theirs, "ward-2")):
        selector = service["spec"]["selector"]
        chosen = [
            pod
            for pod in (*world.pods("ward"), *world.pods("ward-2"))
            if selector.items() <= pod["metadata"]["labels"].items()
        ]
        assert [p["metadata"]["labels"]["greentraining.io/job"] for p in chosen] == [owner]
    data = [secret["data"] for secret in (*ward.secrets(), *other.secrets())]
    assert len({d["ca.pem"] for d in data}) == 2
    assert len({d["secret"] for d in data}) == 6
    for federation in (ward, other):
        federation.finish()
        world.wait(federation.name, "Succeeded")


def test_a_service_of_somebody_else_is_left_alone(world: World, ward: Federation) -> None:
    ward.create(NOW)
    name = ward.make_service(is_ours=False)["metadata"]["name"]
    world.start_operator()
    condition = world.wait_condition("ward", "Running", "False", "RunRefused")
    assert f"the Service {name} exists and is not this job's" in condition["message"]
    assert ward.jobs() == {}
    world.admin.delete(SERVICES, name, world.namespace)
    ward.wait_all_running()
    # However often it was tried: one set.
    assert len(world.admin.list(SECRETS, world.namespace, labels="greentraining.io/job")) == 3
    ward.finish()
    world.wait("ward", "Succeeded")


def test_a_sites_missing_claim_is_named(world: World) -> None:
    ward = Federation(world)
    ward.set_up(claims=["north"])
    world.start_operator()
    ward.create(SOON, suspend=True)
    condition = world.wait_condition("ward", "ClaimBound", "False", "ClaimNotFound")
    assert "spec.task.federate.sites[1].claimName: ward-south" in condition["message"]


def test_an_undisturbed_life_has_no_more_writes_than_the_matrix(
    world: World, proxy: ApiProxy
) -> None:
    life = FederatedLife(world, proxy)
    life.run()
    life.check()
    assert life.deaths == 0
    assert len(life.federation.secrets()) == 3
    assert 20 < len(proxy.counted) <= MOST_WRITES, [r.shape for r in proxy.counted]


def test_a_secret_that_is_refused_is_made_again_and_its_content_is_told_nowhere(
    world: World, proxy: ApiProxy
) -> None:
    def makes_a_secret(request: Request) -> bool:
        return request.method == "POST" and request.path.endswith("/secrets")

    fault = proxy.inject(Action.ANSWER, when=makes_a_secret, status=500)
    life = FederatedLife(world, proxy)
    life.run()
    assert fault.hits
    life.federation.check_secrets()


@pytest.mark.matrix
@pytest.mark.parametrize(("number", "after"), kill_cases(MOST_WRITES, reached=25, sample=SAMPLE))
def test_killed_at_a_write(world: World, proxy: ApiProxy, number: int, after: bool) -> None:
    life = FederatedLife(world, proxy)
    fault = proxy.kill_at(number, lambda: life.operator.pid, after=after)
    life.run()
    life.check()
    if not fault.hits:
        pytest.skip(f"this life had {len(proxy.counted)} writes")
    assert life.deaths >= 1 or number == len(proxy.counted)
