"""The loop: observe, plan the fleet when something changed, decide and apply, remember."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from green_api.errors import UserError
from green_api.zone import GridZone

from green_operator.lifecycle.status import PERSON
from green_operator.lifecycle.types import Obstacle
from green_operator.local.clock import PlanClock
from green_operator.local.job import LocalJob
from green_operator.local.state import JobState, RunnerState, StateFile
from green_operator.plan.planner import plan_fleet
from green_operator.plan.types import Fleet, Outlook, Plan
from green_operator.sources.trace import Trace
from green_operator.sources.zones import Resolution, Unavailable, resolve

OUTAGE_MARGIN: Final = timedelta(minutes=15)
_TICK_SECONDS: Final = 0.2
# The planner's clock is remembered so often although nothing happens.
_SAVE_EVERY: Final = timedelta(seconds=1)
# A source is asked for so much beyond the last deadline, for jobs that will miss it.
_AHEAD: Final = timedelta(days=1)
_STOPPED: Final = Obstacle(PERSON, "stopped; the same command goes on")
_NOT_GIVEN: Final = Unavailable("it was not given")
_NO_ZONE: Final = Resolution(None, None, "no GridZone was given")


def wall_clock() -> datetime:
    """The time now, in UTC."""
    return datetime.now(UTC)


class Watcher(Protocol):
    """Who wants to know: the display, the metrics."""

    def changed(self, job: LocalJob) -> None:
        """The job's status is another one than before."""

    def stopping(self) -> None:
        """Every attempt has been asked to checkpoint and end."""

    def tick(self, jobs: Sequence[LocalJob], now: datetime, outlook: Outlook | None) -> None:
        """Time has passed; now on the planner's clock."""


class LiveData(Protocol):
    """What is known of a zone while its live sources are asked in the background."""

    @property
    def generation(self) -> int:
        """Another one each time that sources were asked."""

    def resolve(self, start: datetime, now: datetime, end: datetime) -> Resolution:
        """What is known of the zone in [start, end)."""


@dataclass(frozen=True, slots=True)
class Zones:
    """The grid zones that were given, this machine's among them, and what their sources give."""

    machine: GridZone | None
    given: Mapping[str, GridZone]
    """By name."""
    traces: Mapping[str, Trace]
    live: Mapping[str, LiveData] = field(default_factory=dict)
    """By name, zones with live sources, while they are watched."""

    @property
    def generation(self) -> int:
        """Another one each time that live sources were asked."""
        return sum(live.generation for live in self.live.values())

    def resolve(self, start: datetime, now: datetime, end: datetime) -> Resolution:
        """What is known of the machine's zone."""
        name = self.machine.metadata.name if self.machine is not None else None
        return self.resolve_zone(name, start, now, end)

    def resolve_zone(
        self, name: str | None, start: datetime, now: datetime, end: datetime
    ) -> Resolution:
        """What is known of a zone."""
        zone = self.given.get(name) if name is not None else None
        if zone is None:
            return _NO_ZONE
        live = self.live.get(zone.metadata.name)
        if live is not None:
            return live.resolve(start, now, end)
        trace = self.traces.get(zone.metadata.name, _NOT_GIVEN)
        data = [None if s.trace is None else trace for s in zone.spec.sources]
        return resolve(zone, data, start, now, end)


def plan_jobs(
    jobs: Sequence[LocalJob], clock: PlanClock, wall: datetime, outlook: Outlook | None
) -> dict[str, Plan]:
    """Plan all jobs that have not ended."""
    fleet = Fleet(
        requests=tuple(job.request(clock, wall) for job in jobs if not job.is_final),
        outlooks={outlook.zone: outlook} if outlook else {},
        outage_margin=OUTAGE_MARGIN,
    )
    return plan_fleet(fleet, clock.at(wall))


