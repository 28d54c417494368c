"""What the operator costs: jobs planned and their runs made, against a bare client's same writes.

Both do per job: POST of the run's suspended Job, one server-side apply of the status, one event.
The bare client knows what to write and does nothing else; the operator watches, plans, decides and
accounts. They run one after the other against the same API server, alternating, so that the ratio
is what counts. Figures go to build/bench/operator.json.

    python -m tests.benchmarks.operator [--jobs N] [--fleet N] [--repeats N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from green_api.config import OperatorConfig, RequestLimits
from green_api.job import GreenTrainingJob
from green_operator.account.power import DEFAULT_POWER
from green_operator.cluster.api import EVENTS, FIELD_MANAGER, JOBS, PODS, RUNS, Api
from green_operator.metrics import Metrics, OperatorMetrics
from green_operator.objects.run import run_job
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import load_kube_config

from tests.cluster.conftest import install_definitions
from tests.cluster.harness.control_plane import ControlPlane
from tests.cluster.harness.kubelet import FakeKubelet
from tests.cluster.harness.operator import OperatorProcess
from tests.cluster.harness.programs import find_programs
from tests.cluster.harness.proxy import ApiProxy
from tests.cluster.operator.life import Life
from tests.cluster.operator.world import World
from tests.unit.factories import manifest

ROOT = Path(__file__).resolve().parents[2]
CONNECTIONS = 16
CONFIG = {"requests": {"perSecond": 10_000, "burst": 1_000, "concurrency": CONNECTIONS}}
ZONE = {
    "apiVersion": "greentraining.io/v1alpha1",
    "kind": "GridZone",
    "metadata": {"name": "gb"},
}
OUTPUT = ROOT / "build" / "bench" / "operator.json"


def day(now: float, shift: int = 0, *, scale: float = 1.0, green_now: bool = False) -> str:
    """A made day in half hours, dirty in the hours ahead, clean half a day from now."""
    rows = ["time,gramsPerKilowattHour"]
    for slot in range(-48, 48):
        at = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(now + slot * 1800))
        clean = slot % 48 < 6 if green_now else 18 + shift <= slot % 48 < 30 + shift
        rows.append(f"{at},{scale * ((80 if clean else 300) + slot * 7 % 11):.2f}")
    return "\n".join(rows)


def gtj(namespace: str, name: str) -> dict[str, Any]:
    body = manifest(schedule={"completeWithin": "36h", "expectedDuration": "2h",
                              "interruptible": True})  # fmt: skip
    body["metadata"] = {"name": name, "namespace": namespace}
    return body


class Cluster:
    """A control plane without a Job controller, and the writes that both sides do."""

    def __init__(self, folder: Path, *, controllers: bool = False, hurried: bool = True) -> None:
        programs = find_programs()
        self.plane = ControlPlane(programs, folder, controllers=controllers, hurried=hurried)
        self.folder = folder
        # Fixed, so that a forecast that is read again tells of the same hours.
        self._now = time.time() // 1800 * 1800
        self.plane.start()
        install_definitions(self.plane.admin)
        admin = self.plane.admin
        admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "green"}})
        self.set_day("day")

    def set_day(self, name: str, shift: int = 0, **made: Any) -> None:
        """Give the zone a trace; under another name it is read at once."""
        meta = {"name": name, "namespace": "green"}
        data = {"day.csv": day(self._now, shift, **made)}
        admin = self.plane.admin
        admin.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})
        trace = {
            "configMapKeyRef": {"name": name, "key": "day.csv"},
            "repeat": "Daily",
            "signal": "AverageLifecycle",
        }
        spec = {"default": True, "sources": [{"trace": trace}]}
        admin.apply({**ZONE, "spec": spec})

    def namespace(self, name: str) -> str:
        admin = self.plane.admin
        admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        admin.create(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": "models", "namespace": name},
                "spec": {
                    "accessModes": ["ReadWriteMany"],
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            }
        )
        return name

    async def _configuration(self) -> Configuration:
        configuration = Configuration(client_session_kwargs={"trust_env": False})
        await load_kube_config(
            config_file=str(self.plane.admin_kubeconfig), client_configuration=configuration
        )
        return configuration

    @asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Plain HTTP as an administrator."""
        configuration = await self._configuration()
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=context)
        async with aiohttp.ClientSession(self.plane.server, connector=connector) as session:
            yield session

    async def api(self) -> Api:
        configuration = await self._configuration()
        limits = RequestLimits(per_second=10_000, burst=10_000)
        return Api(configuration, OperatorMetrics(Metrics().registry), limits, lambda: None)


