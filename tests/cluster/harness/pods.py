"""A pod as the kubelet knows it, and the statuses that it gets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tests.cluster.harness.answers import Endpoint
from tests.cluster.harness.client import Object
from tests.cluster.harness.container import Container


@dataclass
class FakePod:
    """A pod as the kubelet knows it; ``object`` is what the server said last."""

    object: Object
    job: str
    container: Container | None = None
    endpoint: Endpoint | None = None
    told: str = ""
    """The state that the server was told last."""
    is_gone: bool = False

    @property
    def uid(self) -> str:
        return str(self.object["metadata"]["uid"])

    @property
    def name(self) -> str:
        return str(self.object["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.object["metadata"]["namespace"])

    @property
    def node(self) -> str:
        return str(self.object["spec"].get("nodeName", ""))

    @property
    def is_deleted(self) -> bool:
        return "deletionTimestamp" in self.object["metadata"]

    @property
    def is_running(self) -> bool:
        return self.told == "Running" and not self.is_gone

    @property
    def times_asked(self) -> int:
        return len(self.endpoint.asked) if self.endpoint else 0


def unschedulable_status(message: str) -> Object:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
    }
    return {"phase": "Pending", "conditions": [condition]}


def waiting_status(pod: FakePod, reason: str, message: str) -> Object:
    return _status(pod, "Pending", {"waiting": {"reason": reason, "message": message}})


def running_status(pod: FakePod) -> Object:
    assert pod.container is not None
    return _status(pod, "Running", {"running": {"startedAt": _stamp(pod.container.start.time)}})


def ended_status(pod: FakePod) -> Object:
    container = pod.container
    assert container is not None
    assert container.end is not None
    terminated = {
        "exitCode": container.code,
        "reason": "Completed" if container.code == 0 else "Error",
        "startedAt": _stamp(container.start.time),
        "finishedAt": _stamp(container.end),
    }
    if container.message:
        terminated["message"] = container.message
    phase = "Succeeded" if container.code == 0 else "Failed"
    return _status(pod, phase, {"terminated": terminated})


def _status(pod: FakePod, phase: str, state: Object) -> Object:
    is_ready = phase == "Running"
    ready = "True" if is_ready else "False"
    container = pod.object["spec"]["containers"][0]
    status: Object = {
        "phase": phase,
        "conditions": [
            {"type": "Initialized", "status": "True"},
            {"type": "ContainersReady", "status": ready},
            {"type": "Ready", "status": ready},
        ],
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "ready": is_ready,
                "started": is_ready,
                "restartCount": 0,
                "state": state,
            }
        ],
    }
    if pod.endpoint is not None and pod.container is not None:
        address = pod.endpoint.address
        status |= {"podIP": address, "podIPs": [{"ip": address}]}
        status["startTime"] = _stamp(pod.container.start.time)
    return status


def _stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
