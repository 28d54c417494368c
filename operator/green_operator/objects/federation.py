"""What a federated run needs beside its Jobs: a Service in front of its server, a Secret per role.

The Secrets of a run have fresh names, made of a random token, and are made before everything else:
the operator may create Secrets, never read them, so that it can only tell by the token that the
run's Jobs record which set is whole. An unfinished set is used by nobody and goes with the job.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from green_api.contract import Federation
from green_api.federate import SERVER
from green_api.job import GreenTrainingJob

from green_operator.objects.names import run_name
from green_operator.objects.owned import labels_of, owned_metadata

if TYPE_CHECKING:
    from green_operator.objects.credentials import Bundle

Object = dict[str, Any]

LINK_PORT: Final = 9092
"""Of the server's link, which the sites reach."""
_LOOPBACK: Final = "127.0.0.1"


def server_hosts(job: GreenTrainingJob, number: int) -> tuple[str, str]:
    """What the sites, and the server itself, know the server by; its certificate holds both."""
    meta = job.metadata
    return f"{run_name(meta.name, meta.uid, number)}.{meta.namespace}.svc", _LOOPBACK


def federation(job: GreenTrainingJob, number: int) -> Federation | None:
    """What the roles of a run are told beside the task; None where there is one role only."""
    created = job.metadata.creation_timestamp
    if job.spec.task.federate is None:
        return None
    return Federation(
        server=f"{server_hosts(job, number)[0]}:{LINK_PORT}",
        listen=f"0.0.0.0:{LINK_PORT}",
        deadline=job.spec.schedule.ends(created) if created is not None else None,
    )


def run_service(job: GreenTrainingJob, number: int) -> Object:
    """The name of a run's server in the cluster's DNS; headless, for there is one pod behind it."""
    meta = job.metadata
    name = run_name(meta.name, meta.uid, number)
    selector = labels_of(meta, number, SERVER)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owned_metadata(meta, name, labels_of(meta, number)),
        "spec": {
            "clusterIP": "None",
            "selector": selector,
            "ports": [{"name": "link", "port": LINK_PORT, "protocol": "TCP"}],
        },
    }


def run_secrets(
    job: GreenTrainingJob, number: int, token: str, bundles: Mapping[str, Bundle]
) -> list[Object]:
    """The Secrets of a run, one for each role.

    Args:
        job: the job.
        number: of the run.
        token: makes the names fresh; no secret itself.
        bundles: by role, what it finds in its folder of credentials.

    """
    meta = job.metadata
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": owned_metadata(
                meta,
                secret_name(run_name(meta.name, meta.uid, number, role), token),
                labels_of(meta, number, role),
            ),
            "type": "Opaque",
            "immutable": True,
            "data": {file: base64.b64encode(content).decode() for file, content in bundle.items()},
        }
        for role, bundle in bundles.items()
    ]


def secret_name(run: str, token: str) -> str:
    """The Secret of the run's Job of that name."""
    return f"{run}-{token}"
