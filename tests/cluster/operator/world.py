"""One test's world: a namespace with a claim, a grid zone, an operator that serves just these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.cluster.harness.client import (
    CLAIMS,
    CONFIG_MAPS,
    EVENTS,
    GREEN_JOBS,
    JOBS,
    PODS,
    ZONES,
    Client,
    Object,
)
from tests.cluster.harness.control_plane import ControlPlane
from tests.cluster.harness.kubelet import FakeKubelet, FakeNode
from tests.cluster.harness.operator import SHORT, OperatorProcess
from tests.cluster.harness.waiting import wait_for

API = "greentraining.io/v1alpha1"
TRAIN = {"train": {"command": ["python", "train.py"]}}
SOON = {"completeWithin": "24h", "expectedDuration": "1h", "interruptible": True}
STEP = timedelta(minutes=5)
LABEL = "example.test/zone"


def static(grams: float = 200) -> Object:
    return {"static": {"gramsPerKilowattHour": grams, "signal": "AverageLifecycle"}}


class World:
    """What a test works with."""

    def __init__(
        self, plane: ControlPlane, namespace: str, kubelet: FakeKubelet, folder: Path
    ) -> None:
        self.plane = plane
        self.admin: Client = plane.admin
        self.namespace = namespace
        self.home = namespace
        """The operator's own namespace, which may be another than its jobs'."""
        self.kubelet = kubelet
        self.folder = folder
        self.zone = f"zone-{namespace}"
        self.operators: list[OperatorProcess] = []
        self.add_claim("models")

    # -- what a person does

    def add_claim(self, name: str) -> None:
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        self.admin.create(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": spec,
            }
        )

    def add_node(self, zone: str = "") -> FakeNode:
        """A node that draws from a zone."""
        return self.kubelet.add_node({LABEL: zone or self.zone})

    def set_zone(self, *sources: Object, name: str = "", **spec: Any) -> None:
        """Make or change a grid zone; nodes say by a label that they draw from it."""
        selector = {"nodeSelector": {LABEL: name or self.zone}}
        self.admin.apply(
            {
                "apiVersion": API,
                "kind": "GridZone",
                "metadata": {"name": name or self.zone},
                "spec": {"sources": list(sources or [static()]), **selector, **spec},
            }
        )

    def set_trace(self, grams: Sequence[float], begin: datetime, name: str = "trace") -> Object:
        """A trace with steps of five minutes in a ConfigMap; its source."""
        rows = ["time,gramsPerKilowattHour"]
        rows += [f"{(begin + i * STEP).isoformat()},{value}" for i, value in enumerate(grams)]
        self.admin.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name, "namespace": self.home},
                "data": {"trace.csv": "\n".join(rows)},
            }
        )
        reference = {"name": name, "key": "trace.csv"}
        return {"trace": {"configMapKeyRef": reference, "signal": "AverageLifecycle"}}

    def create(self, name: str, schedule: Mapping[str, Any] = SOON, **spec: Any) -> Object:
        """Apply a job; in this world's zone unless it says another."""
        body = {
            "apiVersion": API,
            "kind": "GreenTrainingJob",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "task": TRAIN,
                "schedule": dict(schedule),
                "storage": {"claimName": "models"},
                "placement": {"zones": [self.zone]},
                **spec,
            },
        }
        return self.admin.create(body)

    def change(self, name: str, spec: Object) -> Object:
        return self.admin.patch(GREEN_JOBS, name, {"spec": spec}, self.namespace)

    def delete(self, name: str) -> None:
        self.admin.delete(GREEN_JOBS, name, self.namespace)

    # -- the operator

    def start_operator(self, name: str = "operator", **options: Any) -> OperatorProcess:
        config = {**SHORT, "watchNamespaces": [self.namespace], **options.pop("config", {})}
        operator = OperatorProcess(self.plane, self.home, self.folder, config, name=name, **options)
        self.operators.append(operator)
        return operator.start().wait_ready()

    def close(self) -> None:
        for operator in self.operators:
            operator.kill()
        for zone in self.admin.list(ZONES):
            if self.namespace in zone["metadata"]["name"]:
                self.admin.delete(ZONES, zone["metadata"]["name"])

    # -- what is seen

    def job(self, name: str) -> Object:
        return self.admin.get(GREEN_JOBS, name, self.namespace)

    def status(self, name: str) -> Object:
        return dict(self.job(name).get("status") or {})

    def condition(self, name: str, kind: str) -> Object:
        found = [c for c in self.status(name).get("conditions", ()) if c["type"] == kind]
        return found[0] if found else {}

    def runs(self, name: str) -> list[Object]:
        labels = f"greentraining.io/job={name}"
        return self.admin.list(JOBS, self.namespace, labels=labels)

    def pods(self, name: str) -> list[Object]:
        return self.admin.list(PODS, self.namespace, labels=f"greentraining.io/job={name}")

    def events(self, name: str) -> list[str]:
        """Reasons of the job's events, oldest first."""
        about = [
            e for e in self.admin.list(EVENTS, self.namespace) if e["regarding"]["name"] == name
        ]
        about = [e for e in about if e["regarding"]["kind"] == "GreenTrainingJob"]
        return [e["reason"] for e in sorted(about, key=lambda e: e["eventTime"])]

    def history(self, zone: str) -> Object | None:
        return self.admin.find(CONFIG_MAPS, f"green-training-history-{zone}", self.home)

    def claims(self) -> list[Object]:
        return self.admin.list(CLAIMS, self.namespace)

    # -- waiting

    def wait(self, name: str, state: str, timeout: float = 60) -> Object:
        """Until the job is in a state; its status then."""

        def found() -> Object | None:
            status = self.status(name)
            return status if status.get("state") == state else None

        reached: Object = wait_for(
            found, timeout, f"{name} is {state}",
            seen=lambda: (self.status(name), [o.tail(15) for o in self.operators]),
        )  # fmt: skip
        return reached

    def wait_collected(self, name: str) -> None:
        """Until nothing of a deleted job is left.

        The garbage collector looks for new kinds every 30 s: in a young cluster it takes so long.
        """
        wait_for(
            lambda: not self.runs(name) and not self.pods(name), 90, f"nothing is left of {name}",
            seen=lambda: [r["metadata"]["name"] for r in (*self.runs(name), *self.pods(name))],
        )  # fmt: skip

    def wait_condition(
        self, name: str, kind: str, status: str, reason: str = "", timeout: float = 60
    ) -> Object:
        def holds() -> bool:
            found = self.condition(name, kind)
            return found.get("status") == status and reason in ("", found.get("reason"))

        wait_for(
            holds, timeout, f"{name}: {kind}={status} {reason}",
            seen=lambda: (self.status(name), [o.tail(15) for o in self.operators]),
        )  # fmt: skip
        return self.condition(name, kind)

    def wait_events(self, name: str, *reasons: str, timeout: float = 30) -> None:
        """Until the job's events are these: an event follows the status it tells of."""
        wait_for(
            lambda: self.events(name) == list(reasons), timeout, f"{name} has told {reasons}",
            seen=lambda: self.events(name),
        )  # fmt: skip

    def wait_event(self, name: str, reason: str, timeout: float = 30) -> None:
        wait_for(
            lambda: reason in self.events(name), timeout, f"{name} has told {reason}",
            seen=lambda: self.events(name),
        )  # fmt: skip


def now() -> datetime:
    return datetime.now(UTC)


def parts_of(account: Object) -> list[Object]:
    """The amounts in the books of a job or a role, tails included."""
    return [*account["amounts"], *(a["tail"] for a in account["latest"] if a.get("tail"))]


def joules_in(account: Object) -> float:
    """All energy in some books, to the millijoule, tails included."""
    return float(sum(part["millijoules"] for part in parts_of(account))) / 1000


def joules_of(status: Object) -> float:
    """All energy in a job's books."""
    return joules_in(status["account"])
