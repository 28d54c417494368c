"""From a job and what is known of it to the snapshot that a decision is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from green_api.config import OperatorConfig
from green_api.contract import Progress
from green_api.job import Policy
from green_api.status import AccountStatus

from green_operator.account.statement import statement_of
from green_operator.cluster.api import PODS, RUNS, Api
from green_operator.cluster.claims import Claims
from green_operator.cluster.fleet import FleetPlanner
from green_operator.cluster.index import Index
from green_operator.cluster.pods import PodAsker
from green_operator.cluster.seen import Seen
from green_operator.cluster.zones import Zones
from green_operator.lifecycle.types import Obstacle, RunView, Snapshot
from green_operator.objects.attempts import Word, enter_attempts
from green_operator.objects.names import JOB_LABEL
from green_operator.objects.views import obstacle, run_view
from green_operator.plan.remaining import expected_power, remaining_time
from green_operator.plan.types import JobRequest, Plan

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
        await self._confirm(seen)
        now = self.clock()
        await self._account(seen, now)
        plan = await self._plan(seen, now)
        # A plan's first window may begin at the moment of planning: decide no earlier.
        now = self.clock()
        view = self.view(seen, now)
        job, book, previous = seen.job, seen.book, seen.previous
        zone = next(iter(self._zones_of(seen)), None)
        started = previous.start_time if previous is not None else None
        if started is None and book.latest:
            started = book.latest[0].start
        heard = self.asker.heard(seen.running.uid) if seen.running is not None else None
        return Snapshot(
            job=job,
            now=now,
            deadline=seen.deadline,
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
            next_run=seen.next_run,
            leftover=self._leftover(seen, now),
            claim=await self.claims.problem(job) if not seen.is_final else None,
            ended=max((a.end for a in book.latest if a.end is not None), default=None),
        )

    async def _confirm(self, seen: Seen) -> None:
        """Look at the server itself where a stale view would be dear."""
        previous, run = seen.previous, seen.run
        name = previous.run.name if previous is not None and previous.run is not None else None
        if run is None and name is not None and not seen.is_final:
            body = await self.api.get(RUNS, seen.key[0], name)
            if body is not None and seen.owns(body):
                self.index.put_run(body)
        elif (
            run is not None
            and run.end is not None
            and not seen.is_final
            and not any(p.summary() for p in seen.pods)
        ):
            # The Job's end may have been seen before its pod's.
            selector = f"{JOB_LABEL}={seen.job.metadata.name}"
            async for body in self.api.list(PODS, seen.key[0], selector):
                self.index.put_pod(body)
        else:
            return
        runs = self.index.runs(seen.key, seen.record.uid)
        seen.run = runs[-1] if runs else None
        seen.pods = self.index.pods(seen.key, [*(r.uid for r in runs), *seen.past_runs])

    async def _account(self, seen: Seen, now: datetime) -> None:
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

    @staticmethod
    def _leftover(seen: Seen, now: datetime) -> Obstacle | None:
        """A pod that works or ends although its run is gone or another one follows."""
        current = seen.run.uid if seen.run is not None else None
        left = [p for p in seen.pods if p.owner_uid != current and not p.is_over]
        if not left:
            return None
        waiting = f"waits until pod {left[0].name} of an earlier run has ended"
        return obstacle(left[0], now) or Obstacle("PodEnding", waiting)

    def view(self, seen: Seen, now: datetime) -> RunView | None:
        """The newest run as decisions see it."""
        if seen.run is None:
            return None
        own = [pod for pod in seen.pods if pod.owner_uid == seen.run.uid]
        return run_view(seen.run, own, now)

    async def _plan(self, seen: Seen, now: datetime) -> Plan | None:
        if seen.is_final:
            self.planner.forget(seen.key)
            return None
        schedule = seen.job.spec.schedule
        active = seen.book.active_time(now)
        used = statement_of(seen.book).energy
        request = JobRequest(
            key=seen.record.uid,
            zones=self._zones_of(seen),
            remaining=remaining_time(
                schedule.expected_duration or _UNKNOWN_DURATION, active, self._progress(seen)
            ),
            power=expected_power(seen.book.reserved, used, active),
            deadline=seen.deadline,
            interruptible=schedule.interruptible,
            immediately=schedule.policy is Policy.IMMEDIATELY,
        )
        return await self.planner.plan(seen.key, request, running=seen.running is not None)

    def _zones_of(self, seen: Seen) -> tuple[str, ...]:
        """Where the job may run: a run stays in the zone that it was started in."""
        run = seen.run
        if run is not None and run.zone is not None and run.end is None:
            return (run.zone,)
        return self.zones.candidates(seen.job)

    def _progress(self, seen: Seen) -> Progress | None:
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


def _worth_carrying(account: AccountStatus) -> AccountStatus | None:
    return account if account.attempts else None
