"""One node: scheduler, containerd with a CNI bridge, kubelet, kube-proxy and DNS."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.cluster.harness.client import NODES, Object
from tests.cluster.harness.control_plane import ControlPlane
from tests.cluster.harness.processes import Process
from tests.cluster.harness.programs import UnavailableError
from tests.node.harness.room import Room

NAME: Final = "node-1"
_DNS_ADDRESS: Final = "10.96.0.10"
_DOMAIN: Final = "cluster.local"
_WORLD: Final = "192.0.2.1"
"""All names of the world have this address (RFC 5737), so that who looks for one is seen to go there."""
PAUSE: Final = "localhost/python:3.11"  # it sleeps
_PACKAGES: Final = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "conntrack": "conntrack",
}
_CNI: Final = Path("/usr/lib/cni")


def check_packages() -> None:
    """Raise UnavailableError where Debian's parts of a node are missing."""
    missing = {package for tool, package in _PACKAGES.items() if shutil.which(tool) is None}
    if not (_CNI / "bridge").exists():
        missing.add("containernetworking-plugins")
    if missing:
        msg = f"a node needs more packages: apt-get install {' '.join(sorted(missing))}"
        raise UnavailableError(msg)


class Node:
    """The only node of a control plane.

    Args:
        plane: made for nodes, at the room's address of the machine.
        room: where all of it runs.
        coredns: the program.

    """

    def __init__(self, plane: ControlPlane, room: Room, coredns: Path) -> None:
        self._plane = plane
        self._room = room
        self._folder = room.folder
        self.socket = self._folder / "containerd.sock"
        self.scheduler = self._make_scheduler()
        self.containerd = room.process("containerd", ("containerd", "-c", self._write_containerd()))
        self.kubelet = self._make_kubelet()
        self.proxy = self._make_proxy()
        self.dns = self._make_dns(coredns)

    def start(self, pause_image: Path) -> None:
        """Return once pods can run; fail with the end of a log where they cannot."""
        self.scheduler.start()
        self._start_containerd()
        self.load(pause_image)
        self._make_dns_service()
        self._start_kubelet()

    def stop(self) -> None:
        """End what runs outside of the room; the rest ends with it."""
        self.scheduler.kill()

    @property
    def is_ready(self) -> bool:
        conditions = self.object["status"]["conditions"]
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    @property
    def object(self) -> Object:
        return self._plane.admin.get(NODES, NAME)

    def ctr(self, *arguments: object) -> str:
        return self._room.run("ctr", "--address", self.socket, "--namespace", "k8s.io", *arguments)

    def load(self, archive: Path) -> None:
        """Import an image."""
        self.ctr("images", "import", archive)

    def set_gpus(self, count: int) -> None:
        """Say that it has so many GPUs, as a device plugin would; there are none."""
        path = "/status/capacity/nvidia.com~1gpu"
        patch = [{"op": "add", "path": path, "value": str(count)}]
        self._plane.admin.patch(NODES, NAME, patch, subresource="status", how="json")

    @contextmanager
    def without_kubelet(self) -> Iterator[None]:
        self.kubelet.kill()
        try:
            yield
        finally:
            self.kubelet.start()
            self.kubelet.wait_ready(lambda: self.is_ready, timeout=120)

    def lose_power(self) -> None:
        """All that runs on it ends at once, and it boots again."""
        self._room.kill_all()
        for process in (self.kubelet, self.proxy, self.dns, self.containerd):
            process.kill()
        self._start_containerd()
        self._start_kubelet()

    # -- its parts

    def _start_containerd(self) -> None:
        self.containerd.start()
        self.containerd.wait_ready(lambda: bool(self.ctr("version")))

    def _start_kubelet(self) -> None:
        self.kubelet.start()
        self.proxy.start()
        self.dns.start()
        self.kubelet.wait_ready(lambda: self.is_ready, timeout=120)

    def _make_scheduler(self) -> Process:
        kubeconfig = self._plane.kubeconfig("system:kube-scheduler")
        command = (
            self._plane.programs["kube-scheduler"],
            f"--kubeconfig={kubeconfig}",
            *("--leader-elect=false", "--secure-port=0"),
        )
        return Process("kube-scheduler", command, self._plane.folder / "scheduler.log")

    def _write_containerd(self) -> Path:
        network = {
            "cniVersion": "1.0.0",
            "name": "bridge",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": True,
                    "ipMasq": False,  # the machine knows the way to the pods
                    "hairpinMode": True,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": self._room.addresses.pods}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
            ],
        }
        (self._folder / "cni").mkdir()
        (self._folder / "cni" / "10-bridge.conflist").write_text(json.dumps(network))
        cri = 'plugins."io.containerd.grpc.v1.cri"'
        lines = (
            "version = 2",
            f'root = "{self._folder}/containerd"',
            'state = "/run/containerd"',
            'disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]',
            "[grpc]",
            f'address = "{self.socket}"',
            f"[{cri}]",
            f'sandbox_image = "{PAUSE}"',
            # Without CAP_SYS_RESOURCE, as in many virtual machines, no sandbox would start.
            "restrict_oom_score_adj = true",
            f"[{cri}.cni]",
            f'bin_dir = "{_CNI}"',
            f'conf_dir = "{self._folder}/cni"',
            f"[{cri}.containerd]",
            'snapshotter = "overlayfs"',
        )
        path = self._folder / "containerd.toml"
        path.write_text("\n".join(lines) + "\n")
        return path

    def _make_kubelet(self) -> Process:
        address = self._room.addresses.node
        kubeconfig = self._plane.kubeconfig(f"system:node:{NAME}", ("system:nodes",))
        certificate, key = self._plane.serving_certificate(NAME, (f"IP:{address}", f"DNS:{NAME}"))
        (self._folder / "resolv.conf").write_text(f"nameserver {_DNS_ADDRESS}\n")
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self._plane.authority)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(certificate),
            "tlsPrivateKeyFile": str(key),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self._room.name}",
            "enforceNodeAllocatable": [],
            "failCgroupV1": False,
            "failSwapOn": False,
            "localStorageCapacityIsolation": False,
            "clusterDNS": [_DNS_ADDRESS],
            "clusterDomain": _DOMAIN,
            "resolvConf": str(self._folder / "resolv.conf"),
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "nodeLeaseDurationSeconds": 12,
            "podLogsDir": "/var/log/pods",
            "volumePluginDir": str(self._folder / "volume-plugins"),
            "registerNode": True,
        }
        path = self._folder / "kubelet.json"
        path.write_text(json.dumps(config))
        command = (
            self._plane.programs["kubelet"],
            f"--config={path}",
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={NAME}",
            f"--node-ip={address}",
            f"--root-dir={self._folder}/kubelet",
            "--v=2",
        )
        return self._room.process("kubelet", command)

    def _make_proxy(self) -> Process:
        kubeconfig = self._plane.kubeconfig("system:kube-proxy")
        command = (
            self._plane.programs["kube-proxy"],
            f"--kubeconfig={kubeconfig}",
            "--proxy-mode=nftables",
            f"--cluster-cidr={self._room.addresses.pods}",
            f"--hostname-override={NAME}",
            "--conntrack-max-per-core=0",  # it is the whole machine's
            *("--healthz-bind-address=127.0.0.1:10256", "--metrics-bind-address=127.0.0.1:10249"),
        )
        return self._room.process("kube-proxy", command)

    def _make_dns(self, program: Path) -> Process:
        kubeconfig = self._plane.kubeconfig("coredns", ("system:masters",))
        path = self._folder / "Corefile"
        path.write_text(
            f"{_DOMAIN}:53 in-addr.arpa:53 {{\n bind {self._room.addresses.node}\n errors\n cache 5\n"
            f" kubernetes {_DOMAIN} in-addr.arpa {{\n  kubeconfig {kubeconfig}\n }}\n}}\n"
            # A Service's short name is asked for as it is, too, while the Service has no address.
            f"svc:53 {{\n bind {self._room.addresses.node}\n"
            " template ANY ANY {\n  rcode NXDOMAIN\n }\n}\n"
            f".:53 {{\n bind {self._room.addresses.node}\n errors\n"
            f' template IN A {{\n  answer "{{{{ .Name }}}} 60 IN A {_WORLD}"\n }}\n'
            " template IN AAAA {\n  rcode NOERROR\n }\n}\n"
        )
        return self._room.process("coredns", (program, "-conf", path))

    def _make_dns_service(self) -> None:
        ports = [
            {"name": "dns", "protocol": "UDP", "port": 53},
            {"name": "dns-tcp", "protocol": "TCP", "port": 53},
        ]
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system"},
            "spec": {"clusterIP": _DNS_ADDRESS, "ports": ports},
        }
        slice_ = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns",
                "namespace": "kube-system",
                "labels": {"kubernetes.io/service-name": "kube-dns"},
            },
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": [
                {"addresses": [self._room.addresses.node], "conditions": {"ready": True}}
            ],
        }
        for document in (service, slice_):
            self._plane.kubectl("apply", "-f", "-", stdin=json.dumps(document))
