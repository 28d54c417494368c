"""Federated jobs on one machine: a real SuperLink, real SuperNodes, real training on digits."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnxruntime
import psutil
import pytest
import torch
import yaml
from green_api.base import Signal
from green_api.contract import ExitCode, Mark
from green_api.federate import SERVER, Federate
from green_api.status import Condition, JobStatus, RoleState, RoleStatus
from green_api.units import Power
from green_jobs import data, models
from green_jobs.models import Net
from green_jobs.seeds import derive, seed_all
from green_jobs.tasks.federate.parts import part_of
from green_jobs.tasks.federate.rounds import Federation, Rounds
from green_jobs.tasks.federate.state import State, Weights
from green_jobs.tasks.federate.trainer import Trainer, get_weights, trained_names
from green_operator.local.federation import credentials_folder
from green_operator.local.state import AttemptState, JobState
from safetensors.numpy import load_file

from tests.conftest import SEED, WHOLE
from tests.e2e.energy import check_meter, check_tails
from tests.e2e.harness import ROOT, TRACE_ZONE, Greenctl, kill, processes_of, wait_for
from tests.federate.loop import LoopGrid
from tests.unit.factories import manifest

NAME = "shrink"
SPEED = 300
"""Of a replay: the journal has an entry each second."""
GRAMS = {"mixed": 300.0, "hydro": 20.0, "coal": 800.0}
ROLES = [SERVER, "site-0", "site-1"]
WATTS = Power(4.0)
ROUNDS = 4
CASES, SAMPLE = 20, 1


def federate(**changes: Any) -> dict[str, Any]:
    task = {
        "model": {"builtin": "digits-cnn"},
        "data": {"builtin": "digits", "batchSize": 64},
        "rounds": ROUNDS,
        "partition": {"sites": 2, "zones": ["hydro", "coal"]},
        "exports": ["Safetensors"],
    }
    given = {k: v for k, v in {**task, **changes}.items() if v is not None}
    return manifest(
        task={"federate": given},
        schedule={"policy": "Immediately", "interruptible": True},
        resources={"cpu": 1},
    )


def zone(name: str, *, default: bool = False) -> dict[str, Any]:
    source = {"gramsPerKilowattHour": GRAMS[name], "signal": "AverageLifecycle"}
    spec = {"default": default, "sources": [{"static": source}]}
    return TRACE_ZONE | {"metadata": {"name": name}, "spec": spec}


def greenctl(folder: Path, job: dict[str, Any], *options: str) -> Greenctl:
    folder.mkdir(exist_ok=True)
    (folder / "meter").mkdir(exist_ok=True)
    # A replay needs a trace; its source comes first, so it is what the server's zone has.
    traced = zone("mixed", default=True)
    traced["spec"]["sources"].insert(0, TRACE_ZONE["spec"]["sources"][0])
    documents = [job, traced, zone("hydro"), zone("coal")]
    (folder / "job.yaml").write_text(yaml.safe_dump_all(documents))
    return Greenctl(
        [str(folder / "job.yaml"), "--speed", str(SPEED),
         "--trace", f"mixed={ROOT / 'examples/sunny-day.csv'}", *options],
        folder / "out",
        {
            "PYTHONPATH": f"{ROOT / 'tests/e2e/fakes'}:{ROOT / 'tests/jobs/energy/fakes'}",
            "FAKE_NVML_LOG": str(folder / "meter/%.log"),
        },
    )  # fmt: skip


def job_of(run: Greenctl) -> JobState | None:
    try:
        return run.job(NAME)
    except AssertionError:
        return None


def rounds_of(run: Greenctl) -> int:
    """Whole rounds, as the server last said."""
    job = job_of(run)
    progress = job.lead.progress if job is not None else None
    return progress.rounds.rounds if progress is not None and progress.rounds is not None else 0


def active(run: Greenctl, role: str) -> AttemptState | None:
    job = job_of(run)
    return job.roles[role].active if job is not None else None


def companion(attempt: AttemptState | None) -> list[psutil.Process]:
    """Flower's process beside the worker of an attempt."""
    assert attempt is not None
    return [p for p in processes_of(attempt.uid) if "federate.flower" in " ".join(p.cmdline())]


def rows(status: JobStatus) -> dict[str, RoleStatus]:
    assert status.roles is not None
    return {row.name: row for row in status.roles}


def status_of(run: Greenctl) -> JobStatus:
    status = run.job(NAME).status
    assert status is not None
    return status


