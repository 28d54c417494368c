"""The Job of a run, or of one role of it: one attempt at a time, suspended until the plan says so.

The author of a job chooses from a list of fields (rule: allow, never deny); everything else is the
administrator's or fixed here, so that each pod satisfies the ``restricted`` pod security level.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from green_api.config import OperatorConfig, PodDefaults
from green_api.contract import (
    ATTEMPT_ENV,
    CLAIM_ENV,
    CREDENTIALS_DIR_ENV,
    DEFAULT_PORT,
    PORT_ENV,
    TASK_FILE_ENV,
    TERMINATION_FILE_ENV,
    ExitCode,
    Federation,
    TaskDocument,
)
from green_api.federate import SERVER, Site
from green_api.job import GreenTrainingJob
from green_api.task import ONLY_ROLE

from green_operator.account.power import PowerTable
from green_operator.objects.federation import LINK_PORT, federation, secret_name
from green_operator.objects.names import (
    CONTAINER,
    CREDENTIALS_ANNOTATION,
    TASK_ANNOTATION,
    folder_name,
    role_folder,
    run_name,
)
from green_operator.objects.owned import labels_of, owned_metadata

Object = dict[str, Any]

_CLAIM_DIR: Final = "/claim"
_TASK_DIR: Final = "/etc/green-training"
_CREDENTIALS_DIR: Final = "/etc/green-credentials"
# The pod's one user may be the platform's choice; nobody else is in the pod.
_CREDENTIALS_MODE: Final = 0o444
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
    job: GreenTrainingJob,
    number: int,
    config: OperatorConfig,
    table: PowerTable,
    role: str = ONLY_ROLE,
    credentials: str = "",
) -> Object:
    """The Job of one run, suspended.

    Args:
        job: the job.
        number: of the run.
        config: the administrator's configuration.
        table: what hardware draws.
        role: which of the run's Jobs it is, where it has several.
        credentials: the token of the run's Secrets, where it has several Jobs.

    """
    meta = job.metadata
    name = run_name(meta.name, meta.uid, number, role)
    labels = labels_of(meta, number, role)
    metadata = owned_metadata(meta, name, labels)
    if credentials:
        metadata["annotations"] = {CREDENTIALS_ANNOTATION: credentials}
    document = task_document(
        job,
        folder_name(meta.name, meta.uid),
        table,
        config.journal_interval,
        role,
        federation(job, number),
    )
    text = document.model_dump_json(by_alias=True, exclude_none=True)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
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
                    "labels": {**config.jobs.pod_labels, **labels},
                    "annotations": {**config.jobs.pod_annotations, TASK_ANNOTATION: text},
                },
                "spec": _pod(
                    job, config.jobs, role, secret_name(name, credentials) if credentials else ""
                ),
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
    job: GreenTrainingJob, defaults: PodDefaults, role: str, zone: Mapping[str, str]
) -> dict[str, str]:
    """Labels of the nodes that may run a role: the author's give way to zone and administrator."""
    site = _site(job, role)
    own = site.node_selector if site is not None else {}
    return {**job.spec.pod.node_selector, **own, **zone, **defaults.node_selector}


def _pod(job: GreenTrainingJob, defaults: PodDefaults, role: str, secret: str) -> Object:
    pod = job.spec.pod
    volumes = [_claim(job, role), _TASK_VOLUME, {"name": "tmp", "emptyDir": {}}]
    if secret:
        volumes.append(_credentials(secret))
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
        "containers": [_container(job, defaults, role)],
        "volumes": [*volumes, *defaults.volumes],
        "tolerations": [t.to_wire() for t in (*defaults.tolerations, *pod.tolerations)],
        "nodeSelector": node_selector(job, defaults, role, {}),
        "imagePullSecrets": [{"name": name} for name in pod.image_pull_secrets],
    }
    if pod.priority_class_name is not None:
        spec["priorityClassName"] = pod.priority_class_name
    if defaults.runtime_class_name is not None:
        spec["runtimeClassName"] = defaults.runtime_class_name
    return {key: value for key, value in spec.items() if value not in ({}, [])}


def _container(job: GreenTrainingJob, defaults: PodDefaults, role: str) -> Object:
    mounts: list[Object] = [
        {"name": "claim", "mountPath": _CLAIM_DIR},
        {"name": "task", "mountPath": _TASK_DIR, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the container's own
    ]
    if role != ONLY_ROLE:
        mounts.append({"name": "credentials", "mountPath": _CREDENTIALS_DIR, "readOnly": True})
    ports = [{"name": "progress", "containerPort": DEFAULT_PORT}]
    if role == SERVER:
        ports.append({"name": "link", "containerPort": LINK_PORT})
    return {
        "name": CONTAINER,
        "image": job.spec.pod.image or defaults.image,
        "imagePullPolicy": defaults.image_pull_policy,
        "command": _command(job),
        "env": _env(job, defaults, role),
        "ports": ports,
        "resources": _resources(job, defaults, role),
        "terminationMessagePath": _TERMINATION_FILE,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [*mounts, *defaults.volume_mounts],
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


def _env(job: GreenTrainingJob, defaults: PodDefaults, role: str) -> list[Object]:
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
        **({} if role == ONLY_ROLE else {CREDENTIALS_DIR_ENV: _CREDENTIALS_DIR}),
    }
    uid = {"name": ATTEMPT_ENV, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}
    return [uid, *({"name": name, "value": value} for name, value in given.items())]


def _resources(job: GreenTrainingJob, defaults: PodDefaults, role: str) -> Object:
    resources = job.spec.resources_of(role)
    gpus = {defaults.gpu_resource_name: str(resources.gpus)} if resources.gpus else {}
    return {
        "requests": {"cpu": resources.cpu, "memory": resources.memory, **gpus},
        "limits": {"memory": resources.memory, **gpus},
    }


def _claim(job: GreenTrainingJob, role: str) -> Object:
    name = claim_of(job, role)
    if name is None:
        return {"name": "claim", "emptyDir": {}}
    return {"name": "claim", "persistentVolumeClaim": {"claimName": name}}


def claim_of(job: GreenTrainingJob, role: str) -> str | None:
    """The claim that a role works on: a site's own, else the job's."""
    if (site := _site(job, role)) is not None:
        return site.claim_name
    return job.spec.storage.claim_name if job.spec.storage is not None else None


def _site(job: GreenTrainingJob, role: str) -> Site | None:
    federate = job.spec.task.federate
    return federate.site(role) if federate is not None else None


def _credentials(secret: str) -> Object:
    source = {"secretName": secret, "defaultMode": _CREDENTIALS_MODE}
    return {"name": "credentials", "secret": source}


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
