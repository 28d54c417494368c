"""Killed at any moment, by any signal, whichever process: the result is right and no joule is lost.

A case kills once, at a time uniform over the run of an undisturbed job on digits, and starts
``greenctl`` again where it was killed. ``make test`` runs a sample, ``make test-all`` 50 cases;
GREEN_SEED repeats one.
"""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from green_api.contract import Mark
from green_api.units import Power
from green_operator.local.state import AttemptState, JobState

from tests.conftest import SEED, WHOLE
from tests.e2e.energy import check_meter, check_tails
from tests.e2e.harness import ROOT, TRACE_ZONE, Greenctl, kill, processes_of, wait_for
from tests.unit.factories import manifest

NAME = "shrink"
# A replay at 300 times the speed journals, and checkpoints, every second.
SPEED, INTERVAL = 300, timedelta(seconds=1)
# A checkpoint is due at the end of a batch, and the machine does other things too.
SLACK = timedelta(seconds=3)
WATTS = Power(4.0)
CASES, SAMPLE = 50, 3

JOB = manifest(
    task={
        "compress": {
            "model": {"builtin": "digits-cnn", "trainEpochs": 60},
            "data": {"builtin": "digits"},
            "steps": [
                {"prune": {"ratio": 0.4}},
                {"distill": {"epochs": 30, "learningRate": 0.02}},
                {"finetune": {"epochs": 20}},
                {"quantize": {}},
            ],
        }
    },
    schedule={"policy": "Immediately", "interruptible": True},
    resources={"cpu": 1},
)


def greenctl(folder: Path) -> Greenctl:
    (folder / "job.yaml").write_text(yaml.safe_dump_all([JOB, TRACE_ZONE]))
    (folder / "meter").mkdir(exist_ok=True)
    return Greenctl(
        [str(folder / "job.yaml"), "--speed", str(SPEED),
         "--trace", f"demo={ROOT / 'examples/sunny-day.csv'}"],
        folder / "out",
        {
            "PYTHONPATH": f"{ROOT / 'tests/e2e/fakes'}:{ROOT / 'tests/jobs/energy/fakes'}",
            "FAKE_NVML_LOG": str(folder / "meter/%.log"),
        },
    )  # fmt: skip


def weights(run: Greenctl) -> str:
    data = (run.output / NAME / "output/model.safetensors").read_bytes()
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Undisturbed:
    seconds: float
    weights: str


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    run = greenctl(tmp_path_factory.mktemp("undisturbed"))
    finished = run.run()
    assert finished.returncode == 0, finished.stdout + finished.stderr
    (attempt,) = run.job(NAME).attempts
    assert attempt.ended is not None
    return Undisturbed((attempt.ended - attempt.started).total_seconds(), weights(run))


# Whom to kill, given the greenctl process and the attempt's processes (supervisor, worker).
Victims = Callable[[subprocess.Popen[str], AttemptState], None]


def _worker(number: signal.Signals) -> Victims:
    def strike(_: subprocess.Popen[str], attempt: AttemptState) -> None:
        for process in processes_of(attempt.uid)[1:]:
            kill(process, number)

    return strike


def _supervisor(number: signal.Signals) -> Victims:
    def strike(_: subprocess.Popen[str], attempt: AttemptState) -> None:
        for process in processes_of(attempt.uid)[:1]:
            kill(process, number)

    return strike


def _runner(number: signal.Signals) -> Victims:
    def strike(runner: subprocess.Popen[str], _: AttemptState) -> None:
        runner.send_signal(number)

    return strike


def _both(number: signal.Signals) -> Victims:
    def strike(runner: subprocess.Popen[str], attempt: AttemptState) -> None:
        processes = processes_of(attempt.uid)
        runner.send_signal(number)
        for process in processes:
            kill(process, number)

    return strike


VICTIMS: dict[str, Callable[[signal.Signals], Victims]] = {
    "worker": _worker,
    "supervisor": _supervisor,
    "runner": _runner,
    "both": _both,
}


