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
from green_api.contract import Progress
from green_api.job import GreenTrainingJob, Policy
from green_api.status import AccountStatus, JobStatus
from green_api.units import Power
from pydantic import ValidationError

from green_operator.account.book import Book
from green_operator.account.power import PowerTable
from green_operator.account.statement import statement_of
from green_operator.cluster.api import JOBS, PODS, RUNS, Api, ApiError
from green_operator.cluster.claims import Claims
from green_operator.cluster.fleet import FleetPlanner
from green_operator.cluster.index import Index, JobRecord, Key
from green_operator.cluster.pods import PodAsker
from green_operator.cluster.queue import WorkQueue
from green_operator.cluster.recorder import Recorder
from green_operator.cluster.zones import Zones
from green_operator.lifecycle.decide import decide
from green_operator.lifecycle.events import Event, transitions
from green_operator.lifecycle.significance import FIGURES_EVERY, is_significant
from green_operator.lifecycle.types import Decision, DesiredRun, RunView, Snapshot
from green_operator.metrics import Metrics, standing
from green_operator.objects.attempts import Word, enter_attempts
from green_operator.objects.names import JOB_LABEL, run_name
from green_operator.objects.observed import PodRecord, RunRecord
from green_operator.objects.rejected import rejected_status
from green_operator.objects.run import node_selector, run_job
from green_operator.objects.views import run_view
from green_operator.plan.remaining import expected_power, remaining_time
from green_operator.plan.types import JobRequest, Plan

_logger = logging.getLogger(__name__)

# For a job that starts at once and does not say how long it takes; nothing is shown of it.
_UNKNOWN_DURATION: Final = timedelta(hours=1)
# What is waited for without an event is looked at again so often.
_RECHECK: Final = timedelta(minutes=5)


def utc_now() -> datetime:
    """The time now, in UTC."""
    return datetime.now(UTC)


