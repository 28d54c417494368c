"""A run's Jobs on an API server that loses the operator before or after any request."""

from __future__ import annotations

import asyncio
import copy
from typing import Any, cast

import pytest
from green_api.config import OperatorConfig
from green_api.job import GreenTrainingJob
from green_operator.account.power import DEFAULT_POWER
from green_operator.cluster.api import RUNS, SECRETS, SERVICES, Api, ApiError, Resource
from green_operator.cluster.credentials import Credentials
from green_operator.cluster.index import Index
from green_operator.cluster.runs import Runs
from green_operator.cluster.seen import Seen
from green_operator.cluster.zones import Zones
from green_operator.lifecycle.types import DesiredRun

from tests.unit.factories import T0
from tests.unit.test_federation import UID, job

ROLES = ("server", "north", "south")
KEY = ("team-a", "ward")
BODY = {"metadata": {"name": "ward", "namespace": "team-a", "uid": UID, "resourceVersion": "1"}}


class KilledError(BaseException):
    """SIGKILL: nothing of the process is left."""


class Server:
    """Objects by kind and name; the caller dies at a request where that is asked for."""

    def __init__(self, dies_at: int = 0, *, after: bool = False) -> None:
        self.objects: dict[tuple[Resource, str], dict[str, Any]] = {}
        self.asked = 0
        self._dies_at = dies_at
        self._after = after
        self._version = 1

    async def create(self, resource: Resource, body: dict[str, Any]) -> dict[str, Any]:
        name = body["metadata"]["name"]

        def make() -> dict[str, Any]:
            if (resource, name) in self.objects:
                raise ApiError(409, "there is one")
            made = copy.deepcopy(body)
            made["metadata"]["uid"] = f"uid-{self._version}"
            return self._store(resource, made)

        return self._answer(make)

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        assert resource is not SECRETS, "what is in a Secret is nobody's business"
        return self._answer(lambda: copy.deepcopy(self.objects.get((resource, name))))

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        def change() -> dict[str, Any]:
            stored = copy.deepcopy(self.objects[resource, name])
            assert body["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"]
            stored["spec"]["suspend"] = body["spec"]["suspend"]
            return self._store(resource, stored)

        return self._answer(change)

    def of(self, resource: Resource) -> dict[str, dict[str, Any]]:
        return {name: body for (kind, name), body in self.objects.items() if kind is resource}

    def _store(self, resource: Resource, body: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        body["metadata"]["resourceVersion"] = str(self._version)
        self.objects[resource, body["metadata"]["name"]] = body
        return copy.deepcopy(body)

    def _answer(self, do: Any) -> Any:
        self.asked += 1
        if self.asked == self._dies_at and not self._after:
            raise KilledError
        answer = do()
        if self.asked == self._dies_at:
            raise KilledError
        return answer


async def _say_nothing(_: Seen) -> None: ...


class Operator:
    """What a process knows; a new one has listed what is there, or not yet."""

    def __init__(self, server: Server, made: GreenTrainingJob, *, has_listed: bool = True) -> None:
        self.index = Index()
        self.index.put_job(BODY)
        if has_listed:
            for body in server.of(RUNS).values():
                self.index.put_run(body)
        api = cast("Api", server)
        zones = Zones.__new__(Zones)
        zones._zones = {}
        self._job = made
        self._runs = Runs(
            api, OperatorConfig(), self.index, zones, DEFAULT_POWER,
            Credentials(api, lambda: T0), _say_nothing,
        )  # fmt: skip

    def see(self) -> Seen:
        reserved = {role: DEFAULT_POWER.reserved(0, 1) for role in self._job.spec.task.roles}
        record = self.index.jobs[KEY]
        return Seen.of(KEY, record, self._job, None, reserved, T0)

    def bring(self, number: int, suspend: bool, seen: Seen | None = None) -> None:
        seen = seen or self.see()
        seen.look(self.index)
        asyncio.run(self._runs.bring(seen, DesiredRun(number, suspend, "gb")))


def a_life(server: Server) -> None:
    """Planned, started, suspended and started again, by processes that die when it is time."""
    for suspend in (True, False, True, False):
        while True:
            try:
                Operator(server, job()).bring(1, suspend)
            except KilledError:
                continue
            break


def check(server: Server, sets: int) -> None:
    jobs = server.of(RUNS)
    assert set(jobs) == {f"ward-0f8fa-1-{role}" for role in ROLES}
    assert not any(made["spec"]["suspend"] for made in jobs.values())
    tokens = {m["metadata"]["annotations"]["greentraining.io/credentials"] for m in jobs.values()}
    (token,) = tokens
    secrets = server.of(SECRETS)
    authorities = {secrets[f"{name}-{token}"]["data"]["ca.pem"] for name in jobs}
    assert len(authorities) == 1, "roles of different sets"
    assert len({name.rpartition("-")[2] for name in secrets}) <= sets
    assert list(server.of(SERVICES)) == ["ward-0f8fa-1"]


def writes() -> int:
    server = Server()
    a_life(server)
    check(server, sets=1)
    return server.asked


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_request_the_roles_share_one_whole_set(after: bool) -> None:
    for number in range(1, writes() + 1):
        server = Server(number, after=after)
        a_life(server)
        check(server, sets=2)


def test_a_process_that_has_not_seen_the_jobs_yet_takes_their_set() -> None:
    server = Server()
    Operator(server, job()).bring(1, suspend=True)
    del server.objects[RUNS, "ward-0f8fa-1-south"]
    Operator(server, job(), has_listed=False).bring(1, suspend=False)
    check(server, sets=2)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_whose_job_is_gone_is_made_again_with_the_same_set(role: str) -> None:
    server = Server()
    Operator(server, job()).bring(1, suspend=False)
    del server.objects[RUNS, f"ward-0f8fa-1-{role}"]
    Operator(server, job()).bring(1, suspend=False)
    check(server, sets=1)


def test_another_run_has_other_keys() -> None:
    server = Server()
    Operator(server, job()).bring(1, suspend=True)
    Operator(server, job()).bring(2, suspend=True)
    assert len({s["data"]["ca.pem"] for s in server.of(SECRETS).values()}) == 2
    assert list(server.of(SERVICES)) == ["ward-0f8fa-1", "ward-0f8fa-2"]


def test_a_set_that_is_refused_half_way_is_gone_on_with() -> None:
    server = Server()
    operator = Operator(server, job())
    refused = iter([False, True, True, False])
    create = server.create

    async def with_quota(resource: Resource, body: dict[str, Any]) -> dict[str, Any]:
        if resource is SECRETS and next(refused, False):
            raise ApiError(403, "exceeded quota")
        return await create(resource, body)

    server.create = with_quota  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(ApiError, match="quota"):
            operator.bring(1, suspend=False)
    operator.bring(1, suspend=False)
    check(server, sets=1)
    assert len(server.of(SECRETS)) == 3


def test_sites_that_were_held_when_their_server_ended_do_not_come_back() -> None:
    server = Server()
    Operator(server, job()).bring(1, suspend=True)
    done = {"type": "Complete", "status": "True"}
    server.objects[RUNS, "ward-0f8fa-1-server"]["status"] = {"conditions": [done]}
    Operator(server, job()).bring(1, suspend=False)
    assert all(made["spec"]["suspend"] for made in server.of(RUNS).values())


def test_a_role_made_again_starts_once_its_old_pod_has_gone() -> None:
    server = Server()
    Operator(server, job()).bring(1, suspend=False)
    old = server.objects.pop((RUNS, "ward-0f8fa-1-north"))
    operator = Operator(server, job())
    pod = {
        "metadata": {
            "name": "old", "namespace": "team-a", "uid": "pod", "resourceVersion": "1",
            "creationTimestamp": "2026-06-01T00:00:00Z", "labels": old["metadata"]["labels"],
            "ownerReferences": [{"uid": old["metadata"]["uid"], "controller": True}],
        },
        "spec": {},
        "status": {"phase": "Running"},
    }  # fmt: skip
    operator.index.put_run(old)
    operator.index.put_pod(pod)
    seen = operator.see()
    seen.books["north"].begin("pod", T0, None)
    operator.index.drop_run(KEY, old["metadata"]["uid"])
    operator.bring(1, suspend=False, seen=seen)
    held = {name: body["spec"]["suspend"] for name, body in server.of(RUNS).items()}
    assert held == {f"ward-0f8fa-1-{role}": role == "north" for role in ROLES}
    operator.index.drop_pod(KEY, "pod")
    operator.bring(1, suspend=False, seen=seen)
    check(server, sets=1)
