"""Whether the claims that jobs name are there; listed per namespace, not asked per job."""

from __future__ import annotations

import asyncio
from typing import Final

from green_api.job import GreenTrainingJob

from green_operator.cluster.api import CLAIMS, Api
from green_operator.lifecycle.types import Obstacle

_FRESH_SECONDS: Final = 30.0
# A claim that is not there may have been applied together with its job, just now.
_MISSING_SECONDS: Final = 1.0


class Claims:
    """The phases of claims by namespace, as fresh as half a minute."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._phases: dict[str, tuple[float, dict[str, str]]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def problem(self, job: GreenTrainingJob) -> Obstacle | None:
        """What is wrong with one of the job's claims; one that binds with its first pod is fine."""
        for field, name in _claims_of(job):
            found = await self._problem(field, name, job.metadata.namespace)
            if found is not None:
                return found
        return None

    async def _problem(self, field: str, name: str, namespace: str) -> Obstacle | None:
        phase = (await self._in(namespace, _FRESH_SECONDS)).get(name)
        if phase is None:
            phase = (await self._in(namespace, _MISSING_SECONDS)).get(name)
        if phase is None:
            message = (
                f"{field}: {name}: there is no such PersistentVolumeClaim in {namespace}; create it"
            )
            return Obstacle("ClaimNotFound", message)
        if phase == "Lost":
            return Obstacle("ClaimLost", f"{field}: {name}: the claim has lost its volume")
        return None

    async def _in(self, namespace: str, fresh_seconds: float) -> dict[str, str]:
        now = asyncio.get_running_loop().time()
        async with self._locks.setdefault(namespace, asyncio.Lock()):
            listed = self._phases.get(namespace)
            if listed is not None and now < listed[0] + fresh_seconds:
                return listed[1]
            phases = {
                claim["metadata"]["name"]: claim.get("status", {}).get("phase", "")
                async for claim in self._api.list(CLAIMS, namespace)
            }
            self._phases[namespace] = (now, phases)
            return phases


def _claims_of(job: GreenTrainingJob) -> list[tuple[str, str]]:
    """The field that names each claim, and the name."""
    storage, federate = job.spec.storage, job.spec.task.federate
    own = [] if storage is None else [("spec.storage.claimName", storage.claim_name)]
    sites = (federate.sites if federate is not None else None) or []
    return own + [
        (f"spec.task.federate.sites[{number}].claimName", site.claim_name)
        for number, site in enumerate(sites)
    ]
