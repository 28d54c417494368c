"""Names and labels of what the operator makes."""

from __future__ import annotations

from typing import Final

from green_api import GROUP
from green_api.federate import SERVER
from green_api.task import ONLY_ROLE

JOB_LABEL: Final = f"{GROUP}/job"
"""The GreenTrainingJob's name, on Jobs and pods."""
RUN_LABEL: Final = f"{GROUP}/run"
"""The number of the run, on Jobs and pods."""
ROLE_LABEL: Final = f"{GROUP}/role"
"""The role in a federated run, on Jobs and pods."""
CREDENTIALS_ANNOTATION: Final = f"{GROUP}/credentials"
"""Which set of Secrets a federated run uses, on its Jobs: the end of the Secrets' names."""
TASK_ANNOTATION: Final = f"{GROUP}/task"
"""The task document, on the pod template."""
ZONE_ANNOTATION: Final = f"{GROUP}/zone"
"""The grid zone that a run was started in, on its Job: it stays there."""
MANAGED_BY: Final = "green-training"
CONTAINER: Final = "job"


def run_name(job: str, uid: str, number: int, role: str = ONLY_ROLE) -> str:
    """The name of a run's Job; the same for the same start and role, so that it is made once."""
    run = f"{job}-{uid[:5]}-{number}"
    return run if role == ONLY_ROLE else f"{run}-{role}"


def folder_name(job: str, uid: str) -> str:
    """The job's folder on its claim; another job of the same name has another one."""
    return f"{job}-{uid[:5]}"


def role_folder(folder: str, role: str) -> str:
    """A role's folder on its claim: a site's never is the job's own, whatever claim it lies on."""
    return folder if role in (ONLY_ROLE, SERVER) else f"{folder}/sites/{role}"
