"""The product in real pods: chart, images, PyTorch, suspension, and what goes wrong on a node.

The tests share one cluster and run in this order. GPUs are simulated: the node says that it has
some. PyTorch is mounted from this environment, by the administrator's pod defaults.
"""

from __future__ import annotations

import hashlib
import shutil
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from green_api.contract import DEFAULT_PORT, PROGRESS_PATH, JournalEntry

from tests.chart.helm import PREVIOUS
from tests.cluster.harness.client import CRDS, LEASES, PODS, Object
from tests.cluster.harness.programs import ROOT
from tests.cluster.harness.waiting import wait_for
from tests.node.harness.beyond import noting
from tests.node.harness.cluster import (
    JOB_LABEL,
    OPERATOR_NAMESPACE,
    RELEASE,
    TEAM,
    Cluster,
    static,
)
from tests.node.harness.history import PodHistory
from tests.node.harness.node import NAME as NODE
from tests.node.harness.policies import Enforcer, deny_all
from tests.node.harness.prometheus import Prometheus

_INTERRUPTED: Final = 75
_PATIENCE: Final = 400.0
"""Seconds for a job to end; many, for the machine may have other things to do."""


@pytest.fixture
def history(cluster: Cluster) -> Iterator[PodHistory]:
    history = PodHistory(cluster.admin, TEAM)
    yield history
    history.stop()


def _example(file: str, name: str, **spec: Any) -> Object:
    """The job of an example under another name."""
    documents = yaml.safe_load_all((ROOT / "examples" / file).read_text())
    (job,) = [d for d in documents if d["kind"] == "GreenTrainingJob"]
    job["metadata"] = {"name": name, "namespace": TEAM}
    job["spec"] = {**job["spec"], "storage": {"claimName": name}, **spec}
    return dict(job)


@pytest.fixture(scope="module", autouse=True)
def _nothing_leaves(cluster: Cluster) -> Iterator[None]:
    """No pod of these tests, whatever library it holds, goes to the world."""
    with noting(cluster.room) as beyond:
        yield
        assert beyond() == []


def _train(cluster: Cluster, name: str, epochs: int = 60, **spec: Any) -> Path:
    """The example's own script, from the claim; the claim's folder."""
    folder = cluster.add_claim(name)
    shutil.copytree(ROOT / "examples" / "train_digits", folder / "code" / "train_digits")
    command = ["python", "/claim/code/train_digits/train.py", "--epochs", str(epochs)]
    job = _example("train-digits.yaml", name, task={"train": {"command": command}})
    job["spec"] |= {"resources": {"cpu": "200m", "memory": "1Gi"}, **spec}
    cluster.create(job)
    return folder


def _journal(folder: Path) -> list[JournalEntry]:
    files = folder.glob("*/journal/*.jsonl")
    lines = [line for file in files for line in file.read_text().splitlines()]
    return sorted(map(JournalEntry.model_validate_json, lines), key=lambda entry: entry.sequence)


def _journaled_joules(folder: Path) -> float:
    """The sum over attempts of the most that each counter told."""
    most: dict[tuple[str, str, str], float] = {}
    for entry in _journal(folder):
        for counter in entry.counters:
            key = (entry.attempt, counter.component, counter.method)
            most[key] = max(most.get(key, 0), counter.joules)
    return sum(most.values())


def test_the_operator_runs_from_its_image_and_helm_test_passes(cluster: Cluster) -> None:
    pods = cluster.operator_pods()
    assert [pod["spec"]["nodeName"] for pod in pods] == [NODE, NODE]
    assert all(pod["status"]["containerStatuses"][0]["ready"] for pod in pods)
    lease = cluster.admin.get(LEASES, "green-training-operator", OPERATOR_NAMESPACE)
    holder = lease["spec"]["holderIdentity"]
    assert holder.rpartition("_")[0] in {pod["metadata"]["name"] for pod in pods}
    assert "Succeeded" in cluster.helm("test", "green-training", "--timeout", "90s")
    assert cluster.has_module(OPERATOR_NAMESPACE, pods[0]["metadata"]["name"], "kopf")
    assert not cluster.has_module(OPERATOR_NAMESPACE, pods[0]["metadata"]["name"], "torch")


