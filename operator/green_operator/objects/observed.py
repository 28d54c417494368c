"""What is read of Jobs and pods: slim records, so that ten thousand of them are small."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from green_api.contract import MAX_SUMMARY_BYTES, Summary
from green_api.task import ONLY_ROLE
from pydantic import ValidationError

from green_operator.lifecycle.types import RunEnd
from green_operator.objects.names import (
    CONTAINER,
    CREDENTIALS_ANNOTATION,
    JOB_LABEL,
    ROLE_LABEL,
    RUN_LABEL,
    ZONE_ANNOTATION,
    run_name,
)

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run's Job; of a federated run that of one role."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    job: str
    """The GreenTrainingJob's name, by label."""
    owner_uid: str
    """The controller's UID; empty where there is none."""
    number: int
    suspend: bool
    unfinished: int
    """Pods that the Job controller counts as active or terminating."""
    failed: int
    end: RunEnd | None
    reason: str
    message: str
    zone: str | None = None
    """The zone that it was started in; None before its first start."""
    since: datetime | None = None
    """When the Job controller let it go last; None while it is suspended."""
    role: str = ONLY_ROLE
    credentials: str = ""
    """Which set of Secrets it uses; empty where it needs none."""

    def is_run_of(self, job: str, uid: str) -> bool:
        """Whether it is a run of this job, counted from 1: by its controller's UID and its name."""
        is_named = self.number > 0 and self.name == run_name(job, uid, self.number, self.role)
        return is_named and self.owner_uid == uid


@dataclass(frozen=True, slots=True)
class PodRecord:
    """A pod of a run."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    job: str
    owner_uid: str
    """The Job's UID."""
    created: datetime
    phase: str
    ip: str
    host_network: bool
    node: str
    deleted: datetime | None
    """When its grace period ends; None while nobody has deleted it."""
    started: datetime | None
    """When its container started."""
    ended: datetime | None
    exit_code: int | None
    termination: str
    """The termination message as the kubelet gives it."""
    waiting: tuple[str, str]
    """Why its container or its scheduling waits: reason and message; empty where it does not."""
    gone: bool = False
    """It is deleted; kept until it is accounted for."""

    @property
    def is_over(self) -> bool:
        """Its container has ended, or never will run."""
        return self.gone or self.phase in {"Succeeded", "Failed"} or self.ended is not None

    @property
    def is_running(self) -> bool:
        """Its container works."""
        return self.started is not None and not self.is_over

    def metered_since(self, attempt: str, earliest: datetime) -> datetime:
        """When an attempt's meters began at the earliest; of its own the pod knows better."""
        own = self.started if attempt == self.uid else None
        return own or earliest

    def summary(self) -> Summary | None:
        """The attempt's summary; a tenant's word, so its size, form and name are checked."""
        if not self.termination or len(self.termination.encode()) > MAX_SUMMARY_BYTES:
            return None
        try:
            summary = Summary.model_validate_json(self.termination)
        except ValidationError:
            return None
        return summary if summary.attempt == self.uid else None


def run_record(body: Object) -> RunRecord:
    """A Job of batch/v1 that carries our labels."""
    meta, spec, status = body["metadata"], body["spec"], body.get("status") or {}
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    end, reason, message = _run_end(status)
    return RunRecord(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        job=labels.get(JOB_LABEL, ""),
        owner_uid=_controller(meta),
        number=_number(labels.get(RUN_LABEL, "")),
        suspend=bool(spec.get("suspend")),
        unfinished=(status.get("active") or 0) + (status.get("terminating") or 0),
        failed=status.get("failed") or 0,
        end=end,
        reason=reason,
        message=message,
        zone=annotations.get(ZONE_ANNOTATION),
        since=_time(status.get("startTime")),
        role=labels.get(ROLE_LABEL, ONLY_ROLE),
        credentials=annotations.get(CREDENTIALS_ANNOTATION, ""),
    )


def _run_end(status: Object) -> tuple[RunEnd | None, str, str]:
    for condition in status.get("conditions") or ():
        if condition["type"] in {"Complete", "Failed"} and condition["status"] == "True":
            end = RunEnd(condition["type"])
            return end, condition.get("reason") or end.value, condition.get("message") or ""
    return None, "", ""


def pod_record(body: Object) -> PodRecord:
    """A pod that carries our labels."""
    meta, spec, status = body["metadata"], body["spec"], body.get("status") or {}
    containers = status.get("containerStatuses") or ()
    state = next((c.get("state") or {} for c in containers if c["name"] == CONTAINER), {})
    ended = state.get("terminated") or {}
    created = _required_time(meta["creationTimestamp"])
    started = _time((state.get("running") or ended).get("startedAt"))
    if started is not None and started < created:
        # A container that could not be started is said to have done so in 1970.
        started = None
    return PodRecord(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        job=meta.get("labels", {}).get(JOB_LABEL, ""),
        owner_uid=_controller(meta),
        created=created,
        phase=status.get("phase") or "Pending",
        ip=status.get("podIP") or "",
        host_network=bool(spec.get("hostNetwork")),
        node=spec.get("nodeName") or "",
        deleted=_time(meta.get("deletionTimestamp")),
        started=started,
        ended=_time(ended.get("finishedAt")),
        exit_code=ended.get("exitCode"),
        termination=ended.get("message") or "",
        waiting=_waiting(state, status),
    )


def _waiting(state: Object, status: Object) -> tuple[str, str]:
    waiting = state.get("waiting") or {}
    if waiting.get("reason"):
        return waiting["reason"], waiting.get("message") or ""
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return condition.get("reason") or "Unschedulable", condition.get("message") or ""
    return "", ""


def _controller(meta: Object) -> str:
    owners = meta.get("ownerReferences") or ()
    return next((owner["uid"] for owner in owners if owner.get("controller")), "")


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0


def _time(text: str | None) -> datetime | None:
    return None if text is None else _required_time(text)


def _required_time(text: str) -> datetime:
    return datetime.fromisoformat(text)
