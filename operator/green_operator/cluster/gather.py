"""From a job and what is known of it to the snapshot that a decision is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from green_api.config import OperatorConfig
from green_api.contract import Progress
from green_api.job import Policy
from green_api.status import AccountStatus
from green_api.units import ZERO_ENERGY, Power

from green_operator.account.roles import accounts_of, sum_of
from green_operator.account.statement import Statement, statement_of
from green_operator.cluster.api import PODS, RUNS, Api
from green_operator.cluster.claims import Claims
from green_operator.cluster.fleet import FleetPlanner
from green_operator.cluster.index import Index
from green_operator.cluster.pods import PodAsker
from green_operator.cluster.seen import Seen
from green_operator.cluster.zones import Zones
from green_operator.lifecycle.roles import run_of_roles
from green_operator.lifecycle.types import Obstacle, RoleView, RunEnd, RunView, Snapshot
from green_operator.objects.attempts import Word, enter_attempts
from green_operator.objects.names import JOB_LABEL, run_name
from green_operator.objects.observed import PodRecord, RunRecord
from green_operator.objects.views import missing_view, obstacle, run_view
from green_operator.plan.remaining import expected_power, remaining_time
from green_operator.plan.types import JobRequest, Plan

FAREWELL: Final = timedelta(minutes=1)
"""A site hears within seconds that its server has ended; after this it is not waited for."""
# For a job that starts at once and does not say how long it takes; nothing is shown of it.
_UNKNOWN_DURATION: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Gatherer:
    """Looks at everything that a decision depends on; changes nothing in the cluster."""

    api: Api
    config: OperatorConfig
    index: Index
    planner: FleetPlanner
    zones: Zones
    asker: PodAsker
    claims: Claims
    clock: Callable[[], datetime]

    async def snapshot(self, seen: Seen) -> Snapshot:
        """Bring the books up to now, plan, and say how things stand."""
        seen.look(self.index)
        await self._confirm(seen)
        now = self.clock()
        for role in seen.books:
            await self._account(seen, role, now)
        plan = await self._plan(seen, now)
        # A plan's first window may begin at the moment of planning: decide no earlier.
        now = self.clock()
        job, books, previous = seen.job, seen.books, seen.previous
        zone = next(iter(self._zones_of(seen)), None)
        started = previous.start_time if previous is not None else None
        if started is None:
            started = min((b.latest[0].start for b in books.values() if b.latest), default=None)
        ended = [a.end for book in books.values() for a in book.latest if a.end is not None]
        statements = {r: statement_of(book) for r, book in books.items() if book.attempts}
        return Snapshot(
            job=job,
            now=now,
            deadline=seen.deadline,
            plan=plan,
            intensity_known=self.zones.is_known(zone),
            intensity_source=self.zones.describe(zone),
            run=self._view(seen, now),
            started=started,
            attempts=sum(book.attempts for book in books.values()),
            active_time=books[seen.lead].active_time(now),
            progress=self._progress(seen),
            progress_problem=self._progress_problem(seen),
            statement=sum_of(list(statements.values())) if statements else None,
            previous=previous,
            account=None if seen.has_roles else _worth_carrying(books[seen.lead].to_status()),
            next_run=seen.next_run,
            leftover=self._leftover(seen, now),
            claim=await self.claims.problem(job) if not seen.is_final else None,
            ended=max(ended, default=None),
            accounts=tuple(accounts_of(books)) if seen.has_roles else None,
            roles=self._roles(seen, statements, now) if seen.has_roles else (),
            closing_late=_is_closing_late(seen, now),
        )

    def again(self, snapshot: Snapshot, seen: Seen) -> Snapshot:
        """The snapshot with the run as it is now."""
        views = self._views(seen, snapshot.now)
        roles = tuple(replace(role, run=views.get(role.name)) for role in snapshot.roles)
        return replace(snapshot, run=self._view(seen, snapshot.now), roles=roles)

    async def _confirm(self, seen: Seen) -> None:
        """Look at the server itself where a stale view would be dear."""
        if seen.is_final:
            return
        names = self._not_seen(seen)
        for name in names:
            body = await self.api.get(RUNS, seen.key[0], name)
            if body is not None and seen.owns(body):
                self.index.put_run(body)
        is_unseen = any(_ended_unseen(run, seen.own_pods(role)) for role, run in seen.runs.items())
        if is_unseen:
            # The Job's end may have been seen before its pod's.
            selector = f"{JOB_LABEL}={seen.job.metadata.name}"
            async for body in self.api.list(PODS, seen.key[0], selector):
                self.index.put_pod(body)
        if names or is_unseen:
            seen.look(self.index)

    @staticmethod
    def _not_seen(seen: Seen) -> list[str]:
        """Names of the Jobs that the stored run ought to have and that nobody has shown."""
        stored = seen.previous.run if seen.previous is not None else None
        lead = seen.runs.get(seen.lead)
        if stored is None or stored.name is None or (lead is not None and lead.end is not None):
            return []
        if seen.number is not None and seen.number != stored.number:
            return []
        meta = seen.job.metadata
        return [
            run_name(meta.name, seen.record.uid, stored.number, role)
            for role in seen.books
            if role not in seen.runs
        ]

    async def _account(self, seen: Seen, role: str, now: datetime) -> None:
        words: dict[str, Word] = {}
        zones: dict[str, str | None] = {}
        book, pods = seen.books[role], seen.pods[role]
        started_in = {run.uid: run.zone for run in self.index.runs(seen.key, seen.record.uid)}
        for pod in pods:
            heard = self.asker.heard(pod.uid)
            if heard is not None:
                current = heard.reply.current if heard.reply is not None else None
                words[pod.uid] = Word(heard.entries, current)
            if pod.started is not None and book.attempt(pod.uid) is None:
                zones[pod.uid] = await self.zones.of_node(pod.node, started_in.get(pod.owner_uid))
        enter_attempts(
            book, pods, words, zones, self.zones.recorded, now, self.config.journal_interval
        )

    @staticmethod
    def _leftover(seen: Seen, now: datetime) -> Obstacle | None:
        """A pod that works or ends although its run is gone or another one follows."""
        current = {run.uid for run in seen.runs.values()}
        left = [p for p in seen.all_pods if p.owner_uid not in current and not p.is_over]
        if not left:
            return None
        waiting = f"waits until pod {left[0].name} of an earlier run has ended"
        return obstacle(left[0], now) or Obstacle("PodEnding", waiting)

    def _view(self, seen: Seen, now: datetime) -> RunView | None:
        """The newest run as decisions see it."""
        views = self._views(seen, now)
        if not views:
            return None
        return run_of_roles(views) if seen.has_roles else views[seen.lead]

    @staticmethod
    def _views(seen: Seen, now: datetime) -> dict[str, RunView]:
        """By role, its part of the newest run; a Job that is missing is to be made, suspended."""
        number = seen.number
        if number is None:
            return {}
        return {
            role: run_view(seen.runs[role], seen.own_pods(role), now)
            if role in seen.runs
            else missing_view(number)
            for role in seen.books
        }

    def _roles(
        self, seen: Seen, statements: Mapping[str, Statement], now: datetime
    ) -> tuple[RoleView, ...]:
        views = self._views(seen, now)
        zones = {role: run.zone for role, run in seen.runs.items()}
        return tuple(
            RoleView(
                role,
                views.get(role),
                statements[role].zone
                if role in statements
                else zones.get(role) or seen.zone_of(role),
                statements.get(role),
            )
            for role in seen.books
        )

    async def _plan(self, seen: Seen, now: datetime) -> Plan | None:
        if seen.is_final:
            self.planner.forget(seen.key)
            return None
        schedule = seen.job.spec.schedule
        active = seen.books[seen.lead].active_time(now)
        used = sum((statement_of(b).energy for b in seen.books.values()), ZERO_ENERGY)
        reserved = sum((book.reserved.watts for book in seen.books.values()), 0.0)
        request = JobRequest(
            key=seen.record.uid,
            zones=self._zones_of(seen),
            remaining=remaining_time(
                schedule.expected_duration or _UNKNOWN_DURATION, active, self._progress(seen)
            ),
            power=expected_power(Power(reserved), used, active),
            deadline=seen.deadline,
            interruptible=schedule.interruptible,
            immediately=schedule.policy is Policy.IMMEDIATELY,
        )
        return await self.planner.plan(seen.key, request, running=seen.lead in seen.running)

    def _zones_of(self, seen: Seen) -> tuple[str, ...]:
        """Where the job may run: a run stays in the zone that it was started in."""
        run = seen.runs.get(seen.lead)
        if run is not None and run.zone is not None and run.end is None:
            return (run.zone,)
        return self.zones.candidates(seen.job)

    def _progress(self, seen: Seen) -> Progress | None:
        """What the running pod said last; else what is stored, unless an attempt failed since."""
        running = seen.running.get(seen.lead)
        if running is not None:
            heard = self.asker.heard(running.uid)
            if heard is not None and heard.reply is not None:
                return heard.reply.progress
        stored = seen.previous.progress if seen.previous is not None else None
        before = seen.previous.run if seen.previous is not None else None
        failed = sum(run.failed for run in seen.runs.values())
        if stored is None or (before and failed > before.failed_attempts):
            return None
        return Progress(
            percentage=stored.progress_percentage,
            estimated_remaining_seconds=stored.estimated_remaining_seconds,
            phase=stored.phase,
        )

    def _progress_problem(self, seen: Seen) -> str:
        """Why the answer of a running pod cannot be used."""
        for role, pod in seen.running.items():
            heard = self.asker.heard(pod.uid)
            if heard is not None and heard.problem:
                return f"{role}: {heard.problem}" if seen.has_roles else heard.problem
        return ""


def _ended_unseen(run: RunRecord, pods: Sequence[PodRecord]) -> bool:
    """Whether a Job has ended whose last pod was not seen to do so."""
    if run.end is None:
        return False
    if run.end is RunEnd.COMPLETE:
        return not any(pod.exit_code == 0 for pod in pods)
    return not pods or not all(pod.is_over for pod in pods)


def _is_closing_late(seen: Seen, now: datetime) -> bool:
    """Whether a federated run's server ended so long ago that its sites should have heard of it."""
    ended = [pod.ended for pod in seen.own_pods(seen.lead) if pod.ended is not None]
    return seen.has_roles and bool(ended) and now >= max(ended) + FAREWELL


def _worth_carrying(account: AccountStatus) -> AccountStatus | None:
    return account if account.attempts else None