def test_a_model_is_compressed_across_a_deferral_and_a_suspension(
    cluster: Cluster, history: PodHistory, prometheus: Prometheus
) -> None:
    name = "shrink"
    folder = cluster.add_claim(name)
    cluster.set_grid(cluster.set_trace("day", [500.0] * 3 + [100.0] * 27))
    schedule = {"completeWithin": "24h", "expectedDuration": "10m", "interruptible": True}
    job = _example("shrink-digits.yaml", name, schedule=schedule)
    job["spec"]["resources"] = {"cpu": "500m", "memory": "2Gi"}
    cluster.create(job)

    status = cluster.wait(name, "Planned")
    assert status["plan"]["reason"] == "LowestEmissions"
    wait = datetime.fromisoformat(status["plannedStart"]) - datetime.now(UTC)
    assert wait > timedelta(hours=1)
    (run,) = cluster.runs(name)
    assert run["spec"]["suspend"] is True
    assert cluster.pods(name) == []

    cluster.set_grid(static(100))  # the grid is clean sooner than it was forecast
    cluster.wait_progress(name, at_least=20)
    cluster.wait(name, "Running")
    cluster.suspend(name, True)
    cluster.wait(name, "Suspended")
    wait_for(lambda: not cluster.pods(name), 60, "the pod is gone")
    wait_for(lambda: history.exit_codes(name) == [_INTERRUPTED], 10, "it was interrupted",
             seen=lambda: history.exit_codes(name))  # fmt: skip
    assert cluster.condition(name, "Suspended")["reason"] == "Person"
    assert list(folder.glob("*/checkpoints/*"))

    cluster.suspend(name, False)
    # 0 while it starts; then what it goes on from.
    # Shares of the work are seconds at the present pace: a little less than before is no loss.
    assert cluster.wait_progress(name, at_least=1) > 10, "it began anew"
    status = cluster.wait(name, "Succeeded", timeout=_PATIENCE)
    assert history.exit_codes(name) == [_INTERRUPTED, 0]
    assert len(cluster.runs(name)) == 1
    assert status["run"]["attempts"] == 2
    assert status["run"].get("failedAttempts", 0) == 0

    report = folder / status["reportPath"]
    assert hashlib.sha256(report.read_bytes()).hexdigest() == status["reportSha256"]
    output = report.parent / "output"
    assert {file.name for file in output.iterdir()} >= {"model.safetensors", "model.onnx"}
    assert status["result"]["final"]["bytes"] < status["result"]["original"]["bytes"]
    _check_energy(status, folder, grams=100)


def _check_energy(status: Object, folder: Path, grams: float) -> None:
    """All that the attempts journaled is in the books, its origin said and its emissions counted."""
    energy = status["energy"]
    parts = [energy.get(f"{kind}Joules", 0) for kind in ("measured", "attributed", "estimated")]
    assert energy["joules"] > 0
    assert sum(parts) == pytest.approx(energy["joules"], abs=2)
    assert energy["joules"] == pytest.approx(_journaled_joules(folder), abs=1)
    micrograms = energy["joules"] / 3.6e6 * grams * 1e6
    assert status["emissions"]["micrograms"] == pytest.approx(micrograms, rel=0.05)
    assert status["emissions"].get("unaccountedJoules", 0) == 0


