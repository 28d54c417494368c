"""Federated jobs in real pods: a server and two sites, over Flower, under default deny."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pytest

from tests.cluster.harness.client import SECRETS, Object
from tests.cluster.harness.waiting import wait_for
from tests.node.harness.beyond import noting
from tests.node.harness.cluster import JOB_LABEL, OPERATOR_NAMESPACE, TEAM, Cluster, static
from tests.node.harness.history import PodHistory
from tests.node.harness.policies import Enforcer, deny_all

_SITES: Final = ("a", "b")
_ROUNDS: Final = 8
_ROLE: Final = "greentraining.io/role"
_PATIENCE: Final = 300.0
_ATTACK: Final = """
import http.client, ssl, sys
host, ca, *paths = sys.argv[1:]
context = ssl.create_default_context(cadata=ca)
for path in paths:
    connection = http.client.HTTPSConnection(host, 9092, context=context, timeout=20)
    connection.request("POST", path, b"", {"Content-Type": "application/protobuf"})
    print(path, connection.getresponse().status)
"""


@pytest.fixture
def history(cluster: Cluster) -> Iterator[PodHistory]:
    history = PodHistory(cluster.admin, TEAM)
    yield history
    history.stop()


def _federate(cluster: Cluster, name: str, sites: Sequence[str], **changes: Any) -> None:
    """A federated job with a claim for each role; each site works on the same small data set."""
    for claim in (name, *(f"{name}-{site}" for site in sites)):
        cluster.add_claim(claim)
    federate: dict[str, Any] = {
        "model": {"builtin": "digits-cnn"},
        "data": {"builtin": "digits"},
        "exports": ["Safetensors"],
        "sites": [{"name": site, "claimName": f"{name}-{site}"} for site in sites],
        **changes,
    }
    cluster.create(
        {
            "apiVersion": "greentraining.io/v1alpha1",
            "kind": "GreenTrainingJob",
            "metadata": {"name": name, "namespace": TEAM},
            "spec": {
                "task": {"federate": federate},
                "schedule": {
                    "completeWithin": "24h", "expectedDuration": "10m", "interruptible": True,
                },
                "resources": {"cpu": "200m", "memory": "1500Mi"},
                "storage": {"claimName": name},
            },
        }
    )  # fmt: skip


def _rounds(cluster: Cluster, name: str) -> int:
    """As the server tells them; the status takes figures alone over every five minutes only."""
    for pod in _running(cluster, name, "server"):
        told = cluster.asked(pod["status"]["podIP"]).get("rounds") or {}
        return int(told.get("rounds", 0))
    rows = cluster.status(name).get("roles") or [{}]
    return int(rows[0].get("rounds", 0))


def _wait_rounds(cluster: Cluster, name: str, count: int) -> None:
    wait_for(
        lambda: _rounds(cluster, name) >= count, _PATIENCE, f"{name} has made {count} rounds",
        seen=lambda: cluster.explain(name), pause=1.5,
    )  # fmt: skip


def _running(cluster: Cluster, name: str, role: str) -> list[Object]:
    return [
        pod
        for pod in cluster.pods(name)
        if pod["metadata"]["labels"][_ROLE] == role and pod["status"]["phase"] == "Running"
    ]


def _pod(cluster: Cluster, name: str, role: str) -> Object:
    found = _running(cluster, name, role)
    assert found, cluster.explain(name)
    return found[-1]


def test_rounds_survive_suspension_and_the_loss_of_a_site_and_no_stranger_gets_in(
    cluster: Cluster, history: PodHistory
) -> None:
    name = "ward"
    cluster.set_grid(cluster.set_trace("later", [500.0] * 3 + [100.0] * 27))
    cluster.apply(deny_all(TEAM))
    enforcer = Enforcer(cluster.admin, cluster.room)
    with noting(cluster.room) as beyond, enforcer.enforcing():
        _federate(cluster, name, _SITES, rounds=_ROUNDS, minSites=2)
        cluster.wait(name, "Planned")
        wait_for(lambda: len(cluster.runs(name)) == 3, 60, "a Job for each role")
        assert cluster.pods(name) == []
        cluster.set_grid(static(100))
        _wait_rounds(cluster, name, 1)
        cluster.suspend(name, True)
        cluster.wait(name, "Suspended")
        wait_for(lambda: not cluster.pods(name), 120, "the pods are gone")
        done = _rounds(cluster, name)
        assert 1 <= done < _ROUNDS
        wait_for(lambda: history.exit_codes(name) == [75] * 3, 20, "all were interrupted",
                 seen=lambda: history.exit_codes(name))  # fmt: skip

        cluster.suspend(name, False)
        _wait_rounds(cluster, name, done + 1)
        lost = _pod(cluster, name, "b")["metadata"]["name"]
        cluster.kubectl("delete", "pod", lost, "-n", TEAM, "--grace-period=0", "--force")
        # The rounds wait for the site meanwhile.
        _break_in(cluster, name)
        status = cluster.wait(name, "Succeeded", timeout=_PATIENCE)
        wait_for(lambda: _last_codes(history, name) == {"server": 0, "a": 0, "b": 0}, 60,
                 "each role ends with 0", seen=lambda: history.exit_codes(name))  # fmt: skip
        assert beyond() == [], "something left the cluster"
        _call_home(cluster)
        assert beyond(), "what leaves is not seen"
    cluster.kubectl("delete", "networkpolicy", "deny-all", "-n", TEAM)
    assert len(cluster.runs(name)) == 3
    # Each attempt left its log, on the claim of its role.
    for role, attempts in (("server", 2), ("a", 2), ("b", 3)):
        said = cluster.green("logs", name, "--role", role)
        assert said.count("==> attempt") == attempts, said
    assert status["result"]["final"]["accuracy"] > 0.8
    rows = {row["name"]: row for row in status["roles"]}
    assert [row["state"] for row in rows.values()] == ["Ended"] * 3
    assert all(row["joules"] > 0 for row in rows.values())
    # Each round had both, though one was lost amid it.
    assert [row["rounds"] for row in rows.values()] == [_ROUNDS] * 3
    assert list(cluster.room.folder.glob(f"volumes/{name}/*/output/model.safetensors"))
    written = list((cluster.room.folder / "volumes" / f"{name}-b").iterdir())
    assert [path.name for path in written] == [
        f"{name}-{cluster.runs(name)[0]['metadata']['ownerReferences'][0]['uid'][:5]}"
    ]


def _call_home(cluster: Cluster) -> None:
    """As Flower's telemetry would."""
    code = (
        "import socket\n"
        "try: socket.create_connection(('telemetry.flower.ai', 443), 1)\n"
        "except OSError: pass\n"
    )
    operator = cluster.operator_pods()[0]["metadata"]["name"]
    cluster.kubectl("exec", "-n", OPERATOR_NAMESPACE, operator, "--", "python", "-c", code)