def check_success(run: Greenctl, rounds: int = ROUNDS) -> None:
    """The right result, and every joule in the place where it was used."""
    job, status = run.job(NAME), status_of(run)
    assert status.state == "Succeeded", status.message
    report = run.report(NAME)
    told: Any = report.details["rounds"]
    assert [r["number"] for r in told] == list(range(1, rounds + 1))
    assert all(len(r["sites"]) == 2 for r in told)
    assert report.result.final is not None
    assert report.result.final.accuracy == told[-1]["accuracy"] > 0.8
    for row in rows(status).values():
        assert row.state is RoleState.ENDED
        assert row.rounds == rounds
        assert row.bytes > 10_000
    check_energy(run, job, status)
    assert not [p for a in job.attempts for p in processes_of(a.uid)]


def check_energy(run: Greenctl, job: JobState, status: JobStatus) -> None:
    measured = 0.0
    for role, state in job.roles.items():
        folder = run.output / NAME if role == SERVER else run.output / NAME / "sites" / role
        measured += check_meter(state, folder, run.output.parent / "meter")
        check_tails(state, run.state.clock, WATTS)
    assert status.energy is not None
    assert status.energy.measured_joules == round(measured)
    shown = rows(status)
    total = sum(row.joules for row in shown.values())
    assert total == pytest.approx(status.energy.joules, abs=len(shown))
    for role, name in (("site-0", "hydro"), ("site-1", "coal")):
        row = shown[role]
        assert row.zone == name
        assert row.micrograms == pytest.approx(row.joules / 3.6e6 * GRAMS[name] * 1e6, rel=0.02)
    assert status.emissions is not None
    assert status.emissions.signal is Signal.AVERAGE_LIFECYCLE
    emitted = sum(row.micrograms or 0 for row in shown.values())
    assert emitted == pytest.approx(status.emissions.micrograms, abs=len(shown))


def test_sites_train_one_model_and_each_is_accounted_in_its_own_zone(tmp_path: Path) -> None:
    job = federate(exports=["Safetensors", "Onnx"], stop={"accuracy": 0.95}, rounds=8)
    run = greenctl(tmp_path, job)
    finished = run.run()
    assert finished.returncode == 0, finished.stdout + finished.stderr
    status = status_of(run)
    rounds = rows(status)[SERVER].rounds
    check_success(run, rounds)
    assert [a.exit_code for a in run.job(NAME).attempts] == [0, 0, 0]
    # What a person is shown: each round, each site.
    assert "reaches the 0.95" in finished.stdout
    assert "test accuracy by round" in finished.stdout
    for role in ROLES:
        assert f"{role} " in finished.stdout
    assert (run.output / NAME / "rounds.png").stat().st_size > 10_000
    check_model(run.output / NAME / "output")
    # The useful work of each role is kept: of one undisturbed run all of it.
    assert status.emissions is not None
    assert status.emissions.difference_micrograms is not None
    for state in run.job(NAME).roles.values():
        marks = [e.mark for e in state.entries]
        assert marks.count(Mark.SAVED) >= rounds - 1


def check_model(output: Path) -> None:
    module = models.load(output)
    inputs = torch.randn(3, 1, 8, 8)
    session = onnxruntime.InferenceSession(
        output / "model.onnx", providers=["CPUExecutionProvider"]
    )
    (logits,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    np.testing.assert_allclose(logits, module(inputs).detach().numpy(), rtol=1e-3, atol=1e-4)


def test_the_example_runs_and_shows_rounds_and_sites_while_it_does(tmp_path: Path) -> None:
    job, *zones = yaml.safe_load_all((ROOT / "examples/federated.yaml").read_text())
    task = job["spec"]["task"]["federate"]
    # Else the first round does not wait for a site that is slow to start.
    task |= {"rounds": 3, "minSites": 3}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump_all([job, *zones]))
    run = Greenctl([str(tmp_path / "job.yaml")], tmp_path / "out", {"FORCE_COLOR": "1"})
    finished = run.run()
    assert finished.returncode == 0, finished.stdout + finished.stderr
    # Drawn again and again, as in a terminal.
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", finished.stdout)
    for words in (
        r"federated-digits +Running .* round 2 of 3",
        *(f"site-{n} +Running +1 .* {zone}" for n, zone in enumerate(task["partition"]["zones"])),
        r"federated-digits +Succeeded",
        *(f"site-{n} +Ended +3 " for n in range(3)),
        "test accuracy by round",
    ):
        assert re.search(words, shown), f"{words!r} is not in:\n{shown[-8000:]}"