def test_its_author_reads_all_logs_and_fetches_what_came_out(
    cluster: Cluster, tmp_path: Path
) -> None:
    name = "shrink"
    claim = next((cluster.room.folder / "volumes" / name).glob(f"{name}-*"))
    logs = cluster.green("logs", name)
    first, second = sorted(claim.glob("logs/*.log"), key=lambda file: file.stat().st_mtime)
    assert logs.index(f"attempt {first.stem}") < logs.index(f"attempt {second.stem}")
    for line in (*first.read_text().splitlines(), *second.read_text().splitlines()):
        assert line in logs

    told = cluster.green("fetch", name, folder=tmp_path)
    assert f"{name}/" in told
    fetched = tmp_path / name
    files = {str(f.relative_to(fetched)) for f in fetched.rglob("*") if f.is_file()}
    assert files >= {"report.json", "output/model.onnx", f"logs/{first.name}"}
    for file in files:
        assert (fetched / file).read_bytes() == (claim / file).read_bytes()
    helpers = "app.kubernetes.io/component=reader"
    wait_for(
        lambda: not cluster.admin.list(PODS, TEAM, labels=helpers), 30, "no helper pod is left"
    )


def test_a_users_own_script_trains_in_a_pod(cluster: Cluster, history: PodHistory) -> None:
    name = "train-digits"
    folder = _train(cluster, name)
    status = cluster.wait(name, "Succeeded", timeout=_PATIENCE)
    assert history.exit_codes(name) == [0]
    assert list(folder.glob("*/output/model.safetensors"))
    assert "accuracy on the training images" in cluster.logs(name)
    _check_energy(status, folder, grams=100)


def test_a_job_waits_for_gpus_and_says_so(cluster: Cluster) -> None:
    name = "two-gpus"
    folder = _train(cluster, name, resources={"cpu": "200m", "memory": "1Gi", "gpus": 2})
    waiting = cluster.wait_condition(name, "Running", "Unschedulable")
    assert waiting["status"] == "False"
    assert "nvidia.com/gpu" in waiting["message"]
    cluster.node.set_gpus(2)
    status = cluster.wait(name, "Succeeded", timeout=_PATIENCE)
    assert status["energy"]["estimatedJoules"] > 0
    _check_energy(status, folder, grams=100)


def test_prometheus_has_energy_jobs_and_one_leader(
    cluster: Cluster, prometheus: Prometheus
) -> None:
    total = sum(
        cluster.status(name)["energy"]["joules"] for name in ("shrink", "train-digits", "two-gpus")
    )
    energy = f'sum(green_energy_joules_total{{namespace="{TEAM}"}})'
    succeeded = f'sum(green_jobs{{namespace="{TEAM}",state="Succeeded"}})'
    for expression, value, tolerance in (
        (energy, total, 3),
        (succeeded, 3, 0),
        ("sum(green_leader)", 1, 0),
        ("count(green_leader)", 2, 0),
    ):
        wait_for(
            lambda e=expression, v=value, t=tolerance: abs(prometheus.value(e) - v) <= t,
            what=f"{expression} is scraped as {value}",
            seen=lambda e=expression: prometheus.value(e),
        )


def test_a_job_and_its_operator_work_under_default_deny(cluster: Cluster) -> None:
    """The policies of the chart beside those of an administrator who denies everything."""
    name = "walled"
    enforcer = Enforcer(cluster.admin, cluster.room)
    cluster.apply(*map(deny_all, (OPERATOR_NAMESPACE, TEAM)))
    with enforcer.enforcing():
        _train(cluster, name, epochs=200)
        cluster.wait_condition(name, "ProgressAvailable", "Answered")
        (pod,) = cluster.pods(name)
        assert not cluster.has_module(TEAM, pod["metadata"]["name"], "kopf")
        address = pod["status"]["podIP"]
        command = ("exec", "-n", TEAM, pod["metadata"]["name"], "--", "ls", "/run", "/var/run")
        assert "secrets" not in cluster.kubectl(*command), "there is a token"
        operator = cluster.operator_pods()[0]["metadata"]["name"]
        metrics = cluster.operator_pods()[0]["status"]["podIP"]
        machine, _, port = cluster.plane.server.removeprefix("https://").partition(":")
        server = (machine, int(port))
        reached = cluster.reachable(
            OPERATOR_NAMESPACE, operator, [server, (address, DEFAULT_PORT), (address, 22)]
        )
        assert reached == [True, True, False], "the operator: server, its question, another port"
        reached = cluster.reachable(
            TEAM, pod["metadata"]["name"],
            [(cluster.room.addresses.node, 53), server, (metrics, 8080)],
        )  # fmt: skip
        assert reached == [True, False, False], "the job: DNS, server, the operator's metrics"
        with pytest.raises(OSError, match="timed out"):
            urllib.request.urlopen(f"http://{address}:{DEFAULT_PORT}{PROGRESS_PATH}", timeout=2)
        cluster.wait(name, "Succeeded", timeout=_PATIENCE)
        assert "accuracy" in cluster.green("logs", name)
        assert "Succeeded" in cluster.helm("test", "green-training", "--timeout", "90s")
    cluster.kubectl("delete", "networkpolicy", "deny-all", "-n", TEAM)
    cluster.kubectl("delete", "networkpolicy", "deny-all", "-n", OPERATOR_NAMESPACE)


