"""etcd, kube-apiserver and kube-controller-manager as plain processes in a temporary folder."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tests.cluster.harness.audit import POLICY, AuditLog, service_account_user
from tests.cluster.harness.client import CLUSTER_ROLE_BINDINGS, ApiError, Client, Object
from tests.cluster.harness.pki import Authority
from tests.cluster.harness.processes import Process, free_port
from tests.cluster.harness.programs import Programs

# Those that a job's life needs. None that acts on nodes: no node here sends a heartbeat.
_CONTROLLERS: Final = (
    "job-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "ttl-after-finished-controller",
    "clusterrole-aggregation-controller",
    # Else a claim keeps its namespace for ever, and the server busy with trying to delete it.
    "persistentvolumeclaim-protection-controller",
)


_LOOPBACK: Final = "127.0.0.1"
_MASTERS: Final = ("system:masters",)
_SERVICE_ADDRESS: Final = "10.96.0.1"  # the first of the Services' range is the server's own
_WITHOUT_NODES: Final = (
    "--authorization-mode=RBAC",
    # Nobody asks for it here, but the server insists on one that is not loopback.
    "--advertise-address=192.0.2.1",
    "--endpoint-reconciler-type=none",
)


class ControlPlane:
    """A real API server with RBAC, its store and the Job controller.

    Args:
        programs: what to run.
        folder: keys, logs and data.
        controllers: False leaves the controller manager out.
        hurried: the controllers may ask more often than by default, so that tests wait less.
        address: where it listens; one that real nodes reach makes it serve nodes, with all
            controllers and what it needs to ask kubelets.

    """

    def __init__(
        self,
        programs: Programs,
        folder: Path,
        *,
        controllers: bool = True,
        hurried: bool = True,
        address: str = _LOOPBACK,
    ) -> None:
        self.programs = programs
        self.folder = folder
        self._authority = Authority(folder / "pki")
        self._etcd_port, self._etcd_peer_port = free_port(), free_port()
        self._address = address
        self._has_nodes = address != _LOOPBACK
        self._hurried = hurried
        self.server = f"https://{address}:{free_port()}"
        self.authority = self._authority.certificate
        self._signing_key = self._authority.make_key("service-accounts")
        self.audit = AuditLog(folder / "audit.log")
        self._unready: list[tuple[datetime, datetime]] = []
        self.admin_kubeconfig = self.kubeconfig("admin", groups=_MASTERS)
        self.admin = Client.from_kubeconfig(self.admin_kubeconfig)
        self.etcd = self._make_etcd()
        self.apiserver = self._make_apiserver()
        self.controller_manager = self._make_controller_manager() if controllers else None

    def start(self) -> None:
        """Return once it serves; fail with the end of a log where it does not."""
        self.etcd.start()
        self.etcd.wait_ready(self._etcd_is_healthy)
        self.start_apiserver()
        if self.controller_manager is not None:
            self.controller_manager.start()

    def stop(self) -> None:
        self.admin.close()
        for process in (self.controller_manager, self.apiserver, self.etcd):
            if process is not None:
                # Nothing here outlives the folder, and the API server takes its time to say goodbye.
                process.kill()

    def start_apiserver(self) -> None:
        began = datetime.now(UTC)
        self.apiserver.start()
        self.apiserver.wait_ready(self._is_ready)
        self._unready.append((began, datetime.now(UTC)))

    def was_ready(self, at: datetime) -> bool:
        """Whether the API server was not just starting.

        It answers before it has read who may do what, and refuses whoever asks then.
        """
        return not any(began <= at <= ended for began, ended in self._unready)

    def stop_apiserver(self, *, gently: bool = False) -> None:
        """Stop it at once, or let it finish its requests; its address stays the same."""
        if gently:
            self.apiserver.stop(timeout=30)
        else:
            self.apiserver.kill()

    @contextmanager
    def without_apiserver(self) -> Iterator[None]:
        self.stop_apiserver()
        try:
            yield
        finally:
            self.start_apiserver()

    def kubeconfig(self, user: str, groups: tuple[str, ...] = (), server: str = "") -> Path:
        """The kubeconfig of a user with a certificate, who may do what bindings say."""
        certificate, key = self._authority.issue(user.replace(":", "-"), user, groups)
        credentials = {"client-certificate": str(certificate), "client-key": str(key)}
        return self._write_kubeconfig(user, credentials, server)

    def kubeconfig_for(
        self,
        account: str,
        namespace: str,
        rules: Sequence[Mapping[str, Any]] | None = None,
        server: str = "",
    ) -> Path:
        """The kubeconfig of a service account.

        Args:
            account: its name; made where it does not exist.
            namespace: where it lives.
            rules: PolicyRules that it gets in all namespaces; None leaves the bindings that exist.
            server: another address than the API server's own, such as a proxy's.

        """
        self._ensure({"apiVersion": "v1", "kind": "ServiceAccount"}, account, namespace)
        if rules is not None:
            self.bind(account, namespace, rules)
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        answer = self.admin.request("POST", path, {"spec": {"expirationSeconds": 7200}})
        user = service_account_user(namespace, account)
        return self._write_kubeconfig(user, {"token": answer["status"]["token"]}, server)

    def bind(self, account: str, namespace: str, rules: Sequence[Mapping[str, Any]]) -> None:
        """Give a service account exactly these rules, in all namespaces."""
        name = f"{namespace}-{account}"
        rbac = "rbac.authorization.k8s.io"
        role: Object = {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "rules": list(rules)}
        self.admin.apply(role | {"metadata": {"name": name}})
        if self.admin.find(CLUSTER_ROLE_BINDINGS, name) is None:
            binding = {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRoleBinding",
                "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
            }
            self._ensure(binding, name)

    def serving_certificate(self, name: str, addresses: tuple[str, ...]) -> tuple[Path, Path]:
        """Certificate and key of another server, such as a kubelet (`IP:…`, `DNS:…`)."""
        return self._authority.issue(name, name, (), addresses)

    @property
    def environment(self) -> dict[str, str]:
        """Of a shell in which kubectl is the administrator of this cluster."""
        return {
            **os.environ,
            "PATH": f"{self.programs['kubectl'].parent}:{os.environ['PATH']}",
            "KUBECONFIG": str(self.admin_kubeconfig),
            # Its cache of what the server has would outlive this server on the same port.
            "KUBECACHEDIR": str(self.folder / "kubectl"),
        }

    def kubectl(
        self,
        *arguments: str,
        stdin: str | None = None,
        check: bool = True,
        kubeconfig: Path | None = None,
    ) -> str:
        """What kubectl prints; with ``check=False`` its errors too."""
        command = [str(self.programs["kubectl"]), *arguments]
        env = self.environment | ({"KUBECONFIG": str(kubeconfig)} if kubeconfig else {})
        finished = subprocess.run(command, input=stdin, env=env, capture_output=True, text=True)
        output = finished.stdout + finished.stderr
        assert finished.returncode == 0 or not check, f"{' '.join(command)}:\n{output}"
        return finished.stdout if check else output

    def _ensure(self, document: Object, name: str, namespace: str = "") -> None:
        try:
            self.admin.create(document | {"metadata": {"name": name}}, namespace)
        except ApiError as error:
            if error.status != 409:
                raise

    def _write_kubeconfig(self, user: str, credentials: Mapping[str, str], server: str) -> Path:
        cluster = {"server": server or self.server}
        if cluster["server"].startswith("https"):
            cluster["certificate-authority"] = str(self.authority)
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "tests",
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": user}}],
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": user, "user": dict(credentials)}],
        }
        handle, path = tempfile.mkstemp(dir=self.folder, suffix=".kubeconfig")
        with os.fdopen(handle, "w") as file:
            json.dump(config, file)
        return Path(path)

    def _make_etcd(self) -> Process:
        client = f"http://127.0.0.1:{self._etcd_port}"
        peer = f"http://127.0.0.1:{self._etcd_peer_port}"
        command = (
            *(self.programs["etcd"], "--data-dir", self.folder / "etcd", "--unsafe-no-fsync"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"default={peer}"),
        )
        return Process("etcd", command, self.folder / "etcd.log")

    def _make_apiserver(self) -> Process:
        addresses = (
            *(f"IP:{self._address}", f"IP:{_SERVICE_ADDRESS}"),
            *("DNS:localhost", "DNS:kubernetes.default.svc"),
        )
        certificate, key = self._authority.issue("apiserver", "kube-apiserver", (), addresses)
        policy = self.folder / "audit-policy.json"
        policy.write_text(json.dumps(POLICY))
        command = (
            self.programs["kube-apiserver"],
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            f"--bind-address={self._address}",
            f"--secure-port={self.server.rpartition(':')[2]}",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--client-ca-file={self.authority}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--service-account-key-file={self._signing_key}",
            f"--service-account-signing-key-file={self._signing_key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            *(self._for_nodes() if self._has_nodes else _WITHOUT_NODES),
            # It needs etcd 3.4.31, Debian's is older; without the gate watches from 0 would fail.
            "--feature-gates=WatchList=false",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self.audit.path}",
        )
        return Process("kube-apiserver", command, self.folder / "apiserver.log")

    def _for_nodes(self) -> tuple[str, ...]:
        """Kubelets sign in and are asked for logs; pods reach the server by its Service."""
        certificate, key = self._authority.issue("kubelet-client", "kubelet-client", _MASTERS)
        return (
            f"--advertise-address={self._address}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--kubelet-client-certificate={certificate}",
            f"--kubelet-client-key={key}",
            f"--kubelet-certificate-authority={self.authority}",
            "--kubelet-preferred-address-types=InternalIP",
        )

    def _make_controller_manager(self) -> Process:
        kubeconfig = self.kubeconfig("system:kube-controller-manager", _MASTERS)
        controllers = ("*",) if self._has_nodes else _CONTROLLERS
        command: tuple[object, ...] = (
            self.programs["kube-controller-manager"],
            f"--kubeconfig={kubeconfig}",
            "--leader-elect=false",
            f"--controllers={','.join(controllers)}",
            "--secure-port=0",
        )
        if self._hurried:
            command += ("--kube-api-qps=1000", "--kube-api-burst=2000", "--concurrent-job-syncs=20")
        if self._has_nodes:
            command += (
                f"--root-ca-file={self.authority}",
                f"--service-account-private-key-file={self._signing_key}",
                "--node-monitor-grace-period=20s",
            )
        return Process("kube-controller-manager", command, self.folder / "controller-manager.log")

    def _etcd_is_healthy(self) -> bool:
        url = f"http://127.0.0.1:{self._etcd_port}/health"
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(json.load(answer)["health"] == "true")

    def _is_ready(self) -> bool:
        return self.admin.request("GET", "/readyz")["text"] == "ok"
