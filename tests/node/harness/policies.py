"""What a network plugin that enforces NetworkPolicies would do, done by a helper of the tests.

The bridge plugin of the node does not enforce them. Their meaning is computed by the evaluator of the
chart's tests (tests/chart/network.py), for the pods that are there, and written down as rules of
nftables. As plugins have it, a connection is judged once, at its start and behind the translation of
Services, and the node itself reaches its pods.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path
from typing import Final

from tests.chart.network import End, is_allowed
from tests.cluster.harness.client import PODS, Client, Kind, Object
from tests.node.harness.room import Room

POLICIES: Final = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
_TABLE: Final = "green_policies"
_UNMENTIONED: Final = 1
"""A port that no policy names: whether all others are open."""
_PROTOCOLS: Final = ("TCP", "UDP")
_BRIDGED: Final = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


def deny_all(namespace: str) -> Object:
    """The policy that an administrator has put beside."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny-all", "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }


class Enforcer:
    """Keeps the rules as policies and pods have it; a pod that is not known yet may nothing."""

    def __init__(self, client: Client, room: Room) -> None:
        self._client = client
        self._room = room
        self._is_over = threading.Event()
        self._written = ""

    @contextmanager
    def enforcing(self) -> Iterator[None]:
        # Packets between two pods pass the bridge alone unless it shows them to nftables.
        assert self._room.run("cat", _BRIDGED).strip() == "1", f"{_BRIDGED} is off"
        self._update()
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join()
            self._room.run("nft", "delete", "table", "inet", _TABLE)

    def _run(self) -> None:
        while not self._is_over.wait(0.3):
            self._update()

    def _update(self) -> None:
        place = self._room.addresses
        pods = [end for pod in self._client.list(PODS) if (end := _end(pod)) is not None]
        others = [End(place.node), End(place.machine)]
        rules = ruleset(self._client.list(POLICIES), pods, others, place.pods)
        if rules != self._written:
            file = self._room.folder / "policies.nft"
            file.write_text(rules)
            self._room.run("nft", "--file", file)
            self._written = rules


def ruleset(
    policies: Sequence[Object], pods: Sequence[End], others: Sequence[End], network: str
) -> str:
    """All that is allowed between these ends; nothing else from or to the network of the pods."""
    whole, ports = [], []
    numbers = _ports(policies)
    for source, target in permutations((*pods, *others), 2):
        if source in others and target in others:
            continue
        pair = f"{source.address} . {target.address}"
        if all(is_allowed(policies, source, target, _UNMENTIONED, p) for p in _PROTOCOLS):
            whole.append(pair)
        ports += [
            f"{pair} . {protocol.lower()} . {port}"
            for port in numbers
            for protocol in _PROTOCOLS
            if is_allowed(policies, source, target, port, protocol)
        ]
    lines = (
        f"table inet {_TABLE} {{}}",
        f"delete table inet {_TABLE}",
        f"table inet {_TABLE} {{",
        f"set whole {{ type ipv4_addr . ipv4_addr; {_elements(whole)} }}",
        "set ports { type ipv4_addr . ipv4_addr . inet_proto . inet_service;"
        f" {_elements(ports)} }}",
        "chain judge {",
        "ct state established,related accept",
        "ip saddr . ip daddr @whole accept",
        "ip saddr . ip daddr . meta l4proto . th dport @ports accept",
        f"ip saddr {network} drop",
        f"ip daddr {network} drop",
        "}",
        "chain forward { type filter hook forward priority filter; jump judge; }",
        'chain input { type filter hook input priority filter; iifname "cni0" jump judge; }',
        "}",
    )
    return "\n".join(lines) + "\n"


def _ports(policies: Iterable[Object]) -> list[int]:
    named = {
        port["port"]
        for policy in policies
        for direction in ("ingress", "egress")
        for rule in policy["spec"].get(direction) or ()
        for port in rule.get("ports") or ()
    }
    assert _UNMENTIONED not in named
    return sorted(named)


def _elements(items: Sequence[str]) -> str:
    return f"elements = {{ {', '.join(items)} }}" if items else ""


def _end(pod: Object) -> End | None:
    address = pod["status"].get("podIP")
    if not address or pod["status"].get("phase") in {"Succeeded", "Failed"}:
        return None
    meta = pod["metadata"]
    return End(address, meta["namespace"], meta.get("labels", {}))
