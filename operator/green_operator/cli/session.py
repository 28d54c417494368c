"""From manifests to jobs that can run: the composition of the local rooms."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from green_api.contract import VISIBLE_DEVICES_ENV
from green_api.errors import UserError
from green_api.job import GreenTrainingJob
from green_api.zone import GridZone
from pydantic import ValidationError

from green_operator.account.power import DEFAULT_POWER
from green_operator.cli.manifests import (
    Manifests,
    load_manifests,
    load_secrets,
    load_traces,
    trace_files,
)
from green_operator.local.attempts import Attempts, Place
from green_operator.local.clock import PlanClock
from green_operator.local.gpus import Role, allot, visible_gpus
from green_operator.local.job import LocalJob
from green_operator.local.runner import Zones
from green_operator.local.state import JobState, RoleState, RunnerState, StateFile
from green_operator.objects.run import task_document

_JOURNAL_INTERVAL: Final = timedelta(seconds=300)
PRIVATE: Final = ".greenctl"


@dataclass(frozen=True, slots=True)
class Input:
    """What the command line gave."""

    manifests: Manifests
    zones: Zones
    speed: float | None
    """Set for a replay."""
    trace_files: Mapping[str, Path]
    """By zone."""
    secrets: Mapping[tuple[str, str], str] = field(repr=False)
    """Providers' keys, by name and key of the Secret that each stands for."""

    @property
    def site_zones(self) -> set[str]:
        """Zones that sites of federated jobs name."""
        tasks = (job.spec.task.federate for job, _ in self.manifests.jobs)
        named = (task.zone_of(site) for task in tasks if task is not None for site in task.names)
        return {zone for zone in named if zone is not None}

    @property
    def zones_in_use(self) -> list[GridZone]:
        """The machine's zone, then those of sites."""
        machine = [self.zones.machine] if self.zones.machine is not None else []
        others = self.site_zones - {zone.metadata.name for zone in machine}
        return [*machine, *(z for name, z in self.zones.given.items() if name in others)]

    @property
    def zone_name(self) -> str | None:
        """The machine's zone."""
        return self.zones.machine.metadata.name if self.zones.machine else None


@dataclass(frozen=True, slots=True)
class Session:
    """Jobs in an output folder, ready to run."""

    jobs: list[LocalJob]
    clock: PlanClock
    file: StateFile
    remembered: Mapping[str, JobState]
    """What the folder held of any job before."""


def read_input(
    files: Sequence[Path],
    traces: Sequence[str],
    secrets: Sequence[str],
    speed: float | None,
    environment: MutableMapping[str, str],
) -> Input:
    """Read everything that a person wrote.

    Raises:
        UserError: something in it is wrong.

    """
    manifests = load_manifests(files)
    machine = manifests.machine_zone()
    paths = trace_files(traces, manifests.zones)
    given = {zone.metadata.name: zone for zone in manifests.zones}
    zones = Zones(machine, given, load_traces(paths, manifests.zones))
    keys = load_secrets(secrets, manifests.zones, environment)
    result = Input(manifests, zones, speed, paths, keys)
    live = [z.metadata.name for z in result.zones_in_use if z.spec.has_live_source]
    if speed is not None and live:
        msg = (
            f"--speed: replays a trace, but zone {live[0]} has a live source, which "
            "knows the real time alone; leave --speed out, or the source"
        )
        raise UserError(msg)
    if speed is not None and (machine is None or machine.metadata.name not in zones.traces):
        name = machine.metadata.name if machine else "ZONE"
        msg = f"--speed: replays a trace; give one with --trace {name}=FILE.csv"
        raise UserError(msg)
    return result


def silent_sources(given: Input) -> list[str]:
    """What to say of zones in use that were not given, or not what their sources refer to."""
    lines = [
        f"Zone {name}: there is no GridZone of that name; what is emitted there is not known."
        for name in sorted(given.site_zones - given.zones.given.keys())
    ]
    return lines + [line for zone in given.zones_in_use for line in _silent(zone, given)]


def _silent(zone: GridZone, given: Input) -> list[str]:
    name, lines = zone.metadata.name, []
    if any(source.trace for source in zone.spec.sources) and name not in given.trace_files:
        lines.append(
            f"Zone {name} has a trace source; without --trace {name}=FILE.csv it tells nothing."
        )
    for source in zone.spec.sources:
        if source.electricity_maps is None:
            continue
        reference = source.electricity_maps.secret_key_ref
        if (reference.name, reference.key) not in given.secrets:
            lines.append(
                f"Zone {name} asks Electricity Maps; without --secret "
                f"{reference.name}/{reference.key}=VARIABLE it tells nothing."
            )
    return lines


