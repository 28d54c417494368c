"""The meaning of NetworkPolicies: whether a connection is allowed.

No plugin that enforces them is to be had on the machines of the tests, so their meaning is checked
here, on the objects. What the Kubernetes documentation says: a pod that no policy of a direction
selects is open in it; one that some select may have what any of them allows. What is not written
here (ranges of ports, ports by name, labels of namespaces) is refused, not guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, Final

Object = Mapping[str, Any]
_NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"
"""The one label of a namespace that is known here: Kubernetes sets it."""


class UnjudgedError(Exception):
    """The answer hangs on something that is not known here."""


@dataclass(frozen=True)
class End:
    """A pod, or with no namespace an address outside the cluster."""

    address: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def is_allowed(
    policies: Iterable[Object], source: End, target: End, port: int, protocol: str = "TCP"
) -> bool:
    """Whether the source may connect to the target's port.

    Raises:
        UnjudgedError: a policy has something that is not known here; the text names it.

    """
    policies = list(policies)
    return all(
        _passes(policies, direction, own, peer, port, protocol)
        for direction, own, peer in (("Egress", source, target), ("Ingress", target, source))
    )


def _passes(
    policies: list[Object], direction: str, own: End, peer: End, port: int, protocol: str
) -> bool:
    selecting = [p for p in policies if _selects(p, own) and direction in _types(p)]
    if not selecting:
        return True
    peers = "from" if direction == "Ingress" else "to"
    return any(
        _has_port(rule, port, protocol) and _has_peer(p, rule.get(peers), peer)
        for p in selecting
        for rule in p["spec"].get(direction.lower()) or []
    )


def _types(policy: Object) -> list[str]:
    if "policyTypes" not in policy["spec"]:
        raise UnjudgedError("policyTypes are left to the default")
    types: list[str] = policy["spec"]["policyTypes"]
    return types


def _selects(policy: Object, pod: End) -> bool:
    return bool(pod.namespace == policy["metadata"]["namespace"]) and _matches(
        policy["spec"]["podSelector"], pod.labels
    )


def _matches(selector: Object, labels: Mapping[str, str]) -> bool:
    expressions = selector.get("matchExpressions", [])
    if unknown := {e["operator"] for e in expressions} - {"Exists"}:
        raise UnjudgedError(f"operators {', '.join(sorted(unknown))}")
    return all(e["key"] in labels for e in expressions) and bool(
        selector.get("matchLabels", {}).items() <= labels.items()
    )


def _has_port(rule: Object, port: int, protocol: str) -> bool:
    return not rule.get("ports") or any(_is_port(p, port, protocol) for p in rule["ports"])


def _is_port(written: Object, port: int, protocol: str) -> bool:
    number = written.get("port", port)
    if "endPort" in written or not isinstance(number, int):
        raise UnjudgedError(f"a range or a name: {dict(written)}")
    return number == port and bool(written.get("protocol", "TCP") == protocol)


def _has_peer(policy: Object, peers: Sequence[Object] | None, end: End) -> bool:
    return not peers or any(_is_peer(policy, each, end) for each in peers)


def _is_peer(policy: Object, peer: Object, end: End) -> bool:
    if block := peer.get("ipBlock"):
        address = ip_address(end.address)
        return address in ip_network(block["cidr"]) and not any(
            address in ip_network(each) for each in block.get("except", [])
        )
    if not end.namespace:
        return False
    if "namespaceSelector" in peer:
        if not _is_namespace(peer["namespaceSelector"], end.namespace):
            return False
    elif end.namespace != policy["metadata"]["namespace"]:
        return False
    return _matches(peer.get("podSelector", {}), end.labels)


def _is_namespace(selector: Object, name: str) -> bool:
    labels = selector.get("matchLabels", {})
    if "matchExpressions" in selector or labels.keys() - {_NAMESPACE_NAME}:
        raise UnjudgedError(f"labels of namespaces: {dict(selector)}")
    return _matches(selector, {_NAMESPACE_NAME: name})
