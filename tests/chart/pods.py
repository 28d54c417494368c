"""What the pod security level "restricted" asks of a pod (Kubernetes' Pod Security Standards)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

Object = Mapping[str, Any]

_VOLUMES: Final = frozenset(
    {
        "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
        "projected", "secret",
    }
)  # fmt: skip
_PROFILES: Final = frozenset({"RuntimeDefault", "Localhost"})


def pod_specs(documents: Iterable[Object]) -> Iterator[Object]:
    """The pod of every document that has one."""
    for document in documents:
        if document["kind"] == "Pod":
            yield document["spec"]
        elif "template" in document.get("spec", {}):
            yield document["spec"]["template"]["spec"]


def violations(pod: Object) -> list[str]:
    """What keeps a pod from the level; nothing where it satisfies it."""
    return [*_of_pod(pod), *(each for c in _containers(pod) for each in _of_container(pod, c))]


def _containers(pod: Object) -> Iterator[Object]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        yield from pod.get(field, [])


def _of_pod(pod: Object) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield field
    for volume in pod.get("volumes", []):
        if kinds := volume.keys() - {"name"} - _VOLUMES:
            yield f"volume {volume['name']}: {', '.join(kinds)}"
    context = pod.get("securityContext", {})
    for field in ("sysctls", "seLinuxOptions", "appArmorProfile"):
        if field in context:
            yield f"{field}: judged by nobody here"


def _of_container(pod: Object, container: Object) -> Iterator[str]:
    name, own = container["name"], container.get("securityContext", {})
    both = {**pod.get("securityContext", {}), **own}
    if own.get("privileged"):
        yield f"{name}: privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: allowPrivilegeEscalation"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield f"{name}: capabilities are not dropped"
    if added := set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"{name}: capabilities {', '.join(added)}"
    if both.get("runAsNonRoot") is not True:
        yield f"{name}: runAsNonRoot"
    if both.get("runAsUser") == 0:
        yield f"{name}: runAsUser 0"
    if both.get("seccompProfile", {}).get("type") not in _PROFILES:
        yield f"{name}: seccompProfile"
    if "procMount" in own or "windowsOptions" in both:
        yield f"{name}: procMount or windowsOptions"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield f"{name}: hostPort"
