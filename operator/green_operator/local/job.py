"""One job on one machine: gather what a decision needs, and carry the decision out."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from green_api.job import GreenTrainingJob, Policy
from green_api.units import ZERO_ENERGY, Power

from green_operator.account.power import PowerTable
from green_operator.account.statement import Statement, state_account
from green_operator.lifecycle.decide import decide
from green_operator.lifecycle.types import DesiredRun, Snapshot
from green_operator.local.attempts import Attempts
from green_operator.local.clock import PlanClock
from green_operator.local.state import JobState
from green_operator.local.views import active_time, attempt_records, run_view
from green_operator.plan.remaining import expected_power, remaining_time
from green_operator.plan.types import JobRequest, Outlook, Plan
from green_operator.sources.zones import Resolution

# For a job that starts at once and does not say how long it takes; nothing is shown of it.
_UNKNOWN_DURATION: Final = timedelta(hours=1)


class LocalJob:
    """One job: its manifest, its attempts and its latest account."""

    def __init__(
        self, job: GreenTrainingJob, attempts: Attempts, table: PowerTable, zone: str | None
    ) -> None:
        self.job = job
        self.attempts = attempts
        self.statement: Statement | None = None
        self.plan: Plan | None = None
        self.now: datetime | None = None
        """When it was last decided on, on the planner's clock."""
        self._table = table
        self._zone = zone

    @property
    def state(self) -> JobState:
        """What is remembered of the job."""
        return self.attempts.state

    @property
    def is_final(self) -> bool:
        """Nothing follows."""
        status = self.state.status
        return status is not None and status.state.is_final

    @property
    def deadline(self) -> datetime | None:
        """When it must have ended, on the planner's clock."""
        schedule = self.job.spec.schedule
        if schedule.complete_within is not None:
            return self.state.created + schedule.complete_within
        return schedule.deadline

    def request(self, clock: PlanClock, wall: datetime) -> JobRequest:
        """The job as the planner sees it; powers and durations in the planner's time."""
        schedule = self.job.spec.schedule
        active = active_time(self.state, clock, wall)
        used = self.statement.energy if self.statement else ZERO_ENERGY
        return JobRequest(
            key=self.job.metadata.name,
            zones=(self._zone,) if self._zone else (),
            remaining=remaining_time(
                schedule.expected_duration or _UNKNOWN_DURATION,
                active,
                self.state.progress,
                clock.speed,
            ),
            power=expected_power(self._reserved(clock), used, active),
            deadline=self.deadline,
            interruptible=schedule.interruptible,
            immediately=schedule.policy is Policy.IMMEDIATELY,
        )

    def account(self, clock: PlanClock, outlook: Outlook | None) -> None:
        """Bring the statement up to what was seen."""
        records = attempt_records(self.state, clock)
        self.statement = state_account(
            records, self._reserved(clock), self._zone, outlook, self.state.created
        )

    def step(self, clock: PlanClock, wall: datetime, resolution: Resolution) -> bool:
        """Decide and carry it out; whether the status changed."""
        snapshot = self._snapshot(clock, wall, resolution)
        self.now = snapshot.now
        decision = decide(snapshot)
        if decision.run is not None:
            self._apply(decision.run, wall)
        if decision.status == self.state.status:
            return False
        self.attempts.state = self.state.with_changes(
            status=decision.status,
            first_plan=self.state.first_plan or decision.status.plan,
        )
        return True

    def _snapshot(self, clock: PlanClock, wall: datetime, resolution: Resolution) -> Snapshot:
        state = self.state
        return Snapshot(
            job=self.job,
            now=clock.at(wall),
            deadline=self.deadline,
            plan=self.plan,
            intensity_known=resolution.outlook is not None,
            intensity_source=resolution.description,
            run=run_view(state, self.job.spec.retries),
            started=clock.at(state.attempts[0].started) if state.attempts else None,
            attempts=len(state.attempts),
            active_time=clock.real(active_time(state, clock, wall)),
            progress=state.progress,
            progress_problem="" if self.attempts.answers else "the attempt does not answer",
            statement=self.statement,
            previous=state.status,
            ended=max((clock.at(a.ended) for a in state.attempts if a.ended), default=None),
        )

    def _apply(self, run: DesiredRun, wall: datetime) -> None:
        """Make the run what it ought to be; what the API server and the Job controller do."""
        if (run.number, run.suspend) != (self.state.run, self.state.suspend):
            self.attempts.state = self.state.with_changes(run=run.number, suspend=run.suspend)
        if run.suspend:
            self.attempts.stop(wall)
            return
        view = run_view(self.state, self.job.spec.retries)
        # Resume only when nothing is active or terminating.
        if view is not None and view.end is None and self.attempts.active is None:
            self.attempts.start(wall)

    def _reserved(self, clock: PlanClock) -> Power:
        """Reserved power per second of the planner's time: joules are never scaled by a replay."""
        resources = self.job.spec.resources
        return Power(self._table.reserved(resources.gpus, resources.cores).watts / clock.speed)
