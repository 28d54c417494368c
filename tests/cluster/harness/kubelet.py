"""Scheduler and kubelet in one: takes the pods of jobs through their lives as their scripts say."""

from __future__ import annotations

import itertools
import threading
import traceback
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address
from pathlib import Path
from random import SystemRandom
from typing import Final
from uuid import uuid4

from green_api.contract import DEFAULT_PORT, PORT_ENV
from green_jobs.supervisor import now

from tests.cluster.harness.answers import Endpoint
from tests.cluster.harness.client import NODES, PODS, SECRETS, ApiError, Client, Object
from tests.cluster.harness.container import Claim, Container, Truth
from tests.cluster.harness.feed import UNREACHABLE, PodFeed
from tests.cluster.harness.pods import (
    FakePod,
    ended_status,
    running_status,
    unschedulable_status,
    waiting_status,
)
from tests.cluster.harness.podspec import (
    DocumentError,
    environment,
    find_node,
    gpus_of,
    read_document,
)
from tests.cluster.harness.script import Death, Pending, Script
from tests.cluster.harness.waiting import wait_for

JOB_LABEL: Final = "greentraining.io/job"
ROLE_LABEL: Final = "greentraining.io/role"
POD_NETWORK: Final = "127.64.0.0/10"
"""All of 127.0.0.0/8 is this machine, so each pod has an address of its own without any set-up."""
_TICK_SECONDS: Final = 0.05
_ADDRESSES: Final = itertools.count(SystemRandom().randrange(1, 2**21))


@dataclass(frozen=True)
class FakeNode:
    """A node that exists in the API only."""

    name: str
    labels: Mapping[str, str]
    gpus: int | None
    """How many may be in use; None is no limit."""


