"""The helper pod that reads a job's claim for its author: made with the author's own rights."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from green_api import API_VERSION
from green_api.task import ONLY_ROLE

from green_operator.cli.kubectl import StoredJob
from green_operator.objects.names import JOB_LABEL, ROLE_LABEL

READER: Final = "reader"
CLAIM_DIR: Final = "/claim"
LONGEST: Final = timedelta(hours=1)
"""The pod ends by itself after this, should nobody delete it."""


def reader_pod(
    name: str, job: StoredJob, run: Mapping[str, Any], role: str = ONLY_ROLE
) -> dict[str, Any]:
    """A pod that waits to be asked, with the claim mounted read-only and no token.

    Args:
        name: of the pod.
        job: whose claim it reads; it has one.
        run: the Job of one of its runs: its image has Python, and has been pulled before.
        role: of a federated job: whose claim.

    """
    template = run["spec"]["template"]["spec"]
    container = template["containers"][0]
    spec = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": int(LONGEST.total_seconds()),
        # The first process of a container does not hear SIGTERM.
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": template["securityContext"],
        "affinity": {"podAffinity": _beside(job.name, role)},
        "containers": [
            {
                "name": READER,
                "image": container["image"],
                "imagePullPolicy": container.get("imagePullPolicy", "IfNotPresent"),
                "command": [
                    "python",
                    "-I",
                    "-c",
                    f"import time; time.sleep({2 * LONGEST.seconds})",
                ],
                "resources": {
                    "requests": {"cpu": "50m", "memory": "64Mi"},
                    "limits": {"cpu": "1", "memory": "128Mi"},
                },
                "volumeMounts": [{"name": "claim", "mountPath": CLAIM_DIR, "readOnly": True}],
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": True,
                    "runAsNonRoot": True,
                },
            }
        ],
        "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": job.claim_of(role)}}],
        # The volume may be where only those go who tolerate it; the node's GPUs are not needed.
        "tolerations": template.get("tolerations"),
        "imagePullSecrets": template.get("imagePullSecrets"),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": job.namespace,
            # Not the label of the job's own pods: this is no attempt.
            "labels": {
                "app.kubernetes.io/managed-by": "greenctl",
                "app.kubernetes.io/component": READER,
            },
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "GreenTrainingJob",
                    "name": job.name,
                    "uid": job.uid,
                }
            ],
        },
        "spec": {key: value for key, value in spec.items() if value is not None},
    }


def _beside(job: str, role: str) -> dict[str, Any]:
    """Rather on the node of the pod that works: many volumes are on one node at a time."""
    labels = {JOB_LABEL: job, **({ROLE_LABEL: role} if role else {})}
    term = {
        "labelSelector": {"matchLabels": labels},
        "topologyKey": "kubernetes.io/hostname",
    }
    return {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "podAffinityTerm": term}
        ]
    }