@dataclass(frozen=True)
class Case:
    victim: str
    number: signal.Signals
    share: float
    """When, as a share of an undisturbed run."""

    def __str__(self) -> str:
        return f"{self.victim}-{self.number.name}-{100 * self.share:.0f}%"


def cases() -> list[Case]:
    """All combinations of victim and signal in turn, at uniform times, one in each equal part."""
    chance = random.Random(SEED)
    count = CASES if WHOLE else SAMPLE
    kinds = [(v, n) for v in VICTIMS for n in (signal.SIGKILL, signal.SIGTERM)]
    chance.shuffle(kinds)
    return [Case(*kinds[i % len(kinds)], (i + chance.random()) / count) for i in range(count)]


@pytest.fixture(scope="module")
def phases() -> list[str]:
    """The phases in which cases killed."""
    return []


@pytest.mark.matrix
@pytest.mark.parametrize("case", cases(), ids=str)
def test_killed_once(
    case: Case, undisturbed: Undisturbed, phases: list[str], tmp_path: Path
) -> None:
    run = _killed(case, undisturbed.seconds, tmp_path)
    job = run.job(NAME)
    assert job.status is not None
    assert job.status.state == "Succeeded"
    # The result is that of an uninterrupted run, to the bit.
    assert weights(run) == undisturbed.weights
    measured = check_meter(job.lead, run.output / NAME, run.output.parent / "meter")
    assert job.status.energy is not None
    assert job.status.energy.measured_joules == round(measured)
    check_tails(job.lead, run.state.clock, WATTS)
    phases.append(_phase(run, job.attempts[0]))
    _check_repeated_work(run, job)


def _killed(case: Case, seconds: float, folder: Path) -> Greenctl:
    """A run that the case has killed; where the job was quicker than the kill, it is tried anew."""
    for scale in (1.0, 0.8, 0.6, 0.4):
        place = folder / f"{scale}"
        place.mkdir()
        run = greenctl(place)
        _strike(case, case.share * seconds * scale, run)
        if len(run.job(NAME).attempts) > 1:
            return run
    raise AssertionError("the job was always quicker than the kill")


def _strike(case: Case, after: float, run: Greenctl) -> None:
    """Start, kill, and start again where the runner is gone, up to the end."""
    runner = run.start()
    (attempt,) = wait_for(run.active)
    time.sleep(after)
    VICTIMS[case.victim](case.number)(runner, attempt)
    runner.communicate(timeout=300)
    if runner.returncode != 0:
        finished = run.run()
        assert finished.returncode == 0, finished.stdout + finished.stderr


def _phase(run: Greenctl, attempt: AttemptState) -> str:
    """What an attempt did when it ended, from the last line of its log that names a stage."""
    log = run.output / NAME / "logs" / f"{attempt.uid}.log"
    lines = log.read_text().splitlines() if log.exists() else []
    named = [words for line in lines if len(words := line.split(maxsplit=2)) == 3 and words[1][-1] == ":"]  # fmt: skip
    if not named:
        return "start"
    stage, rest = named[-1][1].rstrip(":"), named[-1][2]
    after = {"original": "distill", "prune": "distill", "distill": "finetune", "finetune": "export"}
    return after[stage] if rest.startswith("done") else stage


def _check_repeated_work(run: Greenctl, job: JobState) -> None:
    """Training is checkpointed each interval; the exports, a few seconds, are made anew."""
    for attempt in job.attempts[:-1]:
        own = [e for e in job.lead.entries if e.attempt == attempt.uid]
        working = [e.time for e in own if e.mark is Mark.WORKING]
        saved = [e.time for e in own if e.mark is Mark.SAVED]
        if working and attempt.ended is not None and _phase(run, attempt) != "export":
            end = next((e.time for e in own if e.mark is Mark.ENDED), attempt.ended)
            assert end - max([*working, *saved]) <= INTERVAL + SLACK


@pytest.mark.matrix
@pytest.mark.skipif(not WHOLE, reason="a sample need not hit every phase")
def test_every_phase_was_hit(phases: list[str]) -> None:
    assert {"original", "distill", "finetune", "export"} <= set(phases)
