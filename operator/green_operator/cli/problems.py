"""What is wrong with a job, and what mends it; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from green_api.status import Condition, ConditionStatus, ConditionType, JobStatus, State

from green_operator.cli import words
from green_operator.cli.kubectl import StoredJob
from green_operator.lifecycle.status import PLAN
from green_operator.objects.names import JOB_LABEL, RUN_LABEL

_PATIENCE: Final = timedelta(minutes=2)
"""A running operator sees a new job, a change or a planned start long before."""
_OPERATOR: Final = "see that the operator runs and what its log says"

_ANEW: Final = "it counts from the next run on, which follows when the run's Job is deleted"

BY_REASON: Final = {
    "ClaimNotFound": "",  # its message says it
    "ClaimLost": "restore the volume, or create a new job on another claim",
    "Unschedulable": (
        "see that a node has the resources, the labels of the zone and of spec.pod.nodeSelector, "
        "and no taint that spec.pod.tolerations lacks; or edit spec.pod, before the first start "
        f"spec.resources too: {_ANEW}"
    ),
    "ImagePullFailed": f"correct spec.pod.image or spec.pod.imagePullSecrets: {_ANEW}",
    "ContainerNotStarted": f"look at the pod's events and correct spec.pod: {_ANEW}",
    "PodNotCreated": (
        "raise the namespace's quota, or ask for less (before the first start): "
        "it is tried again by itself"
    ),
    "RunRefused": "correct what the message names: it is tried again by itself",
    "PodNotEnding": (
        "bring the node back; or, once it is sure that it is off, delete the Node object (the pod "
        "goes with it)"
    ),
    "Retrying": "see what the last attempt printed, in logs/ on the claim",
    "NotReadable": "correct the fields that are named, or update the operator",
    "BackoffLimitExceeded": (
        "see what the attempts printed, in logs/ on the claim; then create a new job, with more "
        "spec.retries where the cause was passing"
    ),
    "PodFailurePolicy": "see what the attempt printed, in logs/ on the claim; create a new job",
    "InvalidTask": "correct what the message names and create a new job",
    "LimitExceeded": "the report on the claim has the figures; ask for less in a new job",
    "NoDoneMarker": "the command ended well without the supervisor's report: keep to the image",
    "DeadlineExceeded": "create a new job with more time; its checkpoints stay on the claim",
}
_BY_TYPE: Final = {
    ConditionType.ACCEPTED: BY_REASON["NotReadable"],
    ConditionType.DEADLINE_AT_RISK: (
        "allow more time in spec.schedule, or give it more to work with in a new job"
    ),
    ConditionType.INTENSITY_AVAILABLE: (
        "the job itself needs nothing and runs without; the administrator mends the GridZone's "
        "sources, or adds a static one as the last"
    ),
    ConditionType.PROGRESS_AVAILABLE: (
        "the job itself needs nothing and runs on; a pod that does not answer must be reachable "
        "for the operator (port 8765, an address within its podNetworks, NetworkPolicy), one that "
        "answers wrongly needs an image with this version's supervisor and the resources it uses"
    ),
    ConditionType.ZONE_AS_PLANNED: (
        "the administrator gives the zone's nodes the labels of its spec.nodeSelector"
    ),
    ConditionType.STALLED: (
        "see why the sites that are named do not work (their pods, their claims, their logs); "
        "the rounds go on once there are enough"
    ),
    ConditionType.SIGNAL_CONSISTENT: (
        "the administrator gives all sources of a zone, and all zones of a job, one kind of signal"
    ),
}
_BAD_WHERE_TRUE: Final = {
    ConditionType.DEADLINE_AT_RISK,
    ConditionType.STALLED,
    ConditionType.FAILED,
}
_BAD_WHERE_FALSE: Final = {
    ConditionType.ACCEPTED,
    ConditionType.CLAIM_BOUND,
    ConditionType.INTENSITY_AVAILABLE,
    ConditionType.PROGRESS_AVAILABLE,
    ConditionType.ZONE_AS_PLANNED,
    ConditionType.SIGNAL_CONSISTENT,
}
_PASSING: Final = {ConditionType.DEADLINE_AT_RISK, ConditionType.INTENSITY_AVAILABLE}
"""Of no concern once the job has ended."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a person should know of, and its fix."""

    name: str
    message: str
    fix: str


def problems(job: StoredJob, now: datetime) -> list[Problem]:
    """All that is wrong, what keeps the job from running first."""
    status = job.status
    if status is None:
        return [_without_status(job, now)]
    found = [_of_condition(c) for c in status.conditions if _is_problem(c, status)]
    return [*_silence(job, status, now), *found]


def _without_status(job: StoredJob, now: datetime) -> Problem:
    if job.is_reconciled:
        return Problem(
            "OtherVersion",
            "its status was written by another version of the operator",
            "use the kubectl-green of that version; kubectl describe shows it as it is",
        )
    age = words.span(now - job.created)
    message = f"it was created {age} ago and no operator has written a status yet"
    return Problem("NeverReconciled", message, f"{_OPERATOR}, and that it watches {job.namespace}")


def _silence(job: StoredJob, status: JobStatus, now: datetime) -> Iterator[Problem]:
    """The operator does not do what it would have done by now."""
    if status.state.is_final:
        return
    if job.generation > status.observed_generation:
        yield Problem(
            "ChangeNotSeen",
            f"the last change of the spec (generation {job.generation}) has not been taken up",
            _OPERATOR,
        )
    start = status.planned_start
    waits = words.reason(status) == PLAN and status.state is not State.RUNNING
    if waits and start is not None and now > start + _PATIENCE:
        yield Problem(
            "StartOverdue",
            f"it was to start {words.from_now(start, now)} and has not",
            f"{_OPERATOR}; {_by_hand(job, status)} starts it by hand",
        )


def _by_hand(job: StoredJob, status: JobStatus) -> str:
    """Lets all Jobs of the run go: a federated one has several."""
    number = status.run.number if status.run is not None else 1
    return (
        f"kubectl get jobs -n {job.namespace} -l {JOB_LABEL}={job.name},{RUN_LABEL}={number} "
        f"-o name | xargs -I JOB kubectl patch JOB -n {job.namespace} --type merge "
        '-p \'{"spec":{"suspend":false}}\''
    )


def _is_problem(condition: Condition, status: JobStatus) -> bool:
    if condition.type is ConditionType.RUNNING:
        return not status.state.is_final and condition.reason in BY_REASON
    if status.state.is_final and condition.type in _PASSING:
        return False
    bad = _BAD_WHERE_TRUE if condition.status is ConditionStatus.TRUE else _BAD_WHERE_FALSE
    return condition.type in bad


def _of_condition(condition: Condition) -> Problem:
    fix = BY_REASON.get(condition.reason) or _BY_TYPE.get(condition.type, "")
    return Problem(condition.reason, condition.message, fix)
