"""A cluster of one real node with the chart installed, and what a person does with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import yaml
from green_api.contract import DEFAULT_PORT, PROGRESS_PATH

from tests.chart.helm import CHART, Helm
from tests.cluster.harness.client import (
    GREEN_JOBS,
    JOBS,
    PODS,
    SERVICE_ACCOUNTS,
    Client,
    Object,
)
from tests.cluster.harness.control_plane import ControlPlane
from tests.cluster.harness.waiting import wait_for
from tests.node.harness.images import JOBS as JOBS_IMAGE
from tests.node.harness.images import OPERATOR
from tests.node.harness.node import NAME as NODE
from tests.node.harness.node import Node
from tests.node.harness.room import Room

OPERATOR_NAMESPACE: Final = "green"
TEAM: Final = "team"
RELEASE: Final = "green-training"
JOB_LABEL: Final = "greentraining.io/job"
_SIGNAL: Final = "AverageLifecycle"
_TORCH: Final[dict[str, Any]] = {"name": "torch", "mountPath": "/opt/torch", "readOnly": True}
_RESTRICTED: Final = {"pod-security.kubernetes.io/enforce": "restricted"}
_CONFIG: Final = {
    "jobs": {
        "image": JOBS_IMAGE.name,
        # PyTorch is 5 GB: the image goes without, the claim holds this environment's copy.
        "volumes": [
            {"name": "torch", "persistentVolumeClaim": {"claimName": "torch", "readOnly": True}}
        ],
        "volumeMounts": [_TORCH],
    },
    # Minutes are seconds.
    "journalInterval": "2s",
    "progressInterval": "1s",
    "resyncInterval": "30s",
}


def static(grams: float) -> Object:
    return {"static": {"gramsPerKilowattHour": grams, "signal": _SIGNAL}}


class Cluster:
    """What a test works with."""

    def __init__(self, plane: ControlPlane, room: Room, node: Node, helm: Helm) -> None:
        self.plane = plane
        self.room = room
        self.node = node
        self.admin: Client = plane.admin
        self._helm = helm

    def kubectl(self, *arguments: str, **options: Any) -> str:
        return self.plane.kubectl(*arguments, **options)

    def helm(self, *arguments: object) -> str:
        options = ("--namespace", OPERATOR_NAMESPACE)
        return self._helm.run(*arguments, *options, kubeconfig=self.plane.admin_kubeconfig)

    # -- what an administrator does

    def add_namespaces(self) -> None:
        for name in (OPERATOR_NAMESPACE, TEAM):
            meta = {"name": name, "labels": _RESTRICTED}
            self.admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        for name in (OPERATOR_NAMESPACE, TEAM):
            wait_for(
                lambda name=name: self.admin.find(SERVICE_ACCOUNTS, "default", name),
                what=f"the default service account of {name}",
            )

    def install(self, chart: Path = CHART) -> str:
        """A chart, or a newer one over it, with images of this checkout; what helm prints."""
        repository, _, tag = OPERATOR.name.rpartition(":")
        values = {
            "image": {"repository": repository, "tag": tag},
            "config": _CONFIG,
            # The bridge plugin does not enforce them; policies.py does, in one test.
            "networkPolicy": {
                "enabled": True,
                # As seen behind the translation of the Service.
                "apiServer": {"ports": [int(self.plane.server.rpartition(":")[2])]},
                "jobs": {"namespaces": [TEAM]},
            },
        }
        options = ("--install", "--wait", "--timeout", "180s", *self._helm.given(values))
        return self.helm("upgrade", RELEASE, chart, *options)

    def add_torch(self) -> None:
        """This environment's packages as a claim that many may read; the image's own go before."""
        packages = sysconfig.get_path("purelib")
        volume = {
            "hostPath": {"path": packages, "type": "Directory"},
            "claimRef": {"namespace": TEAM, "name": "torch"},
        }
        self._add_volume("torch", volume, "ReadOnlyMany", "")

    def add_claim(self, name: str) -> Path:
        """A claim that is bound once a pod needs it, as most are; its folder on this machine."""
        folder = self.room.folder / "volumes" / name
        folder.mkdir(parents=True)
        here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}
        terms = [{"matchExpressions": [here]}]
        volume = {
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
            "claimRef": {"namespace": TEAM, "name": name},
        }
        self._add_volume(name, volume, "ReadWriteOnce", "local")
        return folder

    def _add_volume(self, name: str, volume: Object, mode: str, storage_class: str) -> None:
        common = {"accessModes": [mode], "storageClassName": storage_class}
        self.apply(
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {"name": "local"},
                "provisioner": "kubernetes.io/no-provisioner",
                "volumeBindingMode": "WaitForFirstConsumer",
            },
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": name},
                "spec": {"capacity": {"storage": "1Gi"}, **common, **volume},
            },
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": TEAM},
                "spec": {"resources": {"requests": {"storage": "1Gi"}}, **common},
            },
        )

    def set_grid(self, source: Object) -> None:
        """What the only zone, that of the node, says."""
        self.apply(
            {
                "apiVersion": "greentraining.io/v1alpha1",
                "kind": "GridZone",
                "metadata": {"name": "gb"},
                "spec": {"default": True, "sources": [source]},
            }
        )

    def set_trace(self, name: str, grams: list[float]) -> Object:
        """Intensities hour by hour from the present hour on; the source."""
        begin = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        rows = [f"{(begin + timedelta(hours=i)).isoformat()},{g}" for i, g in enumerate(grams)]
        text = "\n".join(["time,gramsPerKilowattHour", *rows])
        meta = {"name": name, "namespace": OPERATOR_NAMESPACE}
        self.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"day.csv": text}}
        )
        return {"trace": {"configMapKeyRef": {"name": name, "key": "day.csv"}, "signal": _SIGNAL}}

    def apply(self, *documents: Object) -> None:
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))

    # -- what a person does

    def create(self, job: Object) -> None:
        self.apply(job)

    @cached_property
    def _author(self) -> Path:
        """The kubeconfig of who may change what is in the team's namespace, and no more."""
        self.kubectl(
            "create", "rolebinding", "author", "-n", TEAM, "--clusterrole=edit", "--user=ada"
        )
        return self.plane.kubeconfig("ada")

    def green(self, *arguments: str, folder: Path | None = None) -> str:
        """What ``kubectl green`` prints for an author of jobs."""
        path = f"{self.plane.programs['kubectl'].parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "KUBECONFIG": str(self._author)}
        command = [str(Path(sys.executable).with_name("kubectl-green")), *arguments, "-n", TEAM]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def has_module(self, namespace: str, pod: str, module: str) -> bool:
        """Whether the image of a pod has a Python module; what is mounted beside PyTorch is not its."""
        code = f"import importlib.util as u; s = u.find_spec({module!r}); print(s and s.origin)"
        origin = self.kubectl("exec", "-n", namespace, pod, "--", "python", "-c", code).strip()
        return origin != "None" and not origin.startswith(_TORCH["mountPath"])

    def reachable(self, namespace: str, pod: str, targets: Sequence[tuple[str, int]]) -> list[bool]:
        """To which targets a pod can open a connection; what answers by a refusal is reached."""
        code = (
            "import socket, sys\n"
            "from concurrent.futures import ThreadPoolExecutor\n"
            "def reach(target):\n"
            "    host, _, port = target.partition(':')\n"
            "    try: socket.create_connection((host, int(port)), 5)\n"
            "    except ConnectionRefusedError: pass\n"
            "    except TimeoutError: return 'lost'\n"
            "    return 'reached'\n"
            "print(*ThreadPoolExecutor().map(reach, sys.argv[1:]))\n"
        )
        ends = [f"{address}:{port}" for address, port in targets]
        said = self.kubectl("exec", "-n", namespace, pod, "--", "python", "-c", code, *ends)
        return [word == "reached" for word in said.split()]

    def suspend(self, name: str, value: bool) -> None:
        patch = json.dumps({"spec": {"suspend": value}})
        self.kubectl("patch", "gtj", name, "-n", TEAM, "--type=merge", "-p", patch)

    # -- what is seen

    def status(self, name: str) -> Object:
        return dict(self.admin.get(GREEN_JOBS, name, TEAM).get("status") or {})

    def condition(self, name: str, kind: str) -> Object:
        found = [c for c in self.status(name).get("conditions", ()) if c["type"] == kind]
        return found[0] if found else {}

    def runs(self, name: str) -> list[Object]:
        return self.admin.list(JOBS, TEAM, labels=f"{JOB_LABEL}={name}")

    def pods(self, name: str) -> list[Object]:
        return self.admin.list(PODS, TEAM, labels=f"{JOB_LABEL}={name}")

    def operator_pods(self) -> list[Object]:
        labels = "app.kubernetes.io/component=operator"
        return self.admin.list(PODS, OPERATOR_NAMESPACE, labels=labels)

    def logs(self, name: str) -> str:
        """What a job's attempts have printed, from its claim: pods go with a suspension."""
        folder = next((self.room.folder / "volumes").glob(f"*/{name}-*"), None)
        files = sorted(folder.glob("logs/*"), key=lambda f: f.stat().st_mtime) if folder else []
        return "\n".join(f"--- {file.name}\n{file.read_text()}" for file in files)

    def wait(self, name: str, state: str, timeout: float = 180) -> Object:
        """Until the job is in a state; its status then."""
        wait_for(
            lambda: self.status(name).get("state") == state,
            timeout,
            f"{name} is {state}",
            seen=lambda: self.explain(name),
            pause=0.2,
        )
        return self.status(name)

    def wait_condition(self, name: str, kind: str, reason: str, timeout: float = 180) -> Object:
        wait_for(
            lambda: self.condition(name, kind).get("reason") == reason,
            timeout,
            f"{name}: {kind} {reason}",
            seen=lambda: self.explain(name),
            pause=0.2,
        )
        return self.condition(name, kind)

    def wait_progress(self, name: str, at_least: float = 0, timeout: float = 180) -> float:
        """Until the running pod has told that it is so far; the percentage that it told."""
        found: list[float] = []

        def is_so_far() -> bool:
            percentage = self._percentage(name)
            found[:] = [] if percentage is None else [percentage]
            return percentage is not None and percentage >= at_least

        wait_for(is_so_far, timeout, f"{name} is at {at_least} %", seen=lambda: self.explain(name))
        return found[0]

    def _percentage(self, name: str) -> float | None:
        """As the operator asks for it; None while no pod has told."""
        addresses = [pod["status"].get("podIP") for pod in self.pods(name) if _is_running(pod)]
        if not addresses:
            return None
        return self.asked(addresses[0]).get("percentage")

    def asked(self, address: str) -> Object:
        """The progress that a pod tells, asked for by the operator's pod, which policies allow."""
        code = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"
        url = f"http://{address}:{DEFAULT_PORT}{PROGRESS_PATH}?after=0"
        operator = self.operator_pods()[0]["metadata"]["name"]
        inside = ("exec", "-n", OPERATOR_NAMESPACE, operator, "--")
        progress: Object = json.loads(self.kubectl(*inside, "python", "-c", code, url))["progress"]
        return progress

    def explain(self, name: str) -> str:
        """All that may tell why something did not come."""
        pods = self.kubectl("get", "pods", "-A", "-o", "wide", check=False)
        described = self.kubectl(
            "describe", "pods", "-n", TEAM, "-l", f"{JOB_LABEL}={name}", check=False
        )
        events = self.kubectl("get", "events", "-n", TEAM, check=False)
        status = yaml.safe_dump(self.status(name))
        parts = [
            status,
            pods,
            described[-6000:],
            events[-4000:],
            self.logs(name)[-4000:],
            self.operator_log(),
        ]
        return "\n".join(parts)

    def operator_log(self) -> str:
        labels = "app.kubernetes.io/component=operator"
        return self.kubectl(
            "logs", "-n", OPERATOR_NAMESPACE, "-l", labels, "--tail=25", "--prefix", check=False
        )


def _is_running(pod: Object) -> bool:
    is_deleted = "deletionTimestamp" in pod["metadata"]
    return pod["status"].get("phase") == "Running" and not is_deleted