def test_an_image_that_cannot_be_pulled_is_named(cluster: Cluster) -> None:
    name = "no-image"
    _train(cluster, name, pod={"image": "localhost:1/none:1"})
    waiting = cluster.wait_condition(name, "Running", "ImagePullFailed")
    assert waiting["status"] == "False"
    assert "localhost:1/none:1" in waiting["message"]
    assert cluster.status(name)["state"] == "Planned"
    cluster.kubectl("delete", "gtj", name, "-n", TEAM)
    wait_for(lambda: not cluster.pods(name), 90, "its pod is gone")


def test_a_drained_node_interrupts_and_the_job_goes_on_after_it(
    cluster: Cluster, history: PodHistory
) -> None:
    name = "drained"
    folder = _train(cluster, name, epochs=150, retries=0)
    cluster.wait_progress(name)
    options = ("--pod-selector", f"{JOB_LABEL}={name}", "--delete-emptydir-data", "--timeout=90s")
    cluster.kubectl("drain", NODE, *options)
    try:
        waiting = cluster.wait_condition(name, "Running", "Unschedulable")
        assert "unschedulable" in waiting["message"]
    finally:
        cluster.kubectl("uncordon", NODE)
    status = cluster.wait(name, "Succeeded", timeout=_PATIENCE)
    assert history.exit_codes(name) == [_INTERRUPTED, 0]
    assert status["run"]["attempts"] == 2
    assert status["run"].get("failedAttempts", 0) == 0
    assert len(cluster.runs(name)) == 1
    _check_energy(status, folder, grams=100)


def test_an_evicted_pod_is_no_failed_attempt(cluster: Cluster, history: PodHistory) -> None:
    name = "evicted"
    folder = _train(cluster, name, epochs=150, retries=0)
    cluster.wait_progress(name)
    (pod,) = cluster.pods(name)
    meta = {"name": pod["metadata"]["name"], "namespace": TEAM}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
    path = f"/api/v1/namespaces/{TEAM}/pods/{meta['name']}/eviction"
    cluster.admin.request("POST", path, eviction)
    status = cluster.wait(name, "Succeeded", timeout=_PATIENCE)
    assert history.exit_codes(name) == [_INTERRUPTED, 0]
    assert status["run"].get("failedAttempts", 0) == 0
    _check_energy(status, folder, grams=100)


def test_a_kubelet_that_is_away_for_a_while_costs_nothing(
    cluster: Cluster, history: PodHistory
) -> None:
    name = "kubelet-away"
    folder = _train(cluster, name, epochs=150)
    cluster.wait_progress(name)
    with cluster.node.without_kubelet():
        wait_for(lambda: not cluster.node.is_ready, 60, "the node counts as lost")
        wait_for(lambda: list(folder.glob("*/done.json")), 120, "the pod works on and ends")
    status = cluster.wait(name, "Succeeded", timeout=_PATIENCE)
    assert history.exit_codes(name) == [0]
    assert status["run"]["attempts"] == 1
    _check_energy(status, folder, grams=100)