class Runner:
    """Runs jobs to their end, or until it is asked to stop."""

    def __init__(
        self,
        jobs: Sequence[LocalJob],
        zones: Zones,
        clock: PlanClock,
        file: StateFile,
        remembered: Mapping[str, JobState],
        watchers: Sequence[Watcher],
        wall: Callable[[], datetime] = wall_clock,
    ) -> None:
        self.jobs = jobs
        self.clock = clock
        self._zones = zones
        self._file = file
        # What the folder holds of jobs that are not run now is kept.
        self._remembered = remembered
        self._watchers = watchers
        self._wall = wall
        self._resolution = _NO_ZONE
        self._recorded: dict[str, Outlook | None] = {}
        self._generation = zones.generation
        self._plan_until: datetime | None = None
        self._stops = 0
        self._told_stopping = False
        self._saved: dict[str, JobState] = {}
        self._saved_at = wall()

    def stop(self) -> None:
        """Ask all attempts to checkpoint and end, then return; safe from a signal handler.

        Asked again, it does not wait for them.
        """
        self._stops += 1

    def run(self) -> bool:
        """Run; whether every job reached its end.

        False where it was stopped, or where only jobs are left that a person has paused.
        """
        while not self._finished():
            self._tick(self._wall())
            if self._only_paused():
                return False
            time.sleep(_TICK_SECONDS)
        self._tick(self._wall())
        return all(job.is_final for job in self.jobs)

    def _finished(self) -> bool:
        if self._stops:
            return not any(job.is_active for job in self.jobs)
        return all(job.is_final for job in self.jobs)

    def _only_paused(self) -> bool:
        waiting = [job for job in self.jobs if not job.is_final]
        return bool(waiting and not self._stops) and all(
            job.job.spec.suspend and not job.is_active for job in waiting
        )

    def _tick(self, wall: datetime) -> None:
        now = self.clock.at(wall)
        self._tell_stopping()
        is_first = self._plan_until is None
        seen = [job for job in self.jobs if job.observe(wall) or is_first]
        is_due = self._plan_until is None or now >= self._plan_until or self._has_news()
        if is_due or seen:
            self._resolve(now)
        for job in seen:
            job.account(self.clock, self.recorded)
        if is_due or any(not job.is_active for job in seen):
            self._plan(wall, now)
        changed = [job for job in self.jobs if self._step(job, wall)]
        self._save(wall, now)
        for job in self.jobs:
            job.launch(self.clock, wall)
        for watcher in self._watchers:
            for job in changed:
                watcher.changed(job)
            watcher.tick(self.jobs, now, self._resolution.outlook)

    def _step(self, job: LocalJob, wall: datetime) -> bool:
        if self._stops:
            job.stop(wall, at_once=self._stops > 1)
        return job.step(self.clock, wall, self._resolution, _STOPPED if self._stops else None)

    def _tell_stopping(self) -> None:
        if self._stops and not self._told_stopping:
            self._told_stopping = True
            for watcher in self._watchers:
                watcher.stopping()

    def _has_news(self) -> bool:
        """Whether live sources were asked since the last look."""
        before, self._generation = self._generation, self._zones.generation
        return self._generation != before

    def _resolve(self, now: datetime) -> None:
        created = min(job.state.created for job in self.jobs)
        deadlines = [job.deadline for job in self.jobs if job.deadline is not None]
        end = max([*deadlines, now]) + _AHEAD
        self._resolution = self._zones.resolve(created, now, end)
        names = {name for job in self.jobs for name in job.zones}
        self._recorded = {
            name: self._zones.resolve_zone(name, created, now, end).recorded for name in names
        }

    def recorded(self, zone: str | None) -> Outlook | None:
        """What the intensity of a zone was, as it was last looked up."""
        return self._recorded.get(zone) if zone is not None else None

    def _plan(self, wall: datetime, now: datetime) -> None:
        """Plan all jobs; the plan holds until the next edge of a window, or an attempt's end."""
        outlook = self._resolution.outlook
        plans = plan_jobs(self.jobs, self.clock, wall, outlook)
        for job in self.jobs:
            job.plan = plans.get(job.job.metadata.name)
        edges = [t for p in plans.values() for w in p.windows for t in (w.start, w.end)]
        self._plan_until = min((t for t in edges if t > now), default=now + _AHEAD)

    def _save(self, wall: datetime, now: datetime) -> None:
        jobs = {job.job.metadata.name: job.state for job in self.jobs}
        if jobs == self._saved and wall < self._saved_at + _SAVE_EVERY:
            return
        self._saved, self._saved_at = jobs, wall
        everything = {**self._remembered, **jobs}
        self._file.save(RunnerState(clock=self.clock, last_planned=now, jobs=everything))


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold an output folder: two runners in one would start everything twice.

    Raises:
        UserError: another runner holds it, or it cannot be written.

    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("w")
    except OSError as error:
        msg = f"--output: {folder.parent}: {error.strerror}; choose a folder that can be written"
        raise UserError(msg) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = f"--output: another greenctl run works in {folder.parent}; choose another folder"
            raise UserError(msg) from None
        yield