async def in_parallel(items: list[Any], work: Any, connections: int = CONNECTIONS) -> None:
    queue = list(reversed(items))

    async def one() -> None:
        while queue:
            await work(queue.pop())

    await asyncio.gather(*(one() for _ in range(connections)))


async def load(api: Api, namespace: str, count: int) -> list[dict[str, Any]]:
    """Create jobs; what the server made of them."""
    made = []

    async def create(number: int) -> None:
        made.append(await api.create(JOBS, gtj(namespace, f"job-{number}")))

    await in_parallel(list(range(count)), create)
    return made


async def bare(
    cluster: Cluster, made: list[dict[str, Any]], status: dict[str, Any], event: Any
) -> float:
    """The same writes by a client that knows what to write, and is no more than HTTP; seconds."""
    config = OperatorConfig()
    bodies = [
        _bodies(
            job,
            run_job(GreenTrainingJob.model_validate(job), 1, config, DEFAULT_POWER),
            status,
            event,
        )
        for job in made
    ]
    async with cluster.session() as session:

        async def write(requests: list[tuple[str, str, dict[str, str], Any]]) -> None:
            for method, url, parameters, body in requests:
                content = (
                    "application/apply-patch+yaml" if method == "PATCH" else "application/json"
                )
                headers = {"Content-Type": content}
                async with session.request(
                    method, url, params=parameters, data=json.dumps(body), headers=headers
                ) as answer:
                    answer.raise_for_status()
                    await answer.json()

        began = time.perf_counter()
        await in_parallel(bodies, write)
        return time.perf_counter() - began


def _bodies(
    job: dict[str, Any], run: Any, status: dict[str, Any], event: Any
) -> list[tuple[str, str, dict[str, str], Any]]:
    """The three requests about a job."""
    meta = job["metadata"]
    namespace, name = meta["namespace"], meta["name"]
    applied = {
        "apiVersion": job["apiVersion"],
        "kind": job["kind"],
        "metadata": {k: meta[k] for k in ("name", "namespace", "resourceVersion")},
        "status": status,
    }
    about = {**event, "metadata": {"name": f"{name}.1", "namespace": namespace}}
    about["regarding"] = {
        **event["regarding"],
        **{k: meta[k] for k in ("name", "namespace", "uid")},
    }
    forced = {"fieldManager": FIELD_MANAGER, "force": "true"}
    return [
        ("POST", RUNS.path(namespace), {}, run),
        ("PATCH", JOBS.path(namespace, name, "status"), forced, applied),
        ("POST", EVENTS.path(namespace), {}, about),
    ]


async def count_planned(api: Api, namespace: str) -> int:
    planned = 0
    async for job in api.list(JOBS, namespace):
        planned += job.get("status", {}).get("state") == "Planned"
    return planned


def memory(process: psutil.Process) -> float:
    """Peak resident memory in MB (10^6 bytes) so far."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


async def operator_rate(cluster: Cluster, api: Api, namespace: str, count: int) -> dict[str, float]:
    """Jobs that wait already are planned by a fresh operator: from its first write to its last.

    Its start, with the first lists, is before that.
    """
    await load(api, namespace, count)
    folder = Path(tempfile.mkdtemp(dir=cluster.folder))
    operator = OperatorProcess(cluster.plane, "green", folder, CONFIG, name=f"op-{namespace}")
    operator.start().wait_ready()
    process = psutil.Process(operator.pid)
    await asyncio.to_thread(wait_for_metric, operator, 1)
    began, cpu_before = time.perf_counter(), cpu(process)
    await asyncio.to_thread(wait_for_metric, operator, count)
    seconds = time.perf_counter() - began
    spent = cpu(process) - cpu_before
    peak = memory(process)
    assert await count_planned(api, namespace) == count
    asked = operator.metric("green_api_requests_total") / count
    operator.stop()
    return {
        "rate": count / seconds,
        "cpu_ms": 1000 * spent / count,
        "peak_mb": peak,
        "requests_per_job": asked,
    }


def wait_for_metric(operator: OperatorProcess, count: float, timeout: float = 600) -> None:
    """Until so many statuses and events are written."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if operator.metric("green_api_requests_total", resource="events", verb="POST") >= count:
            return
        time.sleep(0.2)
    raise AssertionError(f"{count} were not reached:\n{operator.tail()}")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--fleet", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--idle-seconds", type=float, default=3600)
    parser.add_argument("--stampede", type=int, default=500)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder))
        try:
            results["alone"] = await compare(cluster, options.jobs, options.repeats)
            results["fleet"] = await fleet(cluster, options)
        finally:
            cluster.plane.stop()
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder), controllers=True, hurried=False)
        try:
            results["job_controller_per_s"] = await job_controller(cluster, options.stampede)
            results["stampede"] = await stampede(cluster, options.stampede)
            results["requests_of_a_life"] = await asyncio.to_thread(life, cluster.plane, folder)
        finally:
            cluster.plane.stop()
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(results, indent=2))
    print(json.dumps(results, indent=2))


