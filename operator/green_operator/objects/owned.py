"""The metadata of what a job owns in its namespace."""

from __future__ import annotations

from typing import Any

from green_api import API_VERSION
from green_api.job import ObjectMeta
from green_api.task import ONLY_ROLE

from green_operator.objects.names import JOB_LABEL, MANAGED_BY, ROLE_LABEL, RUN_LABEL


def labels_of(job: ObjectMeta, number: int, role: str = ONLY_ROLE) -> dict[str, str]:
    """Labels of what belongs to a run, or to one role of it."""
    return {
        "app.kubernetes.io/managed-by": MANAGED_BY,
        JOB_LABEL: job.name,
        RUN_LABEL: str(number),
        **({} if role == ONLY_ROLE else {ROLE_LABEL: role}),
    }


def owned_metadata(job: ObjectMeta, name: str, labels: dict[str, str]) -> dict[str, Any]:
    """Metadata of an object that goes with its job."""
    return {
        "name": name,
        "namespace": job.namespace,
        "labels": labels,
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": "GreenTrainingJob",
                "name": job.name,
                "uid": job.uid,
                "controller": True,
                # Blocking would need a right on the owner's finalizers.
                "blockOwnerDeletion": False,
            }
        ],
    }
