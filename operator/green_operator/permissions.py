"""What the operator may do in a cluster: the source of the chart's RBAC rules.

Granted is what is used: the cluster tests compare these rules with the API server's audit log.
"""

from __future__ import annotations

from typing import Any, Final

from green_api import GROUP

Rule = dict[str, Any]


def _rule(group: str, resource: str, *verbs: str) -> Rule:
    return {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}


WATCHED_NAMESPACES: Final = [
    _rule(GROUP, "greentrainingjobs", "delete", "list", "watch"),
    _rule(GROUP, "greentrainingjobs/status", "patch"),
    _rule("batch", "jobs", "create", "get", "list", "patch", "watch"),
    _rule("", "pods", "list", "watch"),
    _rule("", "persistentvolumeclaims", "list"),
    # Of federated runs; what is in a Secret is never read.
    _rule("", "secrets", "create"),
    _rule("", "services", "create", "get"),
    _rule("events.k8s.io", "events", "create"),
]
"""In the namespaces whose jobs are run."""

CLUSTER: Final = [
    _rule(GROUP, "gridzones", "list", "watch"),
    _rule(GROUP, "gridzones/status", "patch"),
    _rule("", "nodes", "get"),
]
"""Of what has no namespace."""

OWN_NAMESPACE: Final = [
    _rule("coordination.k8s.io", "leases", "create", "get", "update"),
    _rule("", "configmaps", "create", "get", "patch"),
    _rule("", "secrets", "get"),
]
"""In the operator's own namespace: its lease, traces and histories, providers' keys."""
