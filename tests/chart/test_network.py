"""The evaluator of NetworkPolicies against what the Kubernetes documentation says of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.network import End, UnjudgedError, is_allowed

_WEB = End("10.0.0.1", "shop", {"app": "web"})
_DB = End("10.0.0.2", "shop", {"app": "db", "tier": "back"})
_OTHER_WEB = End("10.0.1.1", "lab", {"app": "web"})
_OTHER_DB = End("10.0.1.2", "lab", {"app": "db"})
_OUTSIDE = End("192.0.2.7")

_IS_WEB = {"podSelector": {"matchLabels": {"app": "web"}}}
_IN_LAB = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "lab"}}}
_EVERYWHERE: dict[str, Any] = {"namespaceSelector": {}}


def _policy(selector: Any = None, **rules: Any) -> dict[str, Any]:
    """A policy of the namespace shop, of the directions that are given; of the database's pod."""
    return {
        "metadata": {"namespace": "shop"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "db"}} if selector is None else selector,
            "policyTypes": [direction.capitalize() for direction in rules],
            **rules,
        },
    }


def _from(*peers: Any, **rule: Any) -> dict[str, Any]:
    return _policy(ingress=[{"from": list(peers), **rule}])


def _to_ports(*ports: Any) -> dict[str, Any]:
    return _policy(ingress=[{"ports": list(ports)}])


_NO_INGRESS = _policy({}, ingress=[])
_NO_EGRESS = _policy({}, egress=[])
_BLOCK = {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.64/26"]}}


@pytest.mark.parametrize(
    ("policies", "source", "allowed"),
    [
        pytest.param([], _OUTSIDE, True, id="without policies all is open"),
        pytest.param(
            [_policy({"matchLabels": {"app": "web"}}, ingress=[])], _OUTSIDE, True,
            id="a pod that no policy selects is open",
        ),
        pytest.param(
            [_policy({"matchLabels": {"app": "db", "tier": "front"}}, ingress=[])], _OUTSIDE, True,
            id="a selector wants all its labels",
        ),
        pytest.param(
            [_policy({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, ingress=[])],
            _WEB, False, id="a label that exists",
        ),
        pytest.param(
            [_policy({"matchExpressions": [{"key": "gone", "operator": "Exists"}]}, ingress=[])],
            _WEB, True, id="a label that does not exist",
        ),
        pytest.param([_NO_INGRESS], _WEB, False, id="an empty selector selects every pod"),
        pytest.param(
            [{**_NO_INGRESS, "metadata": {"namespace": "lab"}}], _WEB, True,
            id="a policy selects in its own namespace",
        ),
        pytest.param([_policy(ingress=None)], _WEB, False, id="no rules allow nothing"),
        pytest.param([_policy(ingress=[{}])], _OUTSIDE, True, id="an empty rule allows all"),
        pytest.param([_from()], _OUTSIDE, True, id="empty peers are all peers"),
        pytest.param([_NO_INGRESS, _from(_IS_WEB)], _WEB, True, id="policies add up"),
        pytest.param([_from(_IS_WEB), _NO_INGRESS], _OUTSIDE, False, id="a sum has its limits"),
        pytest.param([_from(_IS_WEB)], _OTHER_WEB, False, id="pods alone: own namespace"),
        pytest.param([_from({"podSelector": {}})], _WEB, True, id="all pods of the namespace"),
        pytest.param([_from({"podSelector": {}})], _OTHER_WEB, False, id="and of no other"),
        pytest.param([_from(_IN_LAB)], _OTHER_DB, True, id="a namespace alone: all its pods"),
        pytest.param([_from(_IN_LAB)], _WEB, False, id="but not another's pods"),
        pytest.param([_from(_EVERYWHERE)], _OTHER_WEB, True, id="all namespaces"),
        pytest.param([_from(_EVERYWHERE)], _OUTSIDE, False, id="but nothing outside"),
        pytest.param([_from({**_IN_LAB, **_IS_WEB})], _OTHER_WEB, True, id="one peer: both"),
        pytest.param([_from({**_IN_LAB, **_IS_WEB})], _OTHER_DB, False, id="one peer: AND, pod"),
        pytest.param([_from({**_IN_LAB, **_IS_WEB})], _WEB, False, id="one peer: AND, namespace"),
        pytest.param([_from(_IN_LAB, _IS_WEB)], _OTHER_DB, True, id="two peers: OR, namespace"),
        pytest.param([_from(_IN_LAB, _IS_WEB)], _WEB, True, id="two peers: OR, pod"),
        pytest.param([_from(_BLOCK)], _OUTSIDE, True, id="a block of addresses"),
        pytest.param([_from(_BLOCK)], End("198.51.100.1"), False, id="outside the block"),
        pytest.param([_from(_BLOCK)], End("192.0.2.65"), False, id="excepted from the block"),
        pytest.param([_NO_EGRESS], _OUTSIDE, True, id="egress says nothing of what comes in"),
        pytest.param([_NO_EGRESS], _WEB, False, id="the source must be let out too"),
        pytest.param([_NO_EGRESS, _from(_IS_WEB)], _WEB, False, id="let in is not let out"),
        pytest.param(
            [_policy({}, egress=[{"to": [{"podSelector": {}}]}]), _NO_INGRESS], _WEB, False,
            id="let out is not let in",
        ),
        pytest.param(
            [_policy({}, egress=[{"to": [{"podSelector": {}}]}]), _from(_IS_WEB)], _WEB, True,
            id="let out and let in",
        ),
        pytest.param(
            [_from(_IS_WEB, ports=[{"port": 1}]), _from(_IN_LAB, ports=[{"port": 80}])],
            _WEB, False, id="peer and port of one rule",
        ),
    ],
)  # fmt: skip
def test_a_connection_to_the_database(policies: list[Any], source: End, allowed: bool) -> None:
    assert is_allowed(policies, source, _DB, 80) is allowed


@pytest.mark.parametrize(
    ("ports", "port", "protocol", "allowed"),
    [
        ([], 80, "TCP", True),
        ([{"port": 80}], 80, "TCP", True),
        ([{"port": 80}], 81, "TCP", False),
        ([{"port": 80}], 80, "UDP", False),  # TCP is the default
        ([{"port": 53, "protocol": "UDP"}], 53, "UDP", True),
        ([{"port": 53, "protocol": "UDP"}], 53, "TCP", False),
        ([{"protocol": "UDP"}], 80, "UDP", True),
        ([{"protocol": "UDP"}], 80, "TCP", False),
        ([{"port": 80}, {"port": 443}], 443, "TCP", True),
    ],
)
def test_ports(ports: list[Any], port: int, protocol: str, allowed: bool) -> None:
    assert is_allowed([_to_ports(*ports)], _WEB, _DB, port, protocol) is allowed


@pytest.mark.parametrize(
    "policy",
    [
        _to_ports({"port": 80, "endPort": 90}),
        _to_ports({"port": "http"}),
        _policy({"matchExpressions": [{"key": "app", "operator": "In", "values": ["db"]}]}),
        _from({"podSelector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}}),
        _from({"namespaceSelector": {"matchLabels": {"team": "lab"}}}),
        _from({"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}}),
        {"metadata": {"namespace": "shop"}, "spec": {"podSelector": {}, "ingress": []}},
    ],
)
def test_what_is_not_known_is_refused(policy: dict[str, Any]) -> None:
    with pytest.raises(UnjudgedError):
        is_allowed([policy], _WEB, _DB, 80)
