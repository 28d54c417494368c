"""One job at a time: gather, decide, apply, write one status, tell.

Safe to be killed between any two requests: children have deterministic names, the books are in the
status, and what is decided depends only on what is seen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from green_api import API_VERSION
from green_api.config import OperatorConfig
from green_api.job import GreenTrainingJob
from green_api.problems import describe_problems
from green_api.status import JobStatus
from green_api.units import Power
from pydantic import ValidationError

from green_operator.account.power import PowerTable
from green_operator.account.roles import accounts_in, sum_of
from green_operator.account.statement import statement_of
from green_operator.cluster.api import JOBS, Api, ApiError, NameTakenError
from green_operator.cluster.claims import Claims
from green_operator.cluster.credentials import Credentials
from green_operator.cluster.fleet import FleetPlanner
from green_operator.cluster.gather import FAREWELL, Gatherer
from green_operator.cluster.index import Index, JobRecord, Key
from green_operator.cluster.pods import PodAsker
from green_operator.cluster.queue import WorkQueue
from green_operator.cluster.recorder import Recorder
from green_operator.cluster.runs import Runs
from green_operator.cluster.seen import Seen
from green_operator.cluster.zones import Zones
from green_operator.lifecycle.decide import decide
from green_operator.lifecycle.events import Event, transitions
from green_operator.lifecycle.significance import FIGURES_EVERY, is_significant
from green_operator.lifecycle.types import Decision, Obstacle, Snapshot
from green_operator.metrics import Metrics, rejected_standing, standing
from green_operator.objects.rejected import rejected_status

_logger = logging.getLogger(__name__)

# What is waited for without an event is looked at again so often.
_RECHECK: Final = timedelta(minutes=5)
# A start that comes to nothing is told soon.
_RECHECK_STARTING: Final = timedelta(minutes=1)
_SOON: Final = timedelta(seconds=1)
_REFUSALS: Final = frozenset({400, 403, 422})


def utc_now() -> datetime:
    """The time now, in UTC."""
    return datetime.now(UTC)


@dataclass
class Reconciler:
    """What one worker does with one job."""

    api: Api
    config: OperatorConfig
    index: Index
    queue: WorkQueue[Key]
    planner: FleetPlanner
    zones: Zones
    asker: PodAsker
    claims: Claims
    recorder: Recorder
    metrics: Metrics
    clock: Callable[[], datetime] = utc_now

    def __post_init__(self) -> None:
        power = self.config.power
        self._table = PowerTable(Power(power.gpu_watts), Power(power.core_watts))
        self._gatherer = Gatherer(
            self.api, self.config, self.index, self.planner, self.zones, self.asker, self.claims,
            self.clock,
        )  # fmt: skip
        self._credentials = Credentials(self.api, self.clock)
        self._runs = Runs(
            self.api, self.config, self.index, self.zones, self._table, self._credentials,
            self._ask_all,
        )  # fmt: skip
        self._written: dict[Key, tuple[str, datetime | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def reconcile(self, key: Key) -> None:
        """Bring one job's world in line with its spec.

        Raises:
            ApiError: the API server refused or did not answer; the key is to be tried again.

        """
        record = self.index.jobs.get(key)
        written = self._written.get(key)
        if written is not None and (record is None or record.uid != written[0]):
            self._forget(key, written[0])
        if record is None:
            for uid in self.index.drop_children(key):
                self.asker.forget(uid)
            return
        text, status = record.lines()
        try:
            job = GreenTrainingJob.model_validate_json(text)
        except ValidationError as error:
            await self._reject(key, record, describe_problems(error, GreenTrainingJob))
            return
        try:
            previous = JobStatus.model_validate_json(status) if status else None
        except ValidationError as error:
            await self._reject(key, record, describe_problems(error, JobStatus, "status"))
            return
        if job.metadata.model_extra and job.metadata.model_extra.get("deletionTimestamp"):
            return
        seen = self._see(key, record, job, previous)
        snapshot = await self._gatherer.snapshot(seen)
        decision = decide(snapshot)
        try:
            if decision.run is not None and await self._runs.bring(seen, decision.run):
                snapshot = self._gatherer.again(snapshot, seen)
                decision = decide(snapshot)
        except ApiError as error:
            if error.status not in _REFUSALS and not isinstance(error, NameTakenError):
                raise
            message = f"what the run needs cannot be made: {error}"
            snapshot = replace(snapshot, held=Obstacle("RunRefused", message))
            await self._conclude(seen, decide(snapshot), snapshot)
            raise
        await self._conclude(seen, decision, snapshot)

    def _see(
        self, key: Key, record: JobRecord, job: GreenTrainingJob, previous: JobStatus | None
    ) -> Seen:
        created = job.metadata.creation_timestamp or self.clock()
        seen = Seen.of(key, record, job, previous, self._reserved(job), created)
        if key not in self._written:
            self._written[key] = (record.uid, None)
            if previous is not None:
                statement = sum_of([statement_of(book) for book in seen.books.values()])
                self.metrics.begin_after(job, previous, statement)
                self.metrics.show(job, previous)
        return seen

    async def _conclude(self, seen: Seen, decision: Decision, snapshot: Snapshot) -> None:
        """Write the status if it says something new, tell it, and see to the next look."""
        key, status, now = seen.key, decision.status, snapshot.now
        if seen.is_final and decision.expires is not None and now >= decision.expires:
            await self.api.delete(JOBS, *key, seen.record.uid)
            return
        last = self._written[key][1]
        since = now - last if last is not None else None
        stored = seen.previous
        if status != seen.previous and is_significant(seen.previous, status, since):
            await self._write(key, seen.record, status.to_wire())
            stored = status
            self._written[key] = (seen.record.uid, now)
            self.metrics.record(seen.job, status, snapshot.statement)
            self._note_start(seen, status)
            await self.recorder.post(seen.job, transitions(seen.previous, status))
            for role, book in seen.books.items():
                for pod in seen.pods[role]:
                    self.asker.entered(pod.uid, book.sequence)
        record = self.index.jobs.get(key)
        if record is not None:
            record.standing = standing(seen.job, status)
        self._tidy(seen, stored)
        self._schedule(seen, decision, now, claim_is_missing=snapshot.claim is not None)

    async def _write(self, key: Key, record: JobRecord, status: dict[str, Any]) -> None:
        namespace, name = key
        body = {
            "apiVersion": API_VERSION,
            "kind": "GreenTrainingJob",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "resourceVersion": record.resource_version,
            },
            "status": status,
        }
        answer = await self.api.apply_status(JOBS, namespace, name, body)
        known = self.index.jobs.get(key)
        # One that was deleted meanwhile must not come back.
        if known is not None and known.uid == answer["metadata"]["uid"]:
            self.index.put_job(answer)

    def _note_start(self, seen: Seen, status: JobStatus) -> None:
        is_first = seen.previous is None or seen.previous.start_time is None
        if is_first and status.start_time is not None:
            self.metrics.started(seen.key[0], status.start_time - seen.created)

    def _tidy(self, seen: Seen, stored: JobStatus | None) -> None:
        """Pods that are gone and closed in the stored books need not be remembered."""
        ended = {a.uid for account in accounts_in(stored) for a in account.latest if a.end_time}
        for pod in seen.all_pods:
            if pod.gone and (pod.started is None or pod.uid in ended):
                self.index.drop_pod(seen.key, pod.uid)
                self.asker.forget(pod.uid)

    def _schedule(
        self, seen: Seen, decision: Decision, now: datetime, *, claim_is_missing: bool
    ) -> None:
        times = [decision.expires, self.planner.next_edge(seen.key)]
        if not decision.status.state.is_final:
            deadline = seen.deadline
            times.append(deadline if deadline is not None and deadline > now else None)
            if snapshot_waits(decision) and not seen.running:
                times.append(now + _RECHECK_STARTING)
            elif seen.all_pods:
                times.append(now + _RECHECK)
            lead = seen.runs.get(seen.lead)
            if seen.has_roles and lead is not None and lead.end is not None:
                times.append(now + FAREWELL)
        if seen.running:
            times.append(self._ask_later(seen, now))
            times.append(now + FIGURES_EVERY)
        if claim_is_missing:
            times.append(now + _RECHECK / 5)
        # What is due already is due soon: an edge may have passed between planning and deciding.
        following = [max(t - now, _SOON).total_seconds() for t in times if t is not None]
        if following:
            self.queue.add_after(seen.key, min(following))

    def _ask_later(self, seen: Seen, now: datetime) -> datetime:
        """Ask the pods that are due in the background; when the next one will be due."""
        due: list[str] = []
        times = [now + self.config.progress_interval]
        for role, pod in seen.running.items():
            heard = self.asker.heard(pod.uid)
            at = now if heard is None else heard.asked + self.config.progress_interval
            if at > now:
                times.append(at)
            else:
                due.append(role)
        if due:
            task = asyncio.create_task(self._ask_and_add(seen, due))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return min(times)

    async def _ask_and_add(self, seen: Seen, roles: Sequence[str]) -> None:
        await self._ask(seen, roles)
        self.queue.add(seen.key)

    async def _ask_all(self, seen: Seen) -> None:
        await self._ask(seen, list(seen.running))

    async def _ask(self, seen: Seen, roles: Sequence[str]) -> None:
        running = seen.running
        await asyncio.gather(
            *(
                self.asker.ask(
                    running[role],
                    seen.books[role].sequence,
                    seen.books[role].reserved,
                    seen.created,
                )
                for role in roles
            )
        )

    async def _reject(self, key: Key, record: JobRecord, problems: list[str]) -> None:
        """What this version cannot read is left as it is, with a condition that says so."""
        body = record.unpack()
        status = rejected_status(body, problems, self.clock())
        if status is not None:
            await self._write(key, record, status)
            message = f"the stored object cannot be read: {problems[0]}"
            await self.recorder.post_about(body, [Event("Warning", "NotAccepted", message)])
        # After the write, which puts a new record in this one's place.
        known = self.index.jobs.get(key)
        if known is not None:
            known.standing = rejected_standing(body, status or body["status"])

    def _forget(self, key: Key, uid: str) -> None:
        self._written.pop(key, None)
        self.metrics.forget(*key)
        self.planner.forget(key)
        self._credentials.forget(uid)

    def _reserved(self, job: GreenTrainingJob) -> dict[str, Power]:
        """By role, what its reservation can draw."""
        resources = {role: job.spec.resources_of(role) for role in job.spec.task.roles}
        return {role: self._table.reserved(r.gpus, r.cores) for role, r in resources.items()}


def snapshot_waits(decision: Decision) -> bool:
    """The run ought to work: what keeps it may go without an event."""
    return decision.run is not None and not decision.run.suspend
