"""One job at a time: gather, decide, apply, write one status, tell.

Safe to be killed between any two requests: children have deterministic names, the books are in the
status, and what is decided depends only on what is seen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from green_api.base import describe_problems
from green_api.config import OperatorConfig
from green_api.job import GreenTrainingJob
from green_api.status import JobStatus
from green_api.units import Power
from pydantic import ValidationError

from green_operator.account.book import Book
from green_operator.account.power import PowerTable
from green_operator.account.statement import statement_of
from green_operator.cluster.api import JOBS, Api, ApiError
from green_operator.cluster.claims import Claims
from green_operator.cluster.fleet import FleetPlanner
from green_operator.cluster.gather import Gatherer
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
from green_operator.metrics import Metrics, standing
from green_operator.objects.observed import PodRecord
from green_operator.objects.rejected import rejected_status, unsupported

_logger = logging.getLogger(__name__)

# What is waited for without an event is looked at again so often.
_RECHECK: Final = timedelta(minutes=5)
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
        self._runs = Runs(self.api, self.config, self.index, self.zones, self._table, self._ask)
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
            self._forget(key)
        if record is None:
            for uid in self.index.drop_children(key):
                self.asker.forget(uid)
            return
        body = record.unpack()
        try:
            job = GreenTrainingJob.model_validate({k: v for k, v in body.items() if k != "status"})
            status = body.get("status")
            previous = JobStatus.model_validate(status) if status else None
        except ValidationError as error:
            await self._reject(key, record, body, describe_problems(error))
            return
        if problems := unsupported(job):
            await self._reject(key, record, body, problems)
            return
        if job.metadata.model_extra and job.metadata.model_extra.get("deletionTimestamp"):
            return
        seen = self._see(key, record, job, previous)
        snapshot = await self._gatherer.snapshot(seen)
        try:
            snapshot = await self._apply(seen, snapshot)
        except ApiError as error:
            if error.status not in _REFUSALS:
                raise
            message = f"the API server refuses the run's Job: {error}"
            snapshot = replace(snapshot, refused=Obstacle("RunRefused", message))
            await self._conclude(seen, decide(snapshot), snapshot)
            raise
        await self._conclude(seen, decide(snapshot), snapshot)

    def _see(
        self, key: Key, record: JobRecord, job: GreenTrainingJob, previous: JobStatus | None
    ) -> Seen:
        runs = self.index.runs(key, record.uid)
        created = job.metadata.creation_timestamp or self.clock()
        account = previous.account if previous is not None else None
        book = Book.from_status(account, self._reserved(job), created)
        if key not in self._written:
            self._written[key] = (record.uid, None)
            ended = previous is not None and previous.state.is_final
            self.metrics.begin_after(job, statement_of(book), ended=ended)
            if previous is not None:
                self.metrics.show(job, previous)
        seen = Seen(key, record, job, previous, runs[-1] if runs else None, [], book)
        seen.pods = self.index.pods(key, [*(run.uid for run in runs), *seen.past_runs])
        return seen

    async def _apply(self, seen: Seen, snapshot: Snapshot) -> Snapshot:
        """Make the run what it ought to be; the snapshot with the run as it is then."""
        desired = decide(snapshot).run
        if desired is None or not await self._runs.bring(seen, desired):
            return snapshot
        return replace(snapshot, run=self._gatherer.view(seen, snapshot.now))

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
            for pod in seen.pods:
                self.asker.entered(pod.uid, seen.book.sequence)
        record = self.index.jobs.get(key)
        if record is not None:
            record.standing = standing(seen.job, status)
        self._tidy(seen, stored)
        self._schedule(seen, decision, now, claim_is_missing=snapshot.claim is not None)

    async def _write(self, key: Key, record: JobRecord, status: dict[str, Any]) -> None:
        namespace, name = key
        body = {
            "apiVersion": "greentraining.io/v1alpha1",
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
        account = stored.account if stored is not None else None
        ended = {a.uid for a in account.latest if a.end_time} if account is not None else set()
        for pod in seen.pods:
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
            if seen.pods or snapshot_waits(decision):
                times.append(now + _RECHECK)
        if seen.running is not None:
            times.append(self._ask_later(seen, seen.running, now))
            times.append(now + FIGURES_EVERY)
        if claim_is_missing:
            times.append(now + _RECHECK / 5)
        # What is due already is due soon: an edge may have passed between planning and deciding.
        following = [max(t - now, _SOON).total_seconds() for t in times if t is not None]
        if following:
            self.queue.add_after(seen.key, min(following))

    def _ask_later(self, seen: Seen, pod: PodRecord, now: datetime) -> datetime:
        """Ask the pod in the background where that is due; when it will be due again."""
        heard = self.asker.heard(pod.uid)
        due = now if heard is None else heard.asked + self.config.progress_interval
        if due > now:
            return due
        task = asyncio.create_task(self._ask_and_add(seen, pod))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return now + self.config.progress_interval

    async def _ask_and_add(self, seen: Seen, pod: PodRecord) -> None:
        await self._ask(seen, pod)
        self.queue.add(seen.key)

    async def _ask(self, seen: Seen, pod: PodRecord) -> None:
        await self.asker.ask(pod, seen.book.sequence, seen.book.reserved, seen.created)

    async def _reject(
        self, key: Key, record: JobRecord, body: dict[str, Any], problems: list[str]
    ) -> None:
        """What this version cannot read is left as it is, with a condition that says so."""
        status = rejected_status(body, problems, self.clock())
        if status is not None:
            await self._write(key, record, status)
            message = f"the stored object cannot be read: {problems[0]}"
            await self.recorder.post_about(body, [Event("Warning", "NotAccepted", message)])

    def _forget(self, key: Key) -> None:
        self._written.pop(key, None)
        self.metrics.forget(*key)
        self.planner.forget(key)

    def _reserved(self, job: GreenTrainingJob) -> Power:
        return self._table.reserved(job.spec.resources.gpus, job.spec.resources.cores)


def snapshot_waits(decision: Decision) -> bool:
    """The run ought to work: what keeps it may go without an event."""
    return decision.run is not None and not decision.run.suspend
