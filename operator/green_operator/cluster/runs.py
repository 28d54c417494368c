"""Making a job's run what it ought to be: made once, then only let go or held."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from green_api.config import OperatorConfig

from green_operator.account.power import PowerTable
from green_operator.cluster.api import RUNS, Api, ApiError, NameTakenError
from green_operator.cluster.credentials import Credentials
from green_operator.cluster.index import Index
from green_operator.cluster.seen import Seen
from green_operator.cluster.zones import Zones
from green_operator.lifecycle.types import DesiredRun
from green_operator.objects.names import ZONE_ANNOTATION
from green_operator.objects.observed import RunRecord, run_record
from green_operator.objects.run import node_selector, run_job

# A suspension does not wait longer for the pods' last words: what is not said is estimated.
_LAST_WORD_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs' Jobs on the API server: one, or one for each role."""

    api: Api
    config: OperatorConfig
    index: Index
    zones: Zones
    table: PowerTable
    credentials: Credentials
    ask: Callable[[Seen], Awaitable[None]]
    """Asks the running pods once more before they are suspended."""

    async def bring(self, seen: Seen, desired: DesiredRun) -> bool:
        """Make the run, let it go or hold it; whether anything was done.

        Raises:
            ApiError: 409 where the run has changed since it was seen.

        """
        before = dict(seen.runs)
        runs = before if seen.number == desired.number else {}
        lead = runs.get(seen.lead)
        if lead is None or lead.end is None:
            runs = await self._make_whole(seen, desired.number, runs)
        elif not desired.suspend:
            # Sites that were held when their server ended have nothing to come back to.
            return False
        to_change = [
            run
            for run in runs.values()
            if run.end is None
            and run.suspend != desired.suspend
            # Of a Job that was deleted by hand a pod may still write to the claim.
            and (desired.suspend or not seen.has_leftover(run))
        ]
        if to_change and desired.suspend and seen.running:
            # Once more before they go: what they have used and how far they are.
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORD_SECONDS):
                    await self.ask(seen)
        for run in to_change:
            await self._set_suspend(seen, run, desired)
        seen.look(self.index)
        return seen.runs != before

    async def _make_whole(
        self, seen: Seen, number: int, known: Mapping[str, RunRecord]
    ) -> dict[str, RunRecord]:
        """Make the Jobs that the run lacks, the server's first: it records the run's credentials.

        One that somebody has deleted is made again: any of the others records the same.
        """
        token = next((run.credentials for run in known.values()), "")
        if not known and seen.has_roles:
            token = await self.credentials.make(seen, number)
        runs: dict[str, RunRecord] = {}
        for role in seen.books:
            run = known.get(role)
            if run is None:
                run = await self._create(seen, number, role, token)
                # Made before by us, with other credentials, and not seen yet.
                token = run.credentials
            runs[role] = run
        self.credentials.forget(seen.record.uid)
        return runs

    async def _create(self, seen: Seen, number: int, role: str, token: str) -> RunRecord:
        body = run_job(seen.job, number, self.config, self.table, role, token)
        try:
            made = await self.api.create(RUNS, body)
        except ApiError as error:
            if error.status != 409:
                raise
            # Made before by us, unless the owner is another one.
            found = await self.api.get(RUNS, seen.key[0], body["metadata"]["name"])
            if found is None:
                raise
            if not seen.owns(found):
                raise NameTakenError(f"Job {body['metadata']['name']}") from None
            made = found
        self.index.put_run(made)
        return run_record(made)

    async def _set_suspend(self, seen: Seen, run: RunRecord, desired: DesiredRun) -> None:
        patch: dict[str, Any] = {
            "metadata": {"resourceVersion": run.resource_version},
            "spec": {"suspend": desired.suspend},
        }
        zone = seen.zone_of(run.role) or desired.zone
        if not desired.suspend and zone is not None and run.zone is None:
            patch["metadata"]["annotations"] = {ZONE_ANNOTATION: zone}
            if selector := self.zones.selector(zone):
                merged = node_selector(seen.job, self.config.jobs, run.role, selector)
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