async def fleet(cluster: Cluster, options: argparse.Namespace) -> dict[str, float]:
    """Ten thousand that wait: start-up, memory, what it costs to do nothing, a thousand more."""
    api = await cluster.api()
    status, event = await sample(cluster, api)
    namespace = cluster.namespace("fleet")
    await load(api, namespace, options.fleet)
    # Before there is an operator, which would make these jobs' runs too.
    made = await load(api, cluster.namespace("bare-beside"), options.jobs)
    seconds = await bare(cluster, made, status, event)
    await asyncio.to_thread(remove, cluster, "bare-beside")
    made = await load(api, cluster.namespace("bare-fleet"), options.fleet)
    found = {"bare_per_s": options.fleet / await bare(cluster, made, status, event)}
    await asyncio.to_thread(remove, cluster, "bare-fleet")
    folder = Path(tempfile.mkdtemp(dir=cluster.folder))
    operator = OperatorProcess(cluster.plane, "green", folder, CONFIG, name="fleet-first").start()
    operator.wait_ready(timeout=120)
    await asyncio.to_thread(wait_for_metric, operator, 1)
    began = time.perf_counter()
    await asyncio.to_thread(wait_for_metric, operator, options.fleet, 1800)
    found["planned_per_s"] = options.fleet / (time.perf_counter() - began)
    found["planned_ratio"] = found["planned_per_s"] / found["bare_per_s"]
    found["peak_mb_planning"] = memory(psutil.Process(operator.pid))
    operator.stop()

    operator = OperatorProcess(cluster.plane, "green", folder, CONFIG, name="fleet-again").start()
    process = psutil.Process(operator.pid)
    await settle(operator)
    found |= {"startup_cpu_s": cpu(process), "peak_mb_restarted": memory(process)}

    # An hour, with its sweeps and two new forecasts that say nothing new.
    began, before = time.perf_counter(), cpu(process)
    for scale in (1.01, 1.02):
        await asyncio.sleep(options.idle_seconds / 3)
        found["refresh_that_changes_none_cpu_s"] = await refreshed(cluster, operator, scale=scale)
    await asyncio.sleep(max(0.0, began + options.idle_seconds - time.perf_counter()))
    spent = (cpu(process) - before) / (time.perf_counter() - began)
    found["idle_percent_with_two_refreshes"] = 100 * spent
    found["refresh_that_changes_all_cpu_s"] = await refreshed(cluster, operator, shift=5)
    print(json.dumps(found), file=sys.stderr)

    counted = operator.metric("green_api_requests_total", resource="events", verb="POST")
    began = time.perf_counter()
    await load(api, cluster.namespace("beside"), options.jobs)
    await asyncio.to_thread(wait_for_metric, operator, counted + options.jobs)
    rate = options.jobs / (time.perf_counter() - began)
    found |= {"beside_bare": options.jobs / seconds, "beside_rate": rate}
    found |= {"beside_ratio": rate * seconds / options.jobs, "peak_mb": memory(process)}
    operator.stop()
    await api.close()
    return found


async def refreshed(cluster: Cluster, operator: OperatorProcess, **changes: Any) -> float:
    """What a refresh of the forecast costs: CPU seconds."""
    process = psutil.Process(operator.pid)
    before = cpu(process)
    name = "-".join(f"{key}-{value}" for key, value in changes.items())
    cluster.set_day(name, **changes)
    await asyncio.sleep(2)
    await settle(operator)
    return cpu(process) - before


async def settle(operator: OperatorProcess) -> None:
    """Until it has nothing to do for a while."""
    process = psutil.Process(operator.pid)
    quiet = 0
    while quiet < 5:
        before = cpu(process)
        await asyncio.sleep(1)
        quiet = quiet + 1 if cpu(process) - before < 0.05 else 0


