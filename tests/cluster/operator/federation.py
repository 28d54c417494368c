"""A federated job of a server and two sites in a world, each site with its claim, node and zone."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from math import inf
from typing import Any

import pytest
from green_api.contract import Result, RoundsProgress, SiteProgress

from tests.cluster.harness.client import (
    CORE_EVENTS,
    EVENTS,
    GREEN_JOBS,
    JOBS,
    PODS,
    SECRETS,
    SERVICES,
    Object,
)
from tests.cluster.harness.proxy import ApiProxy
from tests.cluster.harness.script import UNTIL_TOLD, Script, steady
from tests.cluster.harness.waiting import wait_for
from tests.cluster.operator.life import ONCE, Life
from tests.cluster.operator.world import SOON, World, joules_in, static

SITES = ("north", "south")
ROLES = ("server", *SITES)


class Federation:
    """What a test does with one federated job, and what it sees of it."""

    def __init__(self, world: World, name: str = "ward") -> None:
        self.world = world
        self.name = name
        self.stalled = ""
        """What the server says of missing sites."""
        self.rounds = 0
        """How many the server says that it has made."""

    def set_up(self, claims: Sequence[str] = SITES) -> None:
        """Nodes of two zones, claims of these sites, and pods that work until they are told."""
        world = self.world
        world.set_zone(static(50), name=self.zone_of_north)
        world.add_node()
        world.add_node(self.zone_of_north)
        for site in claims:
            world.add_claim(f"{self.name}-{site}")
        server = Script(
            seconds=inf, rounds=self._told, hardware=steady(gpu=0, cpu=4),
            result=Result(rounds=RoundsProgress(rounds=2, sites=self._sites(2))),
        )  # fmt: skip
        world.kubelet.scripts[f"{self.name}/server"] = server
        for site in SITES:
            world.kubelet.scripts[f"{self.name}/{site}"] = UNTIL_TOLD

    @property
    def zone_of_north(self) -> str:
        """South is in the job's own zone."""
        return f"{self.world.zone}-{self.name}"

    def create(self, schedule: Mapping[str, Any] = SOON, **spec: Any) -> Object:
        sites = [{"name": site, "claimName": f"{self.name}-{site}"} for site in SITES]
        sites[0]["zone"] = self.zone_of_north
        task = {
            "model": {"builtin": "digits-cnn"},
            "data": {"builtin": "digits"},
            "rounds": 2,
            "minSites": 1,
            "sites": sites,
        }
        resources = {"gpus": 1, "cpu": 1, "memory": "1Gi"}
        return self.world.create(
            self.name, schedule, task={"federate": task}, resources=resources, **spec
        )

    def resume(self) -> None:
        self.world.change(self.name, {"suspend": False})

    def finish(self, *roles: str) -> None:
        """The server has made its rounds; the sites hear of it."""
        for role in roles or ROLES:
            self.world.kubelet.finish(f"{self.name}/{role}")

    def make_service(self, *, is_ours: bool) -> Object:
        """The Service of the first run; one that is not ours is nobody's."""
        meta = self.world.job(self.name)["metadata"]
        owner = {
            "apiVersion": "greentraining.io/v1alpha1", "kind": "GreenTrainingJob",
            "name": self.name, "uid": meta["uid"], "controller": True,
        }  # fmt: skip
        return self.world.admin.create(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {
                    "name": f"{self.name}-{meta['uid'][:5]}-1",
                    "namespace": self.world.namespace,
                    "ownerReferences": [owner] if is_ours else [],
                },
                "spec": {"clusterIP": "None", "ports": [{"port": 9092}]},
            }
        )

    def jobs(self) -> dict[str, Object]:
        """The Jobs by role."""
        found = self.world.runs(self.name)
        return {j["metadata"]["labels"]["greentraining.io/role"]: j for j in found}

    def delete_job(self, role: str) -> None:
        self.world.admin.delete(JOBS, self.jobs()[role]["metadata"]["name"], self.world.namespace)

    def secrets(self) -> list[Object]:
        labels = f"greentraining.io/job={self.name}"
        return self.world.admin.list(SECRETS, self.world.namespace, labels=labels)

    def services(self) -> list[Object]:
        labels = f"greentraining.io/job={self.name}"
        return self.world.admin.list(SERVICES, self.world.namespace, labels=labels)

    def attempts(self, role: str) -> int:
        return len(self.world.kubelet.truth(f"{self.name}/{role}"))

    def running(self, *roles: str) -> bool:
        running = self.world.kubelet.running
        return all(running(f"{self.name}/{role}") for role in roles or ROLES)

    def wait_all_running(self, *roles: str) -> None:
        wait_for(
            lambda: self.running(*roles), what=f"{roles or ROLES} run",
            seen=lambda: (self.world.status(self.name), [o.tail(15) for o in self.world.operators]),
        )  # fmt: skip

    def wait_role(self, role: str, state: str) -> Object:
        wait_for(
            lambda: self.role(role).get("state") == state, what=f"{role} is {state}",
            seen=lambda: self.world.status(self.name),
        )  # fmt: skip
        return self.role(role)

    def role(self, role: str) -> Object:
        """A role's row in the status."""
        rows = self.world.status(self.name).get("roles") or ()
        return next((row for row in rows if row["name"] == role), {})

    def check_energy(self) -> None:
        """Each role's joules are in its books, to the millijoule, and add up."""
        status = self.world.status(self.name)
        accounts = {account["role"]: account for account in status["accounts"]}
        for role in ROLES:
            truth = self.world.kubelet.joules(f"{self.name}/{role}")
            assert joules_in(accounts[role]) == pytest.approx(truth, abs=0.005), role
            assert self.role(role)["joules"] == pytest.approx(truth, abs=1)
        whole = sum(joules_in(account) for account in accounts.values())
        assert status["energy"]["joules"] == pytest.approx(whole, abs=2)

    def check_set(self) -> None:
        """All roles use one whole set of Secrets."""
        tokens = {
            job["metadata"]["annotations"]["greentraining.io/credentials"]
            for job in self.jobs().values()
        }
        (token,) = tokens
        names = {secret["metadata"]["name"] for secret in self.secrets()}
        for role, job in self.jobs().items():
            assert f"{job['metadata']['name']}-{token}" in names, role

    def check_secrets(self) -> None:
        """No key, and not the secret, is anywhere but in the Secrets."""
        kept = {
            f"{secret['metadata']['name']}: {file}": value
            for secret in self.secrets()
            for file, value in secret["data"].items()
            if file.endswith(".key") or file == "secret"
        }
        # A key and the secret of each.
        assert len(kept) >= 2 * len(ROLES)
        world = self.world
        seen = "\n".join(operator.log.read_text(errors="replace") for operator in world.operators)
        kinds = (GREEN_JOBS, JOBS, PODS, EVENTS, CORE_EVENTS, SERVICES)
        objects = [o for kind in kinds for o in world.admin.list(kind, world.namespace)]
        assert len(objects) > len(ROLES)
        seen += json.dumps(objects)
        for name, encoded in kept.items():
            assert not [form for form in _forms(encoded) if form in seen], name

    def _told(self) -> RoundsProgress:
        return RoundsProgress(
            rounds=self.rounds, stalled=self.stalled, sites=self._sites(self.rounds)
        )

    @staticmethod
    def _sites(rounds: int) -> list[SiteProgress]:
        return [SiteProgress(name=site, rounds=rounds, bytes=1000 * rounds) for site in SITES]