class FakeKubelet:
    """Runs the pods with a job's label that no other kubelet has taken.

    Scripts and commands go by the label's value, the job's name; of a federated job's pods by
    ``JOB/ROLE``.

    Args:
        client: an administrator's.
        folder: for what stands for the jobs' claims.
        namespaces: whose pods it runs; None is all.
        label: the label that names a pod's job.

    """

    def __init__(
        self,
        client: Client,
        folder: Path,
        *,
        namespaces: Collection[str] | None = None,
        label: str = JOB_LABEL,
    ) -> None:
        self.scripts: dict[str, Script] = {}
        """By job; may be changed at any time, attempts take theirs when they start."""
        self.default = Script()
        self.nodes: list[FakeNode] = []
        self.pods: list[FakePod] = []
        """All that were ever seen, oldest first."""
        self.errors: list[str] = []
        """Mistakes of the harness or of a pod's template; ``stop`` fails where there is one."""
        self._client = client
        self._folder = folder
        self._label = label
        self._claims: dict[tuple[str, str], Claim] = {}
        self._by_uid: dict[str, FakePod] = {}
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._feed = PodFeed(client, label, namespaces, self._wake)
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)

    # -- tests say what is there and what happens

    def start(self) -> None:
        if not self.nodes:
            self.add_node()
        self._feed.start()
        self._thread.start()

    def stop(self) -> None:
        """End all pods and take the nodes away."""
        self._feed.stop()
        self._stopped.set()
        self._wake.set()
        self._thread.join(10)
        for pod in self._by_uid.values():
            self._clear(pod)
        for node in self.nodes:
            with suppress(ApiError, *UNREACHABLE):
                self._client.delete(NODES, node.name)
        assert not self.errors, "\n".join(self.errors)

    def add_node(
        self, labels: Mapping[str, str] | None = None, *, gpus: int | None = None, name: str = ""
    ) -> FakeNode:
        """A node that is ready; pods go to the first that their selectors and GPUs fit."""
        node = FakeNode(name or f"node-{uuid4().hex[:8]}", labels or {}, gpus)
        amounts = {"cpu": "64", "memory": "512Gi", "pods": "1000"}
        if gpus is not None:
            amounts["nvidia.com/gpu"] = str(gpus)
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        self._client.create(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": node.name,
                    "labels": {"kubernetes.io/hostname": node.name, **node.labels},
                },
            }
        )
        self._client.patch_status(
            NODES,
            node.name,
            {"capacity": amounts, "allocatable": amounts, "conditions": [ready]},
        )
        self.nodes.append(node)
        return node

    def script(self, job: str) -> Script:
        return self.scripts.get(job, self.default)

    def pods_of(self, job: str) -> list[FakePod]:
        """Its pods, oldest first."""
        return [pod for pod in self.pods if pod.job == job]

    def running(self, job: str) -> FakePod | None:
        """The pod that the server was told runs."""
        return next((pod for pod in self.pods_of(job) if pod.is_running), None)

    def wait_running(self, job: str, timeout: float = 60) -> FakePod:
        pod: FakePod = wait_for(
            lambda: self.running(job),
            timeout,
            f"a running pod of {job}",
            seen=lambda: [(pod.name, pod.told) for pod in self.pods],
        )
        return pod

    def finish(self, job: str, code: int = 0) -> None:
        """End its running attempt now."""
        self._container(job).finish(code)

    def vanish(self, job: str) -> None:
        """Delete its running pod with grace 0 and without any status."""
        pod = self.running(job)
        assert pod is not None, f"no pod of {job} runs"
        self._vanish(pod)

    def evict(self, job: str) -> None:
        """Drain its running pod by the eviction API: a disruption, no failure."""
        pod = self.running(job)
        assert pod is not None, f"no pod of {job} runs"
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod.name, "namespace": pod.namespace},
        }
        self._client.request("POST", PODS.path(pod.namespace, pod.name, "eviction"), body)

    def lose_node(self, job: str) -> None:
        """The node of its running pod dies: the pod stays as it is, whoever deletes it."""
        self._container(job).lose(now())

    def truth(self, job: str) -> list[Truth]:
        """Of all attempts, oldest first; of those that go on, up to this moment."""
        return [pod.container.truth for pod in self.pods_of(job) if pod.container is not None]

    def joules(self, job: str) -> float:
        """All that the hardware used for a job."""
        return sum(truth.total for truth in self.truth(job))

    def claim(self, job: str, namespace: str = "") -> Path:
        """The folder that stands for its claim's root."""
        return next(
            claim.root
            for (where, name), claim in self._claims.items()
            if name == job and namespace in ("", where)
        )

    def _container(self, job: str) -> Container:
        pod = self.running(job)
        assert pod is not None, f"no pod of {job} runs"
        assert pod.container is not None
        return pod.container

    # -- what the kubelet does

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._wake.wait(_TICK_SECONDS)
            self._wake.clear()
            self._take_in()
            for pod in list(self._by_uid.values()):
                self._guarded_step(pod)

    def _take_in(self) -> None:
        for kind, item in self._feed.take():
            uid = item["metadata"]["uid"]
            if uid not in self._by_uid:
                if kind == "DELETED":
                    continue
                labels = item["metadata"]["labels"]
                role = labels.get(ROLE_LABEL)
                job = labels[self._label] + (f"/{role}" if role else "")
                self._by_uid[uid] = FakePod(item, job)
                self.pods.append(self._by_uid[uid])
            pod = self._by_uid[uid]
            pod.object = item
            if kind == "DELETED":
                self._end_abruptly(pod)
                del self._by_uid[uid]

    def _guarded_step(self, pod: FakePod) -> None:
        try:
            self._step(pod)
        except ApiError as error:
            if error.status in (404, 409):  # gone, or another with its name
                return
            if error.status < 500 and error.status != 429:
                self.errors.append(f"{pod.name}: {error}")
        except UNREACHABLE:
            self._stopped.wait(0.2)
        except Exception:
            self.errors.append(f"{pod.name}: {traceback.format_exc()}")
            pod.is_gone = True

    def _step(self, pod: FakePod) -> None:
        if pod.is_gone:
            return
        if not pod.node:
            if not pod.is_deleted:
                self._schedule(pod)
        elif any(node.name == pod.node for node in self.nodes):
            self._run_pod(pod)

    def _schedule(self, pod: FakePod) -> None:
        if self.script(pod.job).pending is Pending.UNSCHEDULABLE:
            return self._tell(
                pod,
                "Unschedulable",
                unschedulable_status("0/1 nodes are available: 1 Insufficient cpu."),
            )
        node = find_node(pod.object["spec"], self.nodes, self._gpus_in_use())
        if node is None:
            count = len(self.nodes)
            text = f"0/{count} nodes are available: {count} node(s) didn't match Pod's node affinity/selector."
            return self._tell(pod, "Unschedulable", unschedulable_status(text))
        if pod.told != "Bound":
            target = {"apiVersion": "v1", "kind": "Node", "name": node.name}
            meta = {"name": pod.name, "uid": pod.uid}
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": meta, "target": target}
            self._client.request("POST", PODS.path(pod.namespace, pod.name, "binding"), binding)
            pod.told = "Bound"
            pod.object["spec"]["nodeName"] = node.name
        return None

    def _gpus_in_use(self) -> dict[str, int]:
        used: dict[str, int] = {}
        for pod in self._by_uid.values():
            if pod.node and not (pod.container and pod.container.has_ended):
                used[pod.node] = used.get(pod.node, 0) + gpus_of(pod.object["spec"])
        return used

    def _run_pod(self, pod: FakePod) -> None:
        container = pod.container
        if container is None:
            if pod.is_deleted:
                self._tell(pod, "Failed", {"phase": "Failed"})
                self._remove(pod)
            elif not self._stays_pending(pod):
                self._start(pod)
            return
        if not container.has_ended and not container.is_lost:
            if pod.told != "Running":
                self._tell(pod, "Running", running_status(pod))
            if pod.is_deleted:
                container.stop(now(), pod.object["metadata"]["deletionGracePeriodSeconds"])
            container.tick(now())
        if container.has_ended:
            self._end(pod, container)

    def _stays_pending(self, pod: FakePod) -> bool:
        script = self.script(pod.job)
        if script.pending is None:
            created = datetime.fromisoformat(pod.object["metadata"]["creationTimestamp"])
            return (now().time - created).total_seconds() < script.start_seconds
        reason = script.pending.value
        is_pulling = script.pending is Pending.IMAGE_PULL_BACK_OFF
        image = pod.object["spec"]["containers"][0]["image"]
        message = f'Back-off pulling image "{image}"' if is_pulling else ""
        self._tell(pod, reason, waiting_status(pod, reason, message))
        return True

    def _start(self, pod: FakePod) -> None:
        script = self.script(pod.job)
        self._check_secrets(pod)
        try:
            document = read_document(pod.object, pod.job)
        except DocumentError as error:
            self.errors.append(f"{pod.name}: {error}")
            pod.is_gone = True
            return
        port = int(environment(pod.object["spec"]).get(PORT_ENV) or DEFAULT_PORT)
        claim = self._claim_of(pod, has_claim=script.has_claim)
        container = Container(pod.uid, pod.name, script, claim, document, port, now())
        endpoint = Endpoint(container, _next_address(), port)
        while not endpoint.open():
            endpoint = Endpoint(container, _next_address(), port)
        pod.endpoint, pod.container = endpoint, container

    def _check_secrets(self, pod: FakePod) -> None:
        """What a pod mounts has to be there before it."""
        for volume in pod.object["spec"].get("volumes", []):
            name = volume.get("secret", {}).get("secretName")
            if name is not None and not self._client.find(SECRETS, name, pod.namespace):
                self.errors.append(f"{pod.name}: there is no Secret {name}")

    def _claim_of(self, pod: FakePod, *, has_claim: bool) -> Claim:
        if not has_claim:
            return Claim(self._folder / pod.uid)
        key = (pod.namespace, pod.job)
        return self._claims.setdefault(key, Claim(self._folder / "-".join(key)))

    def _end(self, pod: FakePod, container: Container) -> None:
        if pod.endpoint is not None:
            pod.endpoint.close()
        if container.script.death is Death.VANISHES:
            self._erase(pod)
        elif pod.told != "Ended":
            self._tell(pod, "Ended", ended_status(pod))
        if pod.is_deleted and not pod.is_gone:
            self._remove(pod)

    def _tell(self, pod: FakePod, state: str, status: Object) -> None:
        """Patch the status once per state."""
        if pod.told == state:
            return
        patch = {"metadata": {"uid": pod.uid}, "status": status}
        self._client.patch(
            PODS, pod.name, patch, pod.namespace, subresource="status", how="strategic"
        )
        pod.told = state

    def _vanish(self, pod: FakePod) -> None:
        if pod.container is not None:
            pod.container.kill(now())
        if pod.endpoint is not None:
            pod.endpoint.close()
        self._erase(pod)

    def _erase(self, pod: FakePod) -> None:
        """Delete it under the hands of the Job controller, which else keeps it until it has failed."""
        self._remove(pod)
        patch = {"metadata": {"uid": pod.uid, "finalizers": None}}
        with suppress(ApiError):  # gone already
            self._client.patch(PODS, pod.name, patch, pod.namespace)

    def _remove(self, pod: FakePod) -> None:
        self._client.delete(PODS, pod.name, pod.namespace, grace_seconds=0, uid=pod.uid)
        pod.is_gone = True

    def _end_abruptly(self, pod: FakePod) -> None:
        """The object is gone: whatever still ran is killed, as a kubelet does."""
        pod.is_gone = True
        if pod.container is not None and not pod.container.is_lost:
            pod.container.kill(now())
        if pod.endpoint is not None:
            pod.endpoint.close()

    def _clear(self, pod: FakePod) -> None:
        if pod.endpoint is not None:
            pod.endpoint.close()
        if pod.node:
            with suppress(ApiError, *UNREACHABLE):
                self._erase(pod)


def _next_address() -> str:
    return str(IPv4Address("127.64.0.0") + next(_ADDRESSES))
