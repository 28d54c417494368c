"""The operator as its own process, with its own account and just the rules that it ships."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.harness.control_plane import ControlPlane
from tests.cluster.harness.processes import free_port
from tests.cluster.harness.waiting import wait_for

ROOT = Path(__file__).resolve().parents[3]
ACCOUNT = "green-training-operator"
SHORT: Mapping[str, Any] = {
    "podNetworks": ["127.64.0.0/10"],
    "journalInterval": "1s",
    "progressInterval": "1s",
    "resyncInterval": "5s",
    "requests": {"perSecond": 500, "burst": 500},
}
"""A configuration in which minutes are seconds."""


def rules() -> dict[str, list[dict[str, Any]]]:
    """What the chart grants."""
    text = (ROOT / "charts/green-training/files/rules.yaml").read_text()
    loaded: dict[str, list[dict[str, Any]]] = yaml.safe_load(text)
    return loaded


def grant(
    plane: ControlPlane, namespace: str, account: str = ACCOUNT, watched: Sequence[str] = ()
) -> None:
    """Give the operator's account what the chart gives it, and nothing else.

    Args:
        plane: the cluster.
        namespace: the operator's own.
        account: its name.
        watched: the namespaces whose jobs it may run; none named: all.

    """
    granted = rules()
    everywhere = granted["cluster"] + ([] if watched else granted["watchedNamespaces"])
    plane.kubeconfig_for(account, namespace, everywhere)
    bind_in(plane, namespace, account, namespace, granted["ownNamespace"])
    for each in watched:
        bind_in(plane, namespace, account, each, granted["watchedNamespaces"], "-jobs")
    wait_for(
        lambda: is_allowed(plane, namespace, granted["ownNamespace"][0], namespace, account),
        what="the rules hold",
    )
    for each in watched or [namespace]:
        wait_for(
            lambda where=each: is_allowed(
                plane, namespace, granted["watchedNamespaces"][0], where, account
            ),
            what="the rules hold",
        )


def bind_in(
    plane: ControlPlane,
    namespace: str,
    account: str,
    where: str,
    granted: Sequence[Mapping[str, Any]],
    suffix: str = "",
) -> None:
    """Give an account rules in one namespace, by a Role and a RoleBinding of its name."""
    group = "rbac.authorization.k8s.io"
    meta = {"name": account + suffix, "namespace": where}
    role = {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": meta}
    plane.admin.apply(role | {"rules": list(granted)})
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": meta,
        "roleRef": {"apiGroup": group, "kind": "Role", "name": account + suffix},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    }
    plane.admin.apply(binding)


def is_allowed(
    plane: ControlPlane, namespace: str, rule: Mapping[str, Any], where: str, account: str
) -> bool:
    """Whether the API server knows of a rule yet: its authorizer learns of bindings by a watch."""
    asked = {
        "namespace": where,
        "group": rule["apiGroups"][0],
        "resource": rule["resources"][0],
        "verb": rule["verbs"][0],
    }
    user = f"system:serviceaccount:{namespace}:{account}"
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": asked},
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    return bool(plane.admin.request("POST", path, review)["status"]["allowed"])


class OperatorProcess:
    """One replica; killed, stopped and continued at will."""

    def __init__(
        self,
        plane: ControlPlane,
        namespace: str,
        folder: Path,
        config: Mapping[str, Any] = SHORT,
        name: str = "operator",
        server: str = "",
        account: str = ACCOUNT,
        watched: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.namespace = namespace
        self.port = free_port()
        self.log = folder / f"{name}.log"
        self._config = folder / f"{name}.yaml"
        self._config.write_text(yaml.safe_dump(dict(config)))
        grant(plane, namespace, account, watched)
        self._kubeconfig = plane.kubeconfig_for(account, namespace, server=server)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> OperatorProcess:
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("KUBERNETES_")},
            "KUBECONFIG": str(self._kubeconfig),
            "GREEN_CONFIG": str(self._config),
            "POD_NAMESPACE": self.namespace,
            "POD_NAME": self.name,
            "PYTHONUNBUFFERED": "1",
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "green_operator.main",
                 "--port", str(self.port)],
                env=environment, stdout=log, stderr=log,
            )  # fmt: skip
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def stop(self, timeout: float = 60) -> int:
        """End it in order; its exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def wait_ready(self, timeout: float = 180) -> OperatorProcess:
        """Until it says that it is ready."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self._process is not None and self._process.poll() is not None:
                break
            if self.get("/readyz") is not None:
                return self
            time.sleep(0.1)
        raise AssertionError(f"{self.name} is not ready:\n{self.tail()}")

    def get(self, path: str) -> str | None:
        """The body of a page; None where it answers with an error or not at all."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as page:
                return str(page.read().decode())
        except (TimeoutError, urllib.error.URLError, OSError):
            return None

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        total = 0.0
        for line in (self.get("/metrics") or "").splitlines():
            sample, _, value = line.rpartition(" ")
            metric, _, given = sample.partition("{")
            if metric == name and all(f'{k}="{v}"' in given for k, v in labels.items()):
                total += float(value)
        return total

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