def _last_codes(history: PodHistory, name: str) -> dict[str, int | None]:
    """By role, how its last pod ended."""
    pods = zip(history.of(name), history.exit_codes(name), strict=True)
    return {pod["metadata"]["labels"][_ROLE]: code for pod, code in pods}


def _break_in(cluster: Cluster, name: str) -> None:
    """From a second federated job's site, which was given the first one's CA file."""
    other = "theirs"
    _federate(cluster, other, ["a"], rounds=300, minSites=1)
    secrets = cluster.admin.list(SECRETS, TEAM, labels=f"{JOB_LABEL}={name},{_ROLE}=a")
    authority = base64.b64decode(secrets[0]["data"]["ca.pem"]).decode()
    server = next(run["metadata"]["name"] for run in cluster.runs(name)).rpartition("-")[0]
    closed = [
        *("/v1/control/register-node", "/v1/control/start-run", "/v1/control/list-runs"),
        *("/v1/runtime/acquire-task", "/v1/fleet/../control/start-run", "/docs"),
    ]
    keyed = [
        *("/v1/fleet/register-node", "/v1/fleet/activate-node", "/v1/fleet/pull-messages"),
        *("/v1/fleet/push-messages", "/v1/fleet/get-run", "/v1/fleet/pull-object"),
    ]
    wait_for(lambda: _running(cluster, other, "a"), 120, "the stranger's pod runs",
             seen=lambda: cluster.explain(other))  # fmt: skip
    attacker = _pod(cluster, other, "a")["metadata"]["name"]
    inside = ("exec", "-n", TEAM, attacker, "--")
    said = cluster.kubectl(
        *inside, "python", "-c", _ATTACK, f"{server}.{TEAM}.svc", authority, *closed, *keyed
    )
    answers = dict(line.split() for line in said.strip().splitlines())
    assert {path: answers[path] for path in closed} == dict.fromkeys(closed, "403")
    assert {path: answers[path] for path in keyed} == dict.fromkeys(keyed, "401")
    own = cluster.kubectl(*inside, "ls", "/etc/green-credentials")
    assert set(own.split()) == {"ca.pem", "secret", "site.key"}
    cluster.kubectl("delete", "gtj", other, "-n", TEAM)