def begin_clock(given: Input, wall: datetime) -> PlanClock:
    """The planner's clock of a first start."""
    if given.speed is None or given.zones.machine is None:
        return PlanClock.live(wall)
    trace = given.zones.traces[given.zones.machine.metadata.name]
    return PlanClock.replaying(wall, trace.start, given.speed)


def open_session(given: Input, output: Path, wall: datetime) -> Session:
    """Take up the jobs of an output folder, or begin in an empty one.

    Raises:
        UserError: the folder holds other work than the manifests ask for, or the machine has
            too few GPUs.

    """
    file = StateFile(output / PRIVATE)
    earlier = _load(file)
    clock = earlier.clock if earlier else begin_clock(given, wall)
    _check_same_clock(clock, given)
    remembered = earlier.jobs if earlier else {}
    jobs = local_jobs(given, clock, wall, output, remembered, _gpus(given))
    for job in jobs:
        job.recover(wall)
    if earlier:
        clock = clock.resumed(wall, _last_planned(earlier, jobs, clock))
    return Session(jobs, clock, file, remembered)


def _load(file: StateFile) -> RunnerState | None:
    try:
        return file.load()
    except ValidationError:
        msg = f"--output: {file.folder} was written by another version; choose another folder"
        raise UserError(msg) from None


def _check_same_clock(clock: PlanClock, given: Input) -> None:
    asked = given.speed if given.speed is not None else 1.0
    if clock.speed != asked or clock.replay != (given.speed is not None):
        before = f"--speed {clock.speed:g}" if clock.replay else "no --speed"
        msg = f"--speed: the run in this folder was begun with {before}; go on the same way"
        raise UserError(msg)


def local_jobs(
    given: Input,
    clock: PlanClock,
    wall: datetime,
    output: Path,
    earlier: Mapping[str, JobState],
    gpus: Mapping[Role, str],
) -> list[LocalJob]:
    """The jobs of the manifests, with what is remembered of them and the GPUs that are theirs.

    Raises:
        UserError: another task is remembered of a job.

    """
    seconds = max(_JOURNAL_INTERVAL.total_seconds() / clock.speed, 1.0)
    jobs = []
    for job, folder in given.manifests.jobs:
        state = earlier.get(job.metadata.name) or JobState(
            uid=str(uuid.uuid4()),
            created=clock.at(wall),
            spec=job.spec.to_wire(),
            roles={role: RoleState() for role in job.spec.task.roles},
        )
        _check_same_task(job, state)
        # Absolute, for an attempt works in the manifest's folder.
        private = (output / PRIVATE).resolve()
        env = {variable.name: variable.value for variable in job.spec.pod.env}
        roles = {
            role: Attempts(
                state.roles[role],
                task_document(
                    job, job.metadata.name, DEFAULT_POWER, timedelta(seconds=seconds), role
                ),
                {**_only(gpus.get((job.metadata.name, role))), **env},
                Place(claim_of(job, role, output.resolve()), private, folder),
            )
            for role in job.spec.task.roles
        }
        jobs.append(LocalJob(job, state, roles, DEFAULT_POWER, given.zone_name, private))
    return jobs


def _gpus(given: Input) -> dict[Role, str]:
    wanted = {
        (job.metadata.name, role): job.spec.resources_of(role).gpus
        for job, _ in given.manifests.jobs
        for role in job.spec.task.roles
    }
    return allot(wanted, visible_gpus(os.environ))


def _only(gpus: str | None) -> dict[str, str]:
    return {} if gpus is None else {VISIBLE_DEVICES_ENV: gpus}


def claim_of(job: GreenTrainingJob, role: str, output: Path) -> Path:
    """The folder that stands for a role's claim: of a site with data of its own another one."""
    federate = job.spec.task.federate
    site = federate.site(role) if federate is not None else None
    return output if site is None else output / "claims" / site.claim_name


def _check_same_task(job: GreenTrainingJob, state: JobState) -> None:
    wire = job.spec.to_wire()
    for part in ("task", "storage"):
        if state.spec.get(part) != wire.get(part):
            msg = (
                f"{job.metadata.name}: spec.{part} cannot be changed, and the output folder holds "
                "work on another; choose another --output, or another name"
            )
            raise UserError(msg)


def _last_planned(earlier: RunnerState, jobs: Sequence[LocalJob], clock: PlanClock) -> datetime:
    """The replay goes on after all that was seen, the ends of attempts included."""
    ends = [clock.at(a.ended) for job in jobs for a in job.state.attempts if a.ended]
    return max([earlier.last_planned, *ends])