def test_a_job_outlives_the_operators_pods(cluster: Cluster, history: PodHistory) -> None:
    name = "operator-away"
    folder = _train(cluster, name, epochs=150)
    cluster.wait_progress(name)
    labels = "app.kubernetes.io/component=operator"
    cluster.kubectl("delete", "pods", "-n", OPERATOR_NAMESPACE, "-l", labels, "--force")
    status = cluster.wait(name, "Succeeded", timeout=_PATIENCE)
    assert history.exit_codes(name) == [0]
    assert len(cluster.runs(name)) == 1
    assert status["run"]["attempts"] == 1
    _check_energy(status, folder, grams=100)
    cluster.kubectl(
        "rollout", "status", "deployment/green-training", "-n", OPERATOR_NAMESPACE, "--timeout=90s"
    )


def test_a_node_that_loses_power_costs_one_attempt(cluster: Cluster, history: PodHistory) -> None:
    name = "power-cut"
    folder = _train(cluster, name, epochs=150)
    cluster.wait_progress(name)
    cluster.wait(name, "Running")
    cluster.node.lose_power()
    status = cluster.wait(name, "Succeeded", timeout=_PATIENCE)
    assert len(history.of(name)) == 2
    assert history.exit_codes(name)[-1] == 0
    assert len(cluster.runs(name)) == 1
    assert status["run"]["attempts"] == 2
    # What nobody saw of the first attempt is estimated.
    assert status["energy"]["joules"] >= _journaled_joules(folder) - 1


def test_what_is_left_after_an_uninstall_is_as_documented(
    cluster: Cluster, history: PodHistory
) -> None:
    """And another installation takes it up."""
    running, waiting = "unwatched", "left-waiting"
    _train(cluster, waiting, suspend=True)
    cluster.wait(waiting, "Planned")
    folder = _train(cluster, running, epochs=150)
    cluster.wait_progress(running)
    cluster.helm("uninstall", RELEASE, "--wait", "--timeout", "90s")
    wait_for(lambda: not cluster.operator_pods(), 60, "the operator is gone")
    wait_for(lambda: list(folder.glob("*/done.json")), _PATIENCE, "the pod works on")
    wait_for(lambda: history.exit_codes(running) == [0], 60, "and ends")
    assert [run["spec"]["suspend"] for run in cluster.runs(waiting)] == [True]
    assert cluster.pods(waiting) == []
    assert cluster.admin.find(LEASES, "green-training-operator", OPERATOR_NAMESPACE)
    assert cluster.status(running)["state"] == "Running"
    cluster.install(PREVIOUS)
    assert "federate" not in _tasks(cluster), "the definitions are the previous ones"
    cluster.set_grid(static(100))


def test_an_upgrade_in_mid_run_costs_nothing(cluster: Cluster, history: PodHistory) -> None:
    """From the previous chart with its definitions, served by today's images."""
    name = "upgraded"
    folder = _train(cluster, name, epochs=200)
    wait_for(lambda: len(_journal(folder)) > 2, 180, "it works")
    cluster.install()
    assert "federate" in _tasks(cluster)
    cluster.suspend("left-waiting", False)
    status = cluster.wait(name, "Succeeded", timeout=_PATIENCE)
    assert history.exit_codes(name) == [0]
    assert len(cluster.runs(name)) == 1
    assert status["run"]["attempts"] == 1
    _check_energy(status, folder, grams=100)
    # What ended while there was no operator is told by the next one, what waited goes on.
    cluster.wait("left-waiting", "Succeeded", timeout=_PATIENCE)
    assert cluster.wait("unwatched", "Succeeded")["run"]["attempts"] == 1


def _tasks(cluster: Cluster) -> Object:
    """The kinds of tasks that the API server knows."""
    served = cluster.admin.get(CRDS, "greentrainingjobs.greentraining.io")["spec"]["versions"][0]
    spec = served["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    return dict(spec["task"]["properties"])