def test_a_run_that_was_stopped_in_a_round_goes_on_with_it(tmp_path: Path) -> None:
    run = greenctl(tmp_path, federate())
    process = run.start()
    wait_for(lambda: rounds_of(run) >= 1, 240)
    for role in ROLES:
        check_at_home(companion(active(run, role)))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == ExitCode.INTERRUPTED
    job = run.job(NAME)
    assert {a.exit_code for a in job.attempts} == {ExitCode.INTERRUPTED}
    left = rounds_of(run)
    assert 1 <= left < ROUNDS
    # Nobody was asked to end but by whoever needs it, and none was started again amid the stop.
    told = "".join(f.read_text() for f in (run.output / NAME).glob("**/logs/*.log"))
    assert "it is started again" not in told
    finished = run.run()
    assert finished.returncode == 0, finished.stdout + finished.stderr
    check_success(run)
    job = run.job(NAME)
    assert {role: len(state.attempts) for role, state in job.roles.items()} == dict.fromkeys(
        ROLES, 2
    )
    # The second attempt of the server made only the rounds that were left.
    second = [e for e in job.lead.entries if e.attempt == job.lead.attempts[1].uid]
    assert [e.mark for e in second].count(Mark.SAVED) == ROUNDS - left


def check_at_home(processes: list[psutil.Process]) -> None:
    """Flower's processes tell nobody outside anything, and fetch nothing from there."""
    assert processes
    for process in processes:
        environment = process.environ()
        assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
        assert environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
        assert environment["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"


Victim = Callable[[subprocess.Popen[str], AttemptState], None]


def _runner(process: subprocess.Popen[str], _: AttemptState) -> None:
    process.kill()


def _supervisor(_: subprocess.Popen[str], attempt: AttemptState) -> None:
    for process in processes_of(attempt.uid)[:1]:
        kill(process, signal.SIGKILL)


def _worker(_: subprocess.Popen[str], attempt: AttemptState) -> None:
    for process in processes_of(attempt.uid)[1:2]:
        kill(process, signal.SIGKILL)


def _companion(_: subprocess.Popen[str], attempt: AttemptState) -> None:
    for process in companion(attempt):
        kill(process, signal.SIGKILL)


VICTIMS: dict[str, Victim] = {
    "companion": _companion, "worker": _worker, "supervisor": _supervisor, "runner": _runner,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    role: str
    victim: str
    rounds: int
    """It is killed so long after so many rounds."""
    seconds: float

    def __str__(self) -> str:
        return f"{self.role}-{self.victim}-{self.rounds}-{self.seconds:.1f}"


def cases() -> list[Case]:
    """All combinations of role and victim in turn, at times that follow from the seed."""
    chance = Random(SEED)
    kinds = [(role, victim) for role in (SERVER, "site-1") for victim in VICTIMS]
    chance.shuffle(kinds)
    return [
        Case(*kinds[i % len(kinds)], chance.randrange(ROUNDS - 1), chance.uniform(0, 3))
        for i in range(CASES if WHOLE else SAMPLE)
    ]


@pytest.fixture(scope="module")
def undisturbed() -> Weights:
    """What the job's rounds make of its net in one process, where nobody is killed."""
    torch.set_num_threads(1)
    task = Federate.model_validate(federate()["spec"]["task"]["federate"])
    sets = data.load(task.data, "data")
    trainers = {}
    for name in task.names:
        part = part_of(task, name, sets.train)
        trainers[name] = Trainer(task, name, Net.build(task.model).module, part, task.seed)
    grid = LoopGrid({name: trainer.handle for name, trainer in trainers.items()})
    examples = {name: trainer.examples for name, trainer in trainers.items()}
    federation = Federation(grid, grid.ids, examples, 10**8, lambda _: None, lambda: False)
    seed_all(derive(task.seed, "original"))
    module = Net.build(task.model).module
    rounds = Rounds(task, federation, trained_names(module), lambda _: 0.5, task.seed)
    state = State(weights=get_weights(module))
    for _ in range(ROUNDS):
        state = rounds.next(state)
    return state.weights


def check_rounds(run: Greenctl, undisturbed: Weights) -> None:
    """No round was made twice, and the model is the one that no kill would have changed."""
    logs = (run.output / NAME / "logs").glob("*.log")
    made = re.findall(rf"round (\d+) of {ROUNDS}: accuracy", "".join(f.read_text() for f in logs))
    # A round is told once its checkpoint stands: one that was told is never repeated.
    assert sorted(made) == sorted(set(made)), made
    model = load_file(run.output / NAME / "output/model.safetensors")
    assert model.keys() == undisturbed.keys()
    for name, expected in undisturbed.items():
        np.testing.assert_allclose(model[name], expected, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.matrix
@pytest.mark.parametrize("case", cases(), ids=str)
def test_whoever_is_killed_the_training_ends_as_it_should_and_no_joule_is_lost(
    case: Case, tmp_path: Path, undisturbed: Weights
) -> None:
    run = greenctl(tmp_path, federate())
    process = run.start()
    attempt = wait_for(lambda: active(run, case.role), 60)
    wait_for(lambda: rounds_of(run) >= case.rounds, 240)
    time.sleep(case.seconds)
    VICTIMS[case.victim](process, attempt)
    process.communicate(timeout=400)
    if process.returncode != 0:
        finished = run.run(timeout=400)
        assert finished.returncode == 0, finished.stdout + finished.stderr
    check_success(run)
    check_rounds(run, undisturbed)
    others = [r for r in ROLES if r != case.role]
    if case.victim in ("worker", "supervisor"):
        # Whoever was not killed has worked on.
        assert all(len(run.job(NAME).roles[role].attempts) == 1 for role in others)
        assert len(run.job(NAME).roles[case.role].attempts) <= 2


# What each site's data are: of one none, of others one class alone or images of another size.
SETS = """
import os, torch
from torch.utils.data import TensorDataset

def load():
    one = TensorDataset(torch.randn(40, 1, 8, 8), torch.arange(40) % 10)
    train = one
    if "claims/data-b" in os.environ["GREEN_CLAIM_DIR"]:
        train = []
    if "claims/data-e" in os.environ["GREEN_CLAIM_DIR"]:
        train = TensorDataset(torch.randn(40, 1, 12, 12), torch.arange(40) % 10)
    if "claims/data-a" in os.environ["GREEN_CLAIM_DIR"]:
        train = TensorDataset(torch.randn(40, 1, 8, 8), torch.ones(40, dtype=torch.int64))
    return {"train": train, "test": one}
"""


def test_sites_that_cannot_work_are_named_and_the_job_ends_as_it_says(tmp_path: Path) -> None:
    """One has no data, one images of another size, one trusts another authority, and the server does
    not know the key of one."""
    (tmp_path / "sets.py").write_text(SETS)
    names = ["a", "b", "c", "d", "e"]
    job: Any = federate(
        partition=None,
        sites=[{"name": n, "claimName": f"data-{n}"} for n in names],
        data={"entrypoint": "sets:load"},
        onStalled="Fail",
        stalledTimeout="100s",
    )
    job["spec"] |= {"suspend": True, "retries": 0}
    assert greenctl(tmp_path, job).run().returncode == ExitCode.INTERRUPTED
    job["spec"]["suspend"] = False
    run = greenctl(tmp_path, job)
    made = forge_credentials(run, names)
    missing = "; ".join(f"{name} is not there" for name in names[1:])
    process = run.start()
    told = wait_for(lambda: stalled(run), 240)
    assert told.reason == "SitesMissing"
    assert told.message.startswith(missing)
    out, err = process.communicate(timeout=300)
    assert process.returncode == ExitCode.FAILED, out + err
    status = status_of(run)
    assert status.state == "Failed"
    assert f"stalled for too long: {missing}" in status.message
    shown = rows(status)
    failed = {name for name, row in shown.items() if row.state is RoleState.FAILED}
    assert failed == {SERVER, "b", "c", "d", "e"}
    assert "spec.task.federate.data.entrypoint: 'sets:load'" in shown["b"].message
    assert "site c: 127.0.0.1:" in shown["c"].message
    assert "shows a wrong certificate" in shown["c"].message
    assert "site d: the server does not let it in: is its key known?" in shown["d"].message
    assert (
        "site e: spec.task.federate.model.builtin: 'digits-cnn': does not fit the data: inputs of "
        "shape (2, 1, 12, 12)"
    ) in shown["e"].message
    # A site's journal lies on its own claim; that it has one class only is no failure.
    site = run.output / "claims/data-a" / NAME / "sites/a"
    assert (site / "journal").is_dir()
    assert "its data holds one class only" in "".join(
        log.read_text() for log in (site / "logs").iterdir()
    )
    for file in (made / SERVER).iterdir():
        assert file.stat().st_mode & 0o077 == 0


def stalled(run: Greenctl) -> Condition | None:
    """The condition, once it is true."""
    job = job_of(run)
    conditions = job.status.conditions if job is not None and job.status is not None else []
    found = (c for c in conditions if c.type == "Stalled" and c.status == "True")
    return next(found, None)


def forge_credentials(run: Greenctl, sites: list[str]) -> Path:
    """The credentials of the first run, before it makes them: those of c and d are others'."""
    uid, now = run.job(NAME).uid, datetime.now(UTC)
    made = credentials_folder(run.output / ".greenctl", f"{uid}-1", sites, now)
    other = credentials_folder(run.output / ".other", "other", sites, now)
    shutil.copy(other / "c/ca.pem", made / "c/ca.pem")
    shutil.copy(other / "d/site.key", made / "d/site.key")
    return made