@dataclass(slots=True)
class _Seen:
    """A job with all that is known of it at one moment."""

    key: Key
    record: JobRecord
    job: GreenTrainingJob
    previous: JobStatus | None
    run: RunRecord | None
    pods: list[PodRecord]
    book: Book

    @property
    def created(self) -> datetime:
        created = self.job.metadata.creation_timestamp
        assert created is not None  # noqa: S101 - the server gives it
        return created

    @property
    def running(self) -> PodRecord | None:
        """The pod that works."""
        return next((pod for pod in self.pods if pod.is_running), None)


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
            self.index.drop_children(key)
            return
        body = record.unpack()
        try:
            job = GreenTrainingJob.model_validate({k: v for k, v in body.items() if k != "status"})
            status = body.get("status")
            previous = JobStatus.model_validate(status) if status else None
        except ValidationError as error:
            await self._reject(key, record, body, describe_problems(error))
            return
        if job.metadata.model_extra and job.metadata.model_extra.get("deletionTimestamp"):
            return
        seen = self._see(key, record, job, previous)
        snapshot = await self._snapshot(seen)
        snapshot = await self._apply(seen, snapshot)
        await self._conclude(seen, decide(snapshot), snapshot)

    def _see(
        self, key: Key, record: JobRecord, job: GreenTrainingJob, previous: JobStatus | None
    ) -> _Seen:
        runs = self.index.runs(key, record.uid)
        pods = self.index.pods(key, [run.uid for run in runs])
        created = job.metadata.creation_timestamp or self.clock()
        account = previous.account if previous is not None else None
        book = Book.from_status(account, self._reserved(job), created)
        if key not in self._written:
            self._written[key] = (record.uid, None)
            self.metrics.begin_after(job, statement_of(book))
        return _Seen(key, record, job, previous, runs[-1] if runs else None, pods, book)

    async def _snapshot(self, seen: _Seen) -> Snapshot:
        await self._confirm(seen)
        now = self.clock()
        await self._account(seen, now)
        plan = await self._plan(seen, now)
        # A plan's first window may begin at the moment of planning: decide no earlier.
        now = self.clock()
        view = self._view(seen, now)
        job, book, previous = seen.job, seen.book, seen.previous
        zone = self.zones.of_job(job)
        started = previous.start_time if previous is not None else None
        if started is None and book.latest:
            started = book.latest[0].start
        heard = self.asker.heard(seen.running.uid) if seen.running is not None else None
        return Snapshot(
            job=job,
            now=now,
            deadline=self._deadline(seen),
            plan=plan,
            intensity_known=self.zones.is_known(zone),
            intensity_source=self.zones.describe(zone),
            run=view,
            started=started,
            attempts=book.attempts,
            active_time=book.active_time(now),
            progress=self._progress(seen),
            progress_problem=heard.problem if heard is not None else "",
            statement=statement_of(book) if book.attempts else None,
            previous=previous,
            account=_worth_carrying(book.to_status()),
            next_run=self._next_run(seen),
            claim=await self.claims.problem(job) if not _is_final(previous) else None,
        )

    async def _confirm(self, seen: _Seen) -> None:
        """Look at the server itself where a stale view would be dear."""
        previous, run = seen.previous, seen.run
        name = previous.run.name if previous is not None and previous.run is not None else None
        if run is None and name is not None and not _is_final(previous):
            body = await self.api.get(RUNS, seen.key[0], name)
            if body is not None and self._is_ours(seen, body):
                self.index.put_run(body)
        elif run is not None and run.end is not None and not any(p.summary() for p in seen.pods):
            # The Job's end may have been seen before its pod's.
            selector = f"{JOB_LABEL}={seen.job.metadata.name}"
            async for body in self.api.list(PODS, seen.key[0], selector):
                self.index.put_pod(body)
        else:
            return
        runs = self.index.runs(seen.key, seen.record.uid)
        seen.run = runs[-1] if runs else None
        seen.pods = self.index.pods(seen.key, [r.uid for r in runs])

    async def _account(self, seen: _Seen, now: datetime) -> None:
        words: dict[str, Word] = {}
        zones: dict[str, str | None] = {}
        for pod in seen.pods:
            heard = self.asker.heard(pod.uid)
            if heard is not None:
                current = heard.reply.current if heard.reply is not None else None
                words[pod.uid] = Word(heard.entries, current)
            if pod.started is not None and seen.book.attempt(pod.uid) is None:
                zones[pod.uid] = await self.zones.of_node(pod.node)
        enter_attempts(
            seen.book, seen.pods, words, zones, self.zones.recorded, now,
            self.config.journal_interval,
        )  # fmt: skip

    def _view(self, seen: _Seen, now: datetime) -> RunView | None:
        if seen.run is None:
            return None
        own = [pod for pod in seen.pods if pod.owner_uid == seen.run.uid]
        return run_view(seen.run, own, now)

    async def _plan(self, seen: _Seen, now: datetime) -> Plan | None:
        if _is_final(seen.previous):
            self.planner.forget(seen.key)
            return None
        schedule = seen.job.spec.schedule
        active = seen.book.active_time(now)
        used = statement_of(seen.book).energy
        request = JobRequest(
            key=seen.record.uid,
            zones=self.zones.candidates(seen.job),
            remaining=remaining_time(
                schedule.expected_duration or _UNKNOWN_DURATION, active, self._progress(seen)
            ),
            power=expected_power(self._reserved(seen.job), used, active),
            deadline=self._deadline(seen),
            interruptible=schedule.interruptible,
            immediately=schedule.policy is Policy.IMMEDIATELY,
        )
        return await self.planner.plan(seen.key, request, running=seen.running is not None)

    async def _apply(self, seen: _Seen, snapshot: Snapshot) -> Snapshot:
        """Make the run what it ought to be; the snapshot with the run as it is then."""
        desired = decide(snapshot).run
        if desired is None:
            return snapshot
        run = seen.run
        if run is None or run.number != desired.number:
            run = await self._create(seen, desired)
        if run.end is None and run.suspend != desired.suspend:
            run = await self._set_suspend(seen, run, desired)
        if run is seen.run:
            return snapshot
        seen.run = run
        return replace(snapshot, run=self._view(seen, snapshot.now))

    async def _create(self, seen: _Seen, desired: DesiredRun) -> RunRecord:
        body = run_job(seen.job, desired.number, self.config, self._table)
        try:
            made = await self.api.create(RUNS, body)
        except ApiError as error:
            if error.status != 409:
                raise
            # Made before by us, unless the owner is another one.
            found = await self.api.get(RUNS, seen.key[0], body["metadata"]["name"])
            if found is None or not self._is_ours(seen, found):
                message = f"the Job {body['metadata']['name']} exists and is not this job's"
                raise ApiError(409, message) from None
            made = found
        self.index.put_run(made)
        return self.index.runs(seen.key, seen.record.uid)[-1]

    async def _set_suspend(self, seen: _Seen, run: RunRecord, desired: DesiredRun) -> RunRecord:
        if desired.suspend and seen.running is not None:
            # Once more before it goes: what it has used and how far it is.
            await self._ask(seen, seen.running)
        patch: dict[str, Any] = {
            "metadata": {"resourceVersion": run.resource_version},
            "spec": {"suspend": desired.suspend},
        }
        selector = self.zones.selector(desired.zone)
        is_first = not any(pod.owner_uid == run.uid for pod in seen.pods)
        if not desired.suspend and selector and is_first:
            merged = node_selector(seen.job, self.config.jobs, selector)
            patch["spec"]["template"] = {"spec": {"nodeSelector": merged}}
        try:
            body = await self.api.patch(RUNS, run.namespace, run.name, patch)
        except ApiError as error:
            if error.status != 422 or "template" not in patch["spec"]:
                raise
            # It has run before: its place is settled.
            del patch["spec"]["template"]
            body = await self.api.patch(RUNS, run.namespace, run.name, patch)
        self.index.put_run(body)
        return self.index.runs(seen.key, seen.record.uid)[-1]

    async def _conclude(self, seen: _Seen, decision: Decision, snapshot: Snapshot) -> None:
        """Write the status if it says something new, tell it, and see to the next look."""
        key, status, now = seen.key, decision.status, snapshot.now
        if decision.expires is not None and now >= decision.expires:
            await self.api.delete(JOBS, *key, seen.record.uid)
            return
        last = self._written[key][1]
        since = now - last if last is not None else None
        if status != seen.previous and is_significant(seen.previous, status, since):
            await self._write(seen, status.to_wire())
            self._written[key] = (seen.record.uid, now)
            self.metrics.record(seen.job, status, snapshot.statement)
            self._note_start(seen, status)
            await self.recorder.post(seen.job, transitions(seen.previous, status))
            for pod in seen.pods:
                self.asker.entered(pod.uid, seen.book.sequence)
        record = self.index.jobs.get(key)
        if record is not None:
            record.standing = standing(seen.job, status)
        self._tidy(seen)
        self._schedule(seen, decision, now)

    async def _write(self, seen: _Seen, status: dict[str, Any]) -> None:
        namespace, name = seen.key
        await self._write_status(namespace, name, seen.record, status)

    async def _write_status(
        self, namespace: str, name: str, record: JobRecord, status: dict[str, Any]
    ) -> None:
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
        if answer["metadata"]["uid"] == record.uid:
            self.index.put_job(answer)

    def _note_start(self, seen: _Seen, status: JobStatus) -> None:
        is_first = seen.previous is None or seen.previous.start_time is None
        if is_first and status.start_time is not None:
            self.metrics.started(seen.key[0], status.start_time - seen.created)

    def _tidy(self, seen: _Seen) -> None:
        """Pods that are gone and stored in the books need not be remembered."""
        stored = self.index.jobs.get(seen.key)
        if stored is None:
            return
        status = stored.unpack().get("status") or {}
        ended = {
            a["uid"] for a in (status.get("account") or {}).get("latest", ()) if a.get("endTime")
        }
        for pod in seen.pods:
            if pod.gone and (pod.started is None or pod.uid in ended):
                self.index.drop_pod(seen.key, pod.uid)
                self.asker.forget(pod.uid)

    def _schedule(self, seen: _Seen, decision: Decision, now: datetime) -> None:
        times = [decision.expires, self.planner.next_edge(seen.key)]
        if not decision.status.state.is_final:
            times.append(self._deadline(seen))
            if seen.pods or snapshot_waits(decision):
                times.append(now + _RECHECK)
        if seen.running is not None:
            times.append(self._ask_later(seen, seen.running, now))
            times.append(now + FIGURES_EVERY)
        following = [(t - now).total_seconds() for t in times if t is not None and t > now]
        if following:
            self.queue.add_after(seen.key, min(following))

    def _ask_later(self, seen: _Seen, pod: PodRecord, now: datetime) -> datetime:
        """Ask the pod in the background where that is due; when it will be due again."""
        heard = self.asker.heard(pod.uid)
        due = now if heard is None else heard.asked + self.config.progress_interval
        if due > now:
            return due
        task = asyncio.create_task(self._ask_and_add(seen, pod))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return now + self.config.progress_interval

    async def _ask_and_add(self, seen: _Seen, pod: PodRecord) -> None:
        await self._ask(seen, pod)
        self.queue.add(seen.key)

    async def _ask(self, seen: _Seen, pod: PodRecord) -> None:
        await self.asker.ask(pod, seen.book.sequence, self._reserved(seen.job), seen.created)

    async def _reject(
        self, key: Key, record: JobRecord, body: dict[str, Any], problems: list[str]
    ) -> None:
        """What this version cannot read is left as it is, with a condition that says so."""
        status = rejected_status(body, problems, self.clock())
        self._written.setdefault(key, (record.uid, None))
        if status is not None:
            await self._write_status(*key, record, status)
            message = f"the stored object cannot be read: {problems[0]}"
            await self.recorder.post_about(body, [Event("Warning", "NotAccepted", message)])

    def _forget(self, key: Key) -> None:
        self._written.pop(key, None)
        self.metrics.forget(*key)
        self.planner.forget(key)

    def _reserved(self, job: GreenTrainingJob) -> Power:
        return self._table.reserved(job.spec.resources.gpus, job.spec.resources.cores)

    def _deadline(self, seen: _Seen) -> datetime | None:
        schedule = seen.job.spec.schedule
        if schedule.complete_within is not None:
            return seen.created + schedule.complete_within
        return schedule.deadline

    def _progress(self, seen: _Seen) -> Progress | None:
        """What the running pod said last; else what is stored, unless an attempt failed since."""
        if seen.running is not None:
            heard = self.asker.heard(seen.running.uid)
            if heard is not None and heard.reply is not None:
                return heard.reply.progress
        stored = seen.previous.progress if seen.previous is not None else None
        run = seen.previous.run if seen.previous is not None else None
        if stored is None or (run and seen.run and seen.run.failed > run.failed_attempts):
            return None
        return Progress(
            percentage=stored.progress_percentage,
            estimated_remaining_seconds=stored.estimated_remaining_seconds,
            phase=stored.phase,
        )

    def _next_run(self, seen: _Seen) -> int:
        """After a run that was deleted by hand another one follows."""
        previous = seen.previous.run if seen.previous is not None else None
        return previous.number + 1 if previous is not None and previous.name is not None else 1

    def _is_ours(self, seen: _Seen, body: dict[str, Any]) -> bool:
        owners = body["metadata"].get("ownerReferences") or ()
        uid = next((o["uid"] for o in owners if o.get("controller")), "")
        meta = seen.job.metadata
        number = body["metadata"].get("labels", {}).get(f"{JOB_LABEL.partition('/')[0]}/run", "")
        expected = run_name(meta.name, meta.uid, int(number)) if number.isdigit() else ""
        return bool(uid == seen.record.uid and body["metadata"]["name"] == expected)


def snapshot_waits(decision: Decision) -> bool:
    """The run ought to work: what keeps it may go without an event."""
    return decision.run is not None and not decision.run.suspend


def _is_final(previous: JobStatus | None) -> bool:
    return previous is not None and previous.state.is_final


def _worth_carrying(account: AccountStatus) -> AccountStatus | None:
    return account if account.attempts else None
