"""What a user did, as the API server's audit log has it, against what it may do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple

POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "users": ["system:apiserver"]},
        {"level": "Metadata"},
    ],
}


class Access(NamedTuple):
    """One verb on one resource; a subresource stands behind a slash, as in RBAC."""

    verb: str
    group: str
    resource: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{'.' if self.group else ''}{self.group}"


@dataclass(frozen=True)
class AuditEvent:
    """One request that the server answered, or began to answer where it is a watch."""

    user: str
    verb: str
    group: str
    resource: str
    namespace: str
    name: str
    uri: str
    code: int
    forbidden: bool
    """A busy server's 429 comes before any decision: it is no refusal of a right."""
    agent: str
    time: datetime

    @property
    def access(self) -> Access:
        return Access(self.verb, self.group, self.resource)


@dataclass(frozen=True)
class Comparison:
    """Permissions against use."""

    unused: frozenset[Access]
    """Granted but never used."""
    denied: frozenset[Access]
    """Used but not granted."""


class AuditLog:
    """Reads the audit log of a control plane.

    A test marks a place with ``position`` and reads what came after it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def position(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def events(self, user: str = "", since: int = 0) -> list[AuditEvent]:
        """Events after a position, of one user or of all, in the order of their answers."""
        return [event for event in self._read(since) if user in ("", event.user)]

    def used(self, user: str, since: int = 0, namespace: str | None = None) -> frozenset[Access]:
        """What a user asked for, allowed or forbidden.

        Args:
            user: who.
            since: a position.
            namespace: only in this one; empty is what was asked of the whole cluster.

        """
        return frozenset(
            event.access
            for event in self.events(user, since)
            if event.resource and namespace in (None, event.namespace)
        )

    def compare(
        self,
        user: str,
        rules: Iterable[Mapping[str, Any]],
        since: int = 0,
        namespace: str | None = None,
    ) -> Comparison:
        """A user's requests against PolicyRules; stars in a rule are never reported as unused."""
        granted = frozenset(_accesses(rules))
        used = self.used(user, since, namespace)
        return Comparison(
            unused=frozenset(
                access
                for access in granted
                if "*" not in access and not any(_covers(access, use) for use in used)
            ),
            denied=frozenset(
                use for use in used if not any(_covers(access, use) for access in granted)
            ),
        )

    def _read(self, since: int) -> Iterator[AuditEvent]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(since)
            for line in file:
                if line.endswith(b"\n"):  # the last one may be half written
                    event = _event(json.loads(line))
                    if event is not None:
                        yield event


def service_account_user(namespace: str, name: str) -> str:
    """The user name that a service account has."""
    return f"system:serviceaccount:{namespace}:{name}"


def _event(entry: Mapping[str, Any]) -> AuditEvent | None:
    # A watch counts when it begins: its end may be after the test's.
    wanted = "ResponseStarted" if entry["verb"] == "watch" else "ResponseComplete"
    code = entry.get("responseStatus", {}).get("code", 0)
    if entry["stage"] != wanted and not (entry["verb"] == "watch" and code >= 400):
        return None
    target = entry.get("objectRef", {})
    subresource = target.get("subresource")
    return AuditEvent(
        user=entry["user"].get("username", ""),
        verb=entry["verb"],
        group=target.get("apiGroup", ""),
        resource=target.get("resource", "") + (f"/{subresource}" if subresource else ""),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        uri=entry["requestURI"],
        code=code,
        forbidden=entry.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid",
        agent=entry.get("userAgent", ""),
        time=datetime.fromisoformat(entry["stageTimestamp"]),
    )


def _accesses(rules: Iterable[Mapping[str, Any]]) -> Iterator[Access]:
    for rule in rules:
        parts = product(rule["verbs"], rule.get("apiGroups", [""]), rule.get("resources", []))
        yield from (Access(*part) for part in parts)


def _covers(granted: Access, used: Access) -> bool:
    return all(mine in ("*", theirs) for mine, theirs in zip(granted, used, strict=True))
