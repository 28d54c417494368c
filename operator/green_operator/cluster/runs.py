"""Making a job's run what it ought to be: made once, then only let go or held."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from green_api.config import OperatorConfig

from green_operator.account.power import PowerTable
from green_operator.cluster.api import RUNS, Api, ApiError
from green_operator.cluster.index import Index
from green_operator.cluster.seen import Seen
from green_operator.cluster.zones import Zones
from green_operator.lifecycle.types import DesiredRun
from green_operator.objects.names import ZONE_ANNOTATION
from green_operator.objects.observed import PodRecord, RunRecord
from green_operator.objects.run import node_selector, run_job

# A suspension does not wait longer for a pod's last word: what is not said is estimated.
_LAST_WORD_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs' Jobs on the API server."""

    api: Api
    config: OperatorConfig
    index: Index
    zones: Zones
    table: PowerTable
    ask: Callable[[Seen, PodRecord], Awaitable[None]]
    """Asks a running pod once more before it is suspended."""

    async def bring(self, seen: Seen, desired: DesiredRun) -> bool:
        """Make the run, let it go or hold it; whether anything was done.

        Raises:
            ApiError: 409 where the run has changed since it was seen.

        """
        run = seen.run
        if run is None or run.number != desired.number:
            run = await self._create(seen, desired)
        if run.end is None and run.suspend != desired.suspend:
            run = await self._set_suspend(seen, run, desired)
        has_changed = run is not seen.run
        seen.run = run
        return has_changed

    async def _create(self, seen: Seen, desired: DesiredRun) -> RunRecord:
        body = run_job(seen.job, desired.number, self.config, self.table)
        try:
            made = await self.api.create(RUNS, body)
        except ApiError as error:
            if error.status != 409:
                raise
            # Made before by us, unless the owner is another one.
            found = await self.api.get(RUNS, seen.key[0], body["metadata"]["name"])
            if found is None or not seen.owns(found):
                message = f"the Job {body['metadata']['name']} exists and is not this job's"
                raise ApiError(409, message) from None
            made = found
        self.index.put_run(made)
        return self.index.runs(seen.key, seen.record.uid)[-1]

    async def _set_suspend(self, seen: Seen, run: RunRecord, desired: DesiredRun) -> RunRecord:
        if desired.suspend and seen.running is not None:
            # Once more before it goes: what it has used and how far it is.
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORD_SECONDS):
                    await self.ask(seen, seen.running)
        patch: dict[str, Any] = {
            "metadata": {"resourceVersion": run.resource_version},
            "spec": {"suspend": desired.suspend},
        }
        if not desired.suspend and desired.zone is not None and run.zone is None:
            patch["metadata"]["annotations"] = {ZONE_ANNOTATION: desired.zone}
            if selector := self.zones.selector(desired.zone):
                merged = node_selector(seen.job, self.config.jobs, selector)
                patch["spec"]["template"] = {"spec": {"nodeSelector": merged}}
        try:
            body = await self.api.patch(RUNS, run.namespace, run.name, patch)
        except ApiError as error:
            if error.status != 422 or "template" not in patch["spec"]:
                raise
            # It has run before, when no zone was known: its place is settled.
            del patch["spec"]["template"], patch["metadata"]["annotations"]
            body = await self.api.patch(RUNS, run.namespace, run.name, patch)
        self.index.put_run(body)
        return self.index.runs(seen.key, seen.record.uid)[-1]
