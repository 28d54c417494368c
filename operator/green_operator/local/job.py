"""One job on one machine: gather what a decision needs, and carry the decision out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from green_api.contract import Federation
from green_api.job import GreenTrainingJob, Policy
from green_api.units import ZERO_ENERGY, Power

from green_operator.account.power import PowerTable
from green_operator.account.roles import sum_of
from green_operator.account.statement import Statement, state_account
from green_operator.lifecycle.decide import decide
from green_operator.lifecycle.types import DesiredRun, Obstacle, RoleView, Snapshot
from green_operator.local.attempts import Attempts
from green_operator.local.clock import PlanClock
from green_operator.local.federation import credentials_folder, free_address
from green_operator.local.state import JobState, RoleState
from green_operator.local.views import (
    active_time,
    attempt_records,
    failures_of,
    role_views,
    run_view,
)
from green_operator.plan.remaining import expected_power, remaining_time
from green_operator.plan.types import JobRequest, Outlook, Plan
from green_operator.sources.zones import Resolution

# For a job that starts at once and does not say how long it takes; nothing is shown of it.
_UNKNOWN_DURATION: Final = timedelta(hours=1)


# Sites that were not there to hear that all is done are waited for so long, in real time.
_FAREWELL: Final = timedelta(seconds=60)

Recorded = Callable[[str | None], Outlook | None]
"""What the intensity of a zone was."""


class LocalJob:
    """One job: its manifest, the attempts of its roles and its latest account.

    Args:
        job: the manifest.
        state: what is remembered of it.
        roles: by role, its attempts, whose states are the parts of ``state``.
        table: what hardware draws.
        zone: the machine's grid zone.
        private: the runner's own folder.

    """

    def __init__(
        self,
        job: GreenTrainingJob,
        state: JobState,
        roles: Mapping[str, Attempts],
        table: PowerTable,
        zone: str | None,
        private: Path,
    ) -> None:
        self.job = job
        self.statement: Statement | None = None
        self.plan: Plan | None = None
        self.now: datetime | None = None
        """When it was last decided on, on the planner's clock."""
        self._state = state
        self._roles = roles
        self._statements: dict[str, Statement] = {}
        self._table = table
        self._zone = zone
        self._private = private

    @property
    def state(self) -> JobState:
        """What is remembered of the job."""
        roles = {name: attempts.state for name, attempts in self._roles.items()}
        return self._state.with_changes(roles=roles)

    @property
    def is_final(self) -> bool:
        """Nothing follows."""
        status = self._state.status
        return status is not None and status.state.is_final

    @property
    def is_active(self) -> bool:
        """An attempt of any role runs or terminates."""
        return any(attempts.active is not None for attempts in self._roles.values())

    @property
    def zones(self) -> tuple[str, ...]:
        """The grid zones that its roles run in, as far as they are known."""
        found = (self.zone_of(role) for role in self._roles)
        return tuple(dict.fromkeys(zone for zone in found if zone is not None))

    @property
    def deadline(self) -> datetime | None:
        """When it must have ended, on the planner's clock."""
        schedule = self.job.spec.schedule
        if schedule.complete_within is not None:
            return self._state.created + schedule.complete_within
        return schedule.deadline

    def zone_of(self, role: str) -> str | None:
        """The grid zone of a role: its own, else the machine's."""
        federate = self.job.spec.task.federate
        own = federate.zone_of(role) if federate is not None else None
        return own or self._zone

    def observe(self, wall: datetime) -> bool:
        """Look at every active attempt; whether anything new was seen."""
        # Each is looked at, whatever the one before has to say.
        seen = [attempts.observe(wall) for attempts in self._roles.values()]
        return any(seen)

    def stop(self, wall: datetime, *, at_once: bool = False) -> None:
        """Ask every active attempt to checkpoint and end; at once: without waiting for it."""
        for attempts in self._roles.values():
            attempts.stop(wall, at_once=at_once)

    def recover(self, wall: datetime) -> None:
        """Take over after a time away: what still runs is on its way down."""
        for attempts in self._roles.values():
            attempts.recover(wall)

    def launch(self, clock: PlanClock, wall: datetime) -> None:
        """Start the processes of noted attempts."""
        federate = self.job.spec.task.federate
        for role, attempts in self._roles.items():
            if not attempts.is_to_launch:
                continue
            if federate is None:
                attempts.launch()
                continue
            run = f"{self._state.uid}-{self._state.run}"
            folder = credentials_folder(self._private, run, federate.names, wall)
            attempts.launch(self._federation(clock, wall), folder / role)

    def request(self, clock: PlanClock, wall: datetime) -> JobRequest:
        """The job as the planner sees it; powers and durations in the planner's time."""
        schedule = self.job.spec.schedule
        active = active_time(self.state.lead, clock, wall)
        used = self.statement.energy if self.statement else ZERO_ENERGY
        return JobRequest(
            key=self.job.metadata.name,
            zones=(self._zone,) if self._zone else (),
            remaining=remaining_time(
                schedule.expected_duration or _UNKNOWN_DURATION,
                active,
                self.state.lead.progress,
                clock.speed,
            ),
            power=expected_power(self._reserved_in_all(clock), used, active),
            deadline=self.deadline,
            interruptible=schedule.interruptible,
            immediately=schedule.policy is Policy.IMMEDIATELY,
        )

    def account(self, clock: PlanClock, recorded: Recorded) -> None:
        """Bring the statements up to what was seen."""
        self._statements = {
            role: state_account(
                attempt_records(attempts.state, clock),
                self._reserved(role, clock),
                self.zone_of(role),
                recorded(self.zone_of(role)),
                self._state.created,
            )
            for role, attempts in self._roles.items()
        }
        self.statement = sum_of(list(self._statements.values()))

    def failures(self) -> dict[str, list[str]]:
        """By role, what each attempt said that failed by itself."""
        return {role: failures_of(attempts.state) for role, attempts in self._roles.items()}

    def step(
        self,
        clock: PlanClock,
        wall: datetime,
        resolution: Resolution,
        held: Obstacle | None = None,
    ) -> bool:
        """Decide and carry it out; whether the status changed.

        Args:
            clock: the planner's.
            wall: the time.
            resolution: what is known of the machine's zone.
            held: why it is not to run, whatever its plan says.

        """
        snapshot = replace(self._snapshot(clock, wall, resolution), held=held)
        self.now = snapshot.now
        decision = decide(snapshot)
        if decision.run is not None:
            self._apply(decision.run, wall)
        if decision.status == self._state.status:
            return False
        self._state = self._state.with_changes(
            status=decision.status,
            first_plan=self._state.first_plan or decision.status.plan,
        )
        return True

    def _snapshot(self, clock: PlanClock, wall: datetime, resolution: Resolution) -> Snapshot:
        state = self.state
        attempts, lead = state.attempts, next(iter(self._roles.values()))
        return Snapshot(
            job=self.job,
            now=clock.at(wall),
            deadline=self.deadline,
            plan=self.plan,
            intensity_known=resolution.outlook is not None,
            intensity_source=resolution.description,
            run=run_view(state, self.job.spec.retries),
            started=clock.at(attempts[0].started) if attempts else None,
            attempts=len(attempts),
            active_time=clock.real(active_time(state.lead, clock, wall)),
            progress=state.lead.progress,
            progress_problem="" if lead.answers else "the attempt does not answer",
            statement=self.statement,
            previous=state.status,
            ended=max((clock.at(a.ended) for a in attempts if a.ended), default=None),
            roles=self._role_views(state),
            closing_late=_is_late(state.lead, wall),
        )

    def _role_views(self, state: JobState) -> tuple[RoleView, ...]:
        """Each role of several."""
        if len(state.roles) == 1:
            return ()
        views = role_views(state, self.job.spec.retries)
        return tuple(
            RoleView(
                role,
                views.get(role),
                self.zone_of(role),
                self._statements.get(role) if part.attempts else None,
            )
            for role, part in state.roles.items()
        )

    def _apply(self, run: DesiredRun, wall: datetime) -> None:
        """Make the run what it ought to be; what the API server and the Job controllers do."""
        self._state = self._state.with_changes(run=run.number, suspend=run.suspend)
        if run.suspend:
            self.stop(wall)
            return
        views = role_views(self.state, self.job.spec.retries)
        lead = next(iter(views.values()))
        if lead.end is not None:
            return
        if not self.is_active and self.job.spec.task.federate is not None:
            self._state = self._state.with_changes(address=free_address())
        for role, attempts in self._roles.items():
            # One that ended by itself is started again at once, whatever the others do.
            if views[role].end is None and attempts.active is None:
                attempts.start(run.number, wall)

    def _federation(self, clock: PlanClock, wall: datetime) -> Federation:
        deadline = self.deadline
        if deadline is not None:
            # On the wall clock, which is the pods' own.
            deadline = wall + clock.real(deadline - clock.at(wall))
        address = self._state.address
        return Federation(server=address, listen=address, deadline=deadline)

    def _reserved_in_all(self, clock: PlanClock) -> Power:
        reserved = (self._reserved(role, clock) for role in self._roles)
        return Power(sum(power.watts for power in reserved))

    def _reserved(self, role: str, clock: PlanClock) -> Power:
        """Reserved power per second of the planner's time: joules are never scaled by a replay."""
        resources = self.job.spec.resources_of(role)
        return Power(self._table.reserved(resources.gpus, resources.cores).watts / clock.speed)


def _is_late(lead: RoleState, wall: datetime) -> bool:
    last = lead.attempts[-1].ended if lead.attempts else None
    return last is not None and wall >= last + _FAREWELL