def _forms(encoded: str) -> list[str]:
    """How a Secret's value may look where it is told by mistake."""
    content = base64.b64decode(encoded)
    is_key = content.startswith(b"-----BEGIN ")
    # Of a key one line is enough, however the breaks are written.
    lines = [line.decode() for line in content.splitlines()[1:-1]] if is_key else []
    return [encoded, content.hex(), repr(content)[2:-1], *lines]


class FederatedLife(Life):
    """A federated job from its creation to its success, with a suspension."""

    name = "ward"

    def __init__(self, world: World, proxy: ApiProxy, timeout: float = 60) -> None:
        self.federation = Federation(world, self.name)
        self.federation.set_up()
        super().__init__(world, proxy, timeout)

    def run(self) -> None:
        federation, world = self.federation, self.world
        federation.create(ttlSecondsAfterFinished=100_000)
        self.until("Running")
        self.wait(federation.running, "all roles run")
        world.change(self.name, {"suspend": True})
        self.until("Suspended")
        self.wait(lambda: not world.pods(self.name), "the pods are gone")
        federation.resume()
        self.until("Running")
        self.wait(federation.running, "all roles run again")
        federation.finish("server")
        self.wait(lambda: not federation.running("server"), "the server has ended")
        federation.finish(*SITES)
        self.until("Succeeded")

    def check(self) -> None:
        """What has to hold whatever was killed."""
        world, federation = self.world, self.federation
        status = world.status(self.name)
        assert set(federation.jobs()) == set(ROLES)
        assert len(federation.services()) == 1
        assert all(j["status"].get("succeeded") == 1 for j in federation.jobs().values())
        federation.check_set()
        begun = []
        for role in ROLES:
            truths = world.kubelet.truth(f"{self.name}/{role}")
            assert len(truths) == 2, role
            for earlier, later in pairwise(truths):
                assert earlier.ended is not None
                assert earlier.ended <= later.started, "two pods at once"
            begun.append(truths)
        # Nothing of any role is resumed before everything has gone.
        last_end = max(first.ended for first, _ in begun if first.ended is not None)
        assert last_end <= min(second.started for _, second in begun) + timedelta(milliseconds=50)
        federation.check_energy()
        federation.check_secrets()
        assert status["run"]["attempts"] == 2 * len(ROLES)
        assert [row["state"] for row in status["roles"]] == ["Ended"] * len(ROLES)
        told = [reason for reason in world.events(self.name) if reason in ONCE]
        assert len(told) == len(set(told)), f"told twice: {told}"
        assert world.admin.find(GREEN_JOBS, self.name, world.namespace) is not None
