"""The Job of a run: one attempt at a time, suspended until the plan says so.

The author of a job chooses from a list of fields (rule: allow, never deny); everything else is the
administrator's or fixed here, so that each pod satisfies the ``restricted`` pod security level.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from green_api import API_VERSION
from green_api.config import OperatorConfig, PodDefaults
from green_api.contract import (
    ATTEMPT_ENV,
    CLAIM_ENV,
    DEFAULT_PORT,
    PORT_ENV,
    TASK_FILE_ENV,
    TERMINATION_FILE_ENV,
    ExitCode,
    Federation,
    TaskDocument,
)
from green_api.job import GreenTrainingJob
from green_api.task import ONLY_ROLE

from green_operator.account.power import PowerTable
from green_operator.objects.names import (
    CONTAINER,
    JOB_LABEL,
    MANAGED_BY,
    RUN_LABEL,
    TASK_ANNOTATION,
    folder_name,
    role_folder,
    run_name,
)

Object = dict[str, Any]

_CLAIM_DIR: Final = "/claim"
_TASK_DIR: Final = "/etc/green-training"
_TERMINATION_FILE: Final = "/dev/termination-log"


def task_document(
    job: GreenTrainingJob,
    folder: str,
    table: PowerTable,
    journal_interval: timedelta,
    role: str = ONLY_ROLE,
    federation: Federation | None = None,
) -> TaskDocument:
    """What the attempts of a role are told.

    Args:
        job: the job.
        folder: its own, on a claim.
        table: what its hardware draws.
        journal_interval: between two entries.
        role: one of the task's.
        federation: what a federated role is told beside.

    """
    resources = job.spec.resources_of(role)
    return TaskDocument(
        namespace=job.metadata.namespace,
        name=job.metadata.name,
        folder=role_folder(folder, role),
        task=job.spec.task,
        role=role,
        federation=federation,
        gpus=resources.gpus,
        cores=resources.cores,
        gpu_watts=table.gpu.watts,
        core_watts=table.core.watts,
        journal_interval_seconds=journal_interval.total_seconds(),
        grace_period_seconds=job.spec.pod.termination_grace_period_seconds,
    )


def run_job(
    job: GreenTrainingJob, number: int, config: OperatorConfig, table: PowerTable
) -> Object:
    """The Job of one run, suspended."""
    meta = job.metadata
    labels = {
        "app.kubernetes.io/managed-by": MANAGED_BY,
        JOB_LABEL: meta.name,
        RUN_LABEL: str(number),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": run_name(meta.name, meta.uid, number),
            "namespace": meta.namespace,
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "GreenTrainingJob",
                    "name": meta.name,
                    "uid": meta.uid,
                    "controller": True,
                    # Blocking would need a right on the owner's finalizers.
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": {
            "suspend": True,
            "parallelism": 1,
            "completions": 1,
            "backoffLimit": job.spec.retries,
            # Two pods at once would write to one claim.
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _FAILURE_RULES},
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {TASK_ANNOTATION: _document(job, config, table)},
                },
                "spec": _pod(job, config.jobs),
            },
        },
    }


_FAILURE_RULES: Final = [
    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    {
        "action": "FailJob",
        "onExitCodes": {
            "containerName": CONTAINER,
            "operator": "In",
            "values": [int(ExitCode.USAGE), int(ExitCode.CONFIG), int(ExitCode.LIMIT)],
        },
    },
]


def node_selector(
    job: GreenTrainingJob, defaults: PodDefaults, zone: Mapping[str, str]
) -> dict[str, str]:
    """Labels of the nodes that may run the job: the author's give way to zone and administrator."""
    return {**job.spec.pod.node_selector, **zone, **defaults.node_selector}


def _document(job: GreenTrainingJob, config: OperatorConfig, table: PowerTable) -> str:
    folder = folder_name(job.metadata.name, job.metadata.uid)
    document = task_document(job, folder, table, config.journal_interval)
    return document.model_dump_json(by_alias=True, exclude_none=True)


def _pod(job: GreenTrainingJob, defaults: PodDefaults) -> Object:
    pod = job.spec.pod
    spec: Object = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": pod.termination_grace_period_seconds,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": defaults.run_as_user,
            "runAsGroup": defaults.run_as_user,
            "fsGroup": defaults.run_as_user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(job, defaults)],
        "volumes": [_claim(job), _TASK_VOLUME, {"name": "tmp", "emptyDir": {}}, *defaults.volumes],
        "tolerations": [t.to_wire() for t in (*defaults.tolerations, *pod.tolerations)],
        "nodeSelector": node_selector(job, defaults, {}),
        "imagePullSecrets": [{"name": name} for name in pod.image_pull_secrets],
    }
    if pod.priority_class_name is not None:
        spec["priorityClassName"] = pod.priority_class_name
    return {key: value for key, value in spec.items() if value not in ({}, [])}


def _container(job: GreenTrainingJob, defaults: PodDefaults) -> Object:
    return {
        "name": CONTAINER,
        "image": job.spec.pod.image or defaults.image,
        "imagePullPolicy": defaults.image_pull_policy,
        "command": _command(job),
        "env": _env(job, defaults),
        "ports": [{"name": "progress", "containerPort": DEFAULT_PORT}],
        "resources": _resources(job, defaults),
        "terminationMessagePath": _TERMINATION_FILE,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "claim", "mountPath": _CLAIM_DIR},
            {"name": "task", "mountPath": _TASK_DIR, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the container's own
            *defaults.volume_mounts,
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
        },
    }


def _command(job: GreenTrainingJob) -> list[str]:
    wrapper = ["python", "-m", "green_jobs"]
    train = job.spec.task.train
    return [*wrapper, "run"] if train is None else [*wrapper, "exec", "--", *train.command]


def _env(job: GreenTrainingJob, defaults: PodDefaults) -> list[Object]:
    given = {
        # Where entrypoints are found beside the image.
        "PYTHONPATH": f"{_CLAIM_DIR}/code",
        "HOME": "/tmp",  # noqa: S108 - the container's own
        **{e.name: e.value for e in defaults.env},
        **{e.name: e.value for e in job.spec.pod.env},
        TASK_FILE_ENV: f"{_TASK_DIR}/task.json",
        CLAIM_ENV: _CLAIM_DIR,
        PORT_ENV: str(DEFAULT_PORT),
        TERMINATION_FILE_ENV: _TERMINATION_FILE,
    }
    uid = {"name": ATTEMPT_ENV, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}
    return [uid, *({"name": name, "value": value} for name, value in given.items())]


def _resources(job: GreenTrainingJob, defaults: PodDefaults) -> Object:
    resources = job.spec.resources
    gpus = {defaults.gpu_resource_name: str(resources.gpus)} if resources.gpus else {}
    return {
        "requests": {"cpu": resources.cpu, "memory": resources.memory, **gpus},
        "limits": {"memory": resources.memory, **gpus},
    }


def _claim(job: GreenTrainingJob) -> Object:
    if job.spec.storage is None:
        return {"name": "claim", "emptyDir": {}}
    claim = {"claimName": job.spec.storage.claim_name}
    return {"name": "claim", "persistentVolumeClaim": claim}


_TASK_VOLUME: Final = {
    "name": "task",
    "downwardAPI": {
        "items": [
            {
                "path": "task.json",
                "fieldRef": {"fieldPath": f"metadata.annotations['{TASK_ANNOTATION}']"},
            }
        ]
    },
}
