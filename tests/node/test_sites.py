"""Federated jobs in real pods: a server and two sites, over Flower from the jobs' image."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.cluster.harness.client import SECRETS, Object
from tests.cluster.harness.waiting import wait_for
from tests.conftest import WHOLE
from tests.node.harness.beyond import counting
from tests.node.harness.cluster import JOB_LABEL, TEAM, Cluster, static
from tests.node.harness.history import PodHistory

pytestmark = pytest.mark.skipif(
    not WHOLE, reason="six pods with PyTorch take many minutes; GREEN_MATRIX=all runs it"
)

_SITES: Final = ("a", "b")
_ROLE: Final = "greentraining.io/role"
_PATIENCE: Final = 500.0
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


def _federate(cluster: Cluster, name: str, rounds: int) -> None:
    for claim in (name, *(f"{name}-{site}" for site in _SITES)):
        cluster.add_claim(claim)
    federate: dict[str, Any] = {
        "model": {"builtin": "digits-cnn"},
        "data": {"builtin": "digits"},
        "rounds": rounds,
        "minSites": 1,
        "exports": ["Safetensors"],
        "sites": [{"name": site, "claimName": f"{name}-{site}"} for site in _SITES],
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
    for pod in cluster.pods(name):
        if pod["metadata"]["labels"][_ROLE] == "server" and pod["status"]["phase"] == "Running":
            told = cluster.asked(pod["status"]["podIP"]).get("rounds") or {}
            return int(told.get("rounds", 0))
    rows = cluster.status(name).get("roles") or [{}]
    return int(rows[0].get("rounds", 0))


def _wait_rounds(cluster: Cluster, name: str, count: int) -> None:
    wait_for(
        lambda: _rounds(cluster, name) >= count, _PATIENCE, f"{name} has made {count} rounds",
        seen=lambda: cluster.explain(name), pause=0.5,
    )  # fmt: skip


def _pod(cluster: Cluster, name: str, role: str) -> Object:
    found = [
        pod
        for pod in cluster.pods(name)
        if pod["metadata"]["labels"][_ROLE] == role and pod["status"]["phase"] == "Running"
    ]
    assert found, cluster.explain(name)
    return found[-1]


def test_rounds_survive_deferral_suspension_and_the_loss_of_a_site(
    cluster: Cluster, history: PodHistory
) -> None:
    name = "ward"
    cluster.set_grid(cluster.set_trace("later", [500.0] * 3 + [100.0] * 27))
    with counting(cluster.room) as packets:
        _federate(cluster, name, rounds=12)
        cluster.wait(name, "Planned")
        wait_for(lambda: len(cluster.runs(name)) == 3, 60, "a Job for each role")
        assert cluster.pods(name) == []
        cluster.set_grid(static(100))
        _wait_rounds(cluster, name, 1)
        cluster.suspend(name, True)
        cluster.wait(name, "Suspended")
        wait_for(lambda: not cluster.pods(name), 120, "the pods are gone")
        done = _rounds(cluster, name)
        wait_for(lambda: history.exit_codes(name) == [75] * 3, 20, "all were interrupted",
                 seen=lambda: history.exit_codes(name))  # fmt: skip

        cluster.suspend(name, False)
        _wait_rounds(cluster, name, done + 1)
        lost = _pod(cluster, name, "b")["metadata"]["name"]
        cluster.kubectl("delete", "pod", lost, "-n", TEAM, "--grace-period=0", "--force")
        status = cluster.wait(name, "Succeeded", timeout=_PATIENCE)
        assert packets() == 0, "something left the cluster"
    assert len(cluster.runs(name)) == 3
    assert status["result"]["rounds"]["rounds"] == 12
    rows = {row["name"]: row for row in status["roles"]}
    assert [row["state"] for row in rows.values()] == ["Ended"] * 3
    assert all(row["joules"] > 0 for row in rows.values())
    # A round counts with one site, and the first need not wait for both.
    assert rows["a"]["rounds"] >= 10
    assert rows["b"]["rounds"] >= 2
    assert list(cluster.room.folder.glob(f"volumes/{name}/*/output/model.safetensors"))
    written = list((cluster.room.folder / "volumes" / f"{name}-b").iterdir())
    assert [path.name for path in written] == [
        f"{name}-{cluster.runs(name)[0]['metadata']['ownerReferences'][0]['uid'][:5]}"
    ]


def test_who_has_network_and_authority_but_no_key_gets_in_nowhere(cluster: Cluster) -> None:
    """A second federated job's site, which was given the first one's CA file."""
    names = ("mine", "theirs")
    for name in names:
        _federate(cluster, name, rounds=300)
    for name in names:
        _wait_rounds(cluster, name, 1)
    secrets = cluster.admin.list(SECRETS, TEAM, labels=f"{JOB_LABEL}=mine,{_ROLE}=a")
    authority = base64.b64decode(secrets[0]["data"]["ca.pem"]).decode()
    server = next(run["metadata"]["name"] for run in cluster.runs("mine")).rpartition("-")[0]
    paths = [
        *("/v1/control/register-node", "/v1/control/start-run", "/v1/control/list-runs"),
        *("/v1/runtime/acquire-task", "/v1/fleet/../control/start-run", "/docs"),
        *("/v1/fleet/register-node", "/v1/fleet/activate-node", "/v1/fleet/pull-messages"),
        *("/v1/fleet/push-messages", "/v1/fleet/get-run", "/v1/fleet/pull-object"),
    ]
    attacker = _pod(cluster, "theirs", "a")["metadata"]["name"]
    host = f"{server}.{TEAM}.svc"
    said = cluster.kubectl(
        "exec", "-n", TEAM, attacker, "--", "python", "-c", _ATTACK, host, authority, *paths
    )
    answers = dict(line.split() for line in said.strip().splitlines())
    assert answers.keys() == set(paths)
    assert not [path for path, code in answers.items() if code.startswith("2")], answers
    assert all(code == "403" for path, code in answers.items() if path in paths[:6]), answers
    own = cluster.kubectl("exec", "-n", TEAM, attacker, "--", "ls", "/etc/green-credentials")
    assert set(own.split()) == {"ca.pem", "secret", "site.key"}
    before = _rounds(cluster, "mine")
    _wait_rounds(cluster, "mine", before + 1)
    for name in names:
        cluster.kubectl("delete", "gtj", name, "-n", TEAM)