async def job_controller(cluster: Cluster, count: int) -> float:
    """Pods a second that Kubernetes' own controller makes by its defaults, without any operator."""
    api = await cluster.api()
    namespace = cluster.namespace("controller")
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "registry.test/c"}]}

    async def create(number: int) -> None:
        meta = {"name": f"bare-{number}", "namespace": namespace}
        spec = {"suspend": True, "template": {"spec": pod}}
        await api.create(
            RUNS, {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec}
        )

    async def let_go(number: int) -> None:
        await api.patch(RUNS, namespace, f"bare-{number}", {"spec": {"suspend": False}})

    await in_parallel(list(range(count)), create)
    began = time.perf_counter()
    await in_parallel(list(range(count)), let_go)
    ended = await until(lambda: count_pods(api, namespace), count)
    await asyncio.to_thread(remove, cluster, namespace)
    await api.close()
    return count / (ended - began)


def life(plane: ControlPlane, folder: str) -> dict[str, int]:
    """Requests about one job that is deferred, suspended once and succeeds; its lists are shared."""
    name = "life"
    plane.admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    proxy = ApiProxy(plane.server, plane.authority)
    kubelet = FakeKubelet(plane.admin, Path(folder), namespaces=(name,))
    proxy.start()
    kubelet.start()
    world = World(plane, name, kubelet, Path(folder))
    try:
        world.set_zone()
        world.add_node()
        lived = Life(world, proxy)
        lived.run()
        lived.check()
    finally:
        world.close()
        kubelet.stop()
        proxy.stop()
    about = [r for r in proxy.requests if f"/{name}/" in r.path and "/leases" not in r.path]
    return dict(Counter(r.shape for r in about if r.is_write or r.shape.endswith("*")))


async def stampede(cluster: Cluster, count: int) -> dict[str, float]:
    """All start at one green hour, by default settings: how long until they have pods.

    A latest start leaves the outage margin, so that nothing is late that waits no longer than that.
    """
    api = await cluster.api()
    namespace = cluster.namespace("stampede")
    folder = Path(tempfile.mkdtemp(dir=cluster.folder))
    operator = OperatorProcess(cluster.plane, "green", folder, {}, name="stampede").start()
    operator.wait_ready()
    await load(api, namespace, count)
    await asyncio.to_thread(wait_for_metric, operator, count)
    cluster.set_day("now", green_now=True)
    began = time.perf_counter()
    released = await until(lambda: count_runs(api, namespace), count)
    pods = await until(lambda: count_pods(api, namespace), count)
    margin = OperatorConfig().outage_margin.total_seconds()
    operator.stop()
    await api.close()
    assert pods - began < margin, "the last of them would miss its deadline"
    return {
        "released_s": released - began,
        "all_have_pods_s": pods - began,
        "outage_margin_s": margin,
    }


async def until(counted: Any, count: int) -> float:
    while await counted() < count:
        await asyncio.sleep(0.5)
    return time.perf_counter()


async def count_runs(api: Api, namespace: str) -> int:
    return sum([not run["spec"]["suspend"] async for run in api.list(RUNS, namespace)])


async def count_pods(api: Api, namespace: str) -> int:
    return sum([True async for _ in api.list(PODS, namespace)])


async def compare(cluster: Cluster, count: int, repeats: int) -> dict[str, Any]:
    api = await cluster.api()
    status, event = await sample(cluster, api)
    rows = []
    for repeat in range(repeats):
        namespace = cluster.namespace(f"bare-{repeat}")
        made = await load(api, namespace, count)
        seconds = await bare(cluster, made, status, event)
        await asyncio.to_thread(remove, cluster, namespace)
        namespace = cluster.namespace(f"operator-{repeat}")
        measured = await operator_rate(cluster, api, namespace, count)
        await asyncio.to_thread(remove, cluster, namespace)
        row = {"bare": count / seconds, **measured}
        row["ratio"] = row["rate"] / row["bare"]
        rows.append(row)
        print(json.dumps(row), file=sys.stderr)
    await api.close()
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def remove(cluster: Cluster, namespace: str) -> None:
    """Delete jobs and runs of a namespace: the next repeat begins on the same ground."""
    for resource in ("gtj", "jobs", "events"):
        cluster.plane.kubectl("delete", resource, "--all", "-n", namespace, "--wait=false",
                              "--cascade=background")  # fmt: skip


async def sample(cluster: Cluster, api: Api) -> tuple[dict[str, Any], dict[str, Any]]:
    """A status and an event as the operator writes them."""
    namespace = cluster.namespace(f"sample-{time.monotonic_ns()}")
    await operator_rate(cluster, api, namespace, 1)
    job = await api.get(JOBS, namespace, "job-0")
    events = [event async for event in api.list(EVENTS, namespace)]
    assert job is not None
    event = {k: v for k, v in events[0].items() if k != "metadata"}
    await asyncio.to_thread(remove, cluster, namespace)
    return job["status"], event


if __name__ == "__main__":
    asyncio.run(main())
