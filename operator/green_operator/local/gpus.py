"""Which GPUs of this machine are whose: what a device plugin does in a cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from green_api.contract import VISIBLE_DEVICES_ENV, devices_in
from green_api.errors import UserError

_DEVICE: Final = re.compile(r"nvidia(\d+)")

Role = tuple[str, str]
"""Of a job, by its name: a role."""


def visible_gpus(environment: Mapping[str, str], devices: Path = Path("/dev")) -> list[str]:
    """The GPUs that this process may give away, as CUDA names them; none where none is seen."""
    visible = environment.get(VISIBLE_DEVICES_ENV)
    if visible is not None:
        return devices_in(visible)
    found = (_DEVICE.fullmatch(path.name) for path in devices.glob("nvidia*"))
    return sorted((match[1] for match in found if match), key=int)


def allot(wanted: Mapping[Role, int], visible: Sequence[str]) -> dict[Role, str]:
    """For each role its own GPUs: the energy of one that two share would be counted twice.

    Args:
        wanted: how many each role reserves.
        visible: the machine's; where there are none, each role says itself what it lacks.

    Raises:
        UserError: there are too few.

    """
    total = sum(wanted.values())
    if not visible or not total:
        return {}
    if total > len(visible):
        jobs = sorted({job for (job, _), count in wanted.items() if count})
        msg = (
            f"spec.resources.gpus: {', '.join(jobs)}: {total} GPUs are reserved in all, and this "
            f"machine shows {len(visible)}; each role of each job keeps its own: reserve fewer, or "
            "run the jobs one after the other"
        )
        raise UserError(msg)
    left = list(visible)
    allotted = {}
    for role, count in wanted.items():
        own, left = left[:count], left[count:]
        if own:
            allotted[role] = ",".join(own)
    return allotted
