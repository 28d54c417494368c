"""The meaning of NetworkPolicies: whether a connection is allowed.

No plugin that enforces them is to be had on the machines of the tests, so their meaning is checked
here, on the objects. What the Kubernetes documentation says: a pod that no policy of a direction
selects is open in it; one that some select may have what any of them allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Object = Mapping[str, Any]


@dataclass(frozen=True)
class End:
    """A pod, or with no namespace an address outside the cluster."""

    address: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def is_allowed(
    policies: Iterable[Object], source: End, target: End, port: int, protocol: str = "TCP"
) -> bool:
    """Whether the source may connect to the target's port."""
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
    key, peers = direction.lower(), "from" if direction == "Ingress" else "to"
    return any(
        _has_port(rule, port, protocol)
        and (not rule.get(peers) or any(_is_peer(p, each, peer) for each in rule[peers]))
        for p in selecting
        for rule in p["spec"].get(key) or []
    )


def _types(policy: Object) -> list[str]:
    types: list[str] = policy["spec"]["policyTypes"]
    return types


def _selects(policy: Object, pod: End) -> bool:
    return bool(pod.namespace == policy["metadata"]["namespace"]) and _matches(
        policy["spec"]["podSelector"], pod.labels
    )


def _matches(selector: Object, labels: Mapping[str, str]) -> bool:
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "Exists", "the chart uses no other"
        if expression["key"] not in labels:
            return False
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def _has_port(rule: Object, port: int, protocol: str) -> bool:
    return not rule.get("ports") or any(
        each.get("port", port) == port and each.get("protocol", "TCP") == protocol
        for each in rule["ports"]
    )


def _is_peer(policy: Object, peer: Object, end: End) -> bool:
    if block := peer.get("ipBlock"):
        address = ip_address(end.address)
        return address in ip_network(block["cidr"]) and not any(
            address in ip_network(each) for each in block.get("except", [])
        )
    if not end.namespace:
        return False
    if "namespaceSelector" in peer:
        name = {"kubernetes.io/metadata.name": end.namespace}
        if not _matches(peer["namespaceSelector"], name):
            return False
    elif end.namespace != policy["metadata"]["namespace"]:
        return False
    return _matches(peer.get("podSelector", {}), end.labels)
