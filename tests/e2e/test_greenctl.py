"""``greenctl`` from the outside: real processes, real training, a replayed day."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml
from green_api.status import JobStatus

from tests.e2e.harness import GREENCTL, ROOT, TRACE_ZONE, Greenctl, status_of, wait_for
from tests.monitoring.tools import program
from tests.unit.factories import manifest

DAY = ROOT / "examples/sunny-day.csv"
STATIC = TRACE_ZONE | {
    "spec": {"sources": [{"static": {"gramsPerKilowattHour": 360, "signal": "AverageLifecycle"}}]}
}
NOW = {"policy": "Immediately"}


def write(folder: Path, *documents: dict[str, object]) -> str:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return str(path)


def script(folder: Path, text: str) -> list[str]:
    (folder / "user.py").write_text(text)
    return ["python", "user.py"]


def greenctl(
    folder: Path, *documents: dict[str, object], options: tuple[str, ...] = ()
) -> Greenctl:
    return Greenctl([write(folder, *documents), *options], folder / "out")


def train(folder: Path, text: str, **spec: object) -> dict[str, object]:
    return manifest(task={"train": {"command": script(folder, text)}}, **spec)


def test_a_users_command_runs_to_success(tmp_path: Path) -> None:
    text = (
        "import os, pathlib; pathlib.Path(os.environ['GREEN_OUTPUT_DIR'], 'm.txt').write_text('x')"
    )
    run = greenctl(tmp_path, train(tmp_path, text, schedule=NOW), STATIC, options=("--json",))
    finished = run.run()
    assert finished.returncode == 0, finished.stderr
    status = JobStatus.model_validate(status_of(finished))
    assert status.state == "Succeeded"
    assert status.energy is not None
    assert status.energy.joules > 0
    assert status.energy.joules == status.energy.estimated_joules
    assert status.emissions is not None
    # 360 g/kWh is 100 µg/J; the joules shown are rounded.
    assert status.emissions.micrograms == pytest.approx(100 * status.energy.joules, abs=51)
    report = run.report("shrink")
    assert [a.path for a in report.artifacts] == ["shrink/output/m.txt"]
    assert report.artifacts[0].sha256 == hashlib.sha256(b"x").hexdigest()
    assert (
        status.report_sha256
        == hashlib.sha256((tmp_path / "out/shrink/report.json").read_bytes()).hexdigest()
    )


def test_without_a_zone_it_starts_now_and_says_why(tmp_path: Path) -> None:
    finished = greenctl(tmp_path, train(tmp_path, "pass", storage={"claimName": "c"})).run()
    assert finished.returncode == 0, finished.stderr
    assert "No GridZone was given: jobs start now" in finished.stdout
    assert "the carbon intensity of its zone is not known" in finished.stdout
    assert "Emissions are not known" in finished.stdout


def test_the_output_of_the_command_is_kept(tmp_path: Path) -> None:
    run = greenctl(tmp_path, train(tmp_path, "print('epoch 1')", schedule=NOW))
    assert run.run().returncode == 0
    (log,) = (tmp_path / "out/shrink/logs").iterdir()
    assert log.read_text() == "epoch 1\n"


def test_a_failing_command_is_tried_again_and_then_fails(tmp_path: Path) -> None:
    text = "import sys; print('no luck', file=sys.stderr); sys.exit(3)"
    run = greenctl(tmp_path, train(tmp_path, text, schedule=NOW, retries=2), STATIC)
    finished = run.run()
    assert finished.returncode == 1
    job = run.job("shrink")
    assert [a.exit_code for a in job.attempts] == [3, 3, 3]
    assert job.status is not None
    assert job.status.message == "attempt 3 of 3 failed, the last: no luck"
    told = [line for line in finished.stdout.splitlines() if "Failure" in line]
    assert [line.split("Failure")[1].split() for line in told] == [
        [f"{number}:", "no", "luck"] for number in (1, 2, 3)
    ]
    # Failed attempts used energy too.
    assert job.status.energy is not None
    assert job.status.energy.joules > 0


def test_a_configuration_error_is_not_tried_again(tmp_path: Path) -> None:
    task = {
        "compress": {
            "model": {"entrypoint": "nowhere:net"},
            "data": {"builtin": "digits"},
            "steps": [{"finetune": {"epochs": 1}}],
        }
    }
    run = greenctl(tmp_path, manifest(task=task, schedule=NOW))
    finished = run.run()
    assert finished.returncode == 1
    assert len(run.job("shrink").attempts) == 1
    status = run.job("shrink").status
    assert status is not None
    assert "nowhere" in status.message
    assert "Traceback" not in finished.stdout + finished.stderr


def test_an_entrypoint_beside_the_manifest_is_found(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def net(width):\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, width),\n"
        "                               torch.nn.ReLU(), torch.nn.Linear(width, 10))\n"
    )
    task = {
        "compress": {
            "model": {"entrypoint": "mine:net", "args": {"width": 32}},
            "data": {"builtin": "digits"},
            "steps": [{"finetune": {"epochs": 5, "learningRate": 0.1}}],
        }
    }
    run = greenctl(tmp_path, manifest(task=task, schedule=NOW))
    finished = run.run()
    assert finished.returncode == 0, finished.stdout
    result = run.report("shrink").result
    assert result.final is not None
    assert result.final.accuracy > 0.8


def test_a_limit_on_the_accuracy_drop_fails_the_job_and_keeps_the_report(tmp_path: Path) -> None:
    task = {
        "compress": {
            "model": {"builtin": "digits-cnn", "trainEpochs": 15},
            "data": {"builtin": "digits"},
            "steps": [{"prune": {"ratio": 0.9}}],
            "maxAccuracyDropPoints": 1,
        }
    }
    run = greenctl(tmp_path, manifest(task=task, schedule=NOW), options=("--json",))
    finished = run.run()
    assert finished.returncode == 1
    status = JobStatus.model_validate(status_of(finished))
    failed = next(c for c in status.conditions if c.type == "Failed")
    assert failed.reason == "LimitExceeded"
    assert status.result is not None
    assert status.result.original is not None
    assert status.result.final is not None
    assert status.result.original.accuracy - status.result.final.accuracy > 0.01
    assert run.report("shrink").outcome == "Failed"


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Greenctl, str]:
    """Digits through a day that defers, suspends and resumes the job."""
    folder = tmp_path_factory.mktemp("replay")
    run = Greenctl(
        ["examples/shrink-digits.yaml", "--trace", f"demo={DAY}", "--speed", "1500"], folder / "out"
    )
    finished = run.run()
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return run, finished.stdout


def test_a_replayed_job_is_deferred_suspended_and_resumed(replayed: tuple[Greenctl, str]) -> None:
    run, text = replayed
    job = run.job("shrink-digits")
    assert job.attempts[0].started > run.state.clock.anchors[0].wall
    assert run.state.clock.at(job.attempts[0].started) >= job.created
    assert len(job.attempts) >= 2
    assert all(a.stopping and a.exit_code == 75 for a in job.attempts[:-1])
    assert job.attempts[-1].exit_code == 0
    assert "1500 times faster: times are the trace's; energy is that of the real seconds" in text
    assert job.first_plan is not None
    assert job.first_plan.reason == "LowestEmissions"


def test_its_result_shows_what_a_person_wants_to_know(replayed: tuple[Greenctl, str]) -> None:
    run, text = replayed
    for part in (
        "First plan: Waits until",
        "gCO2e/kWh, ━ job runs",
        "━",
        "Estimated",
        "Actual",
        "Counterfactual",
        "Difference",
        "Original  ONNX Runtime fp32",
        "Final     ONNX Runtime int8",
        "Location-based, zone demo, average, life-cycle intensity",
    ):
        assert part in text
    assert "neutral" not in text
    picture = run.output / "shrink-digits/schedule.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_its_figures_add_up(replayed: tuple[Greenctl, str]) -> None:
    run, _ = replayed
    status = run.job("shrink-digits").status
    assert status is not None
    assert status.energy is not None
    assert status.emissions is not None
    parts = status.energy
    assert parts.joules == parts.measured_joules + parts.attributed_joules + parts.estimated_joules
    assert status.emissions.counterfactual_micrograms is not None
    assert status.emissions.difference_micrograms == pytest.approx(
        status.emissions.counterfactual_micrograms - status.emissions.micrograms, abs=1
    )
    # Joules are never scaled: at most what two cores draw in the seconds that attempts ran.
    seconds = sum(
        (a.ended - a.started).total_seconds()
        for a in run.job("shrink-digits").attempts
        if a.ended is not None
    )
    assert 0 < parts.joules <= 2 * 4 * seconds + 1


def test_a_finished_run_started_again_only_tells_its_result(replayed: tuple[Greenctl, str]) -> None:
    run, _ = replayed
    before = run.job("shrink-digits")
    again = run.run()
    assert again.returncode == 0
    assert "Succeeded" in again.stdout
    assert run.job("shrink-digits").attempts == before.attempts
    assert run.job("shrink-digits").status == before.status


def test_another_day_takes_other_slots(tmp_path: Path) -> None:
    starts = []
    for day in ("sunny-day", "windy-day"):
        planned = subprocess.run(
            [GREENCTL, "plan", "examples/shrink-digits.yaml", "--speed", "900",
             "--trace", f"demo=examples/{day}.csv"],
            cwd=ROOT, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
        assert planned.returncode == 0, planned.stderr
        starts.append(planned.stdout.split(" for cleaner power")[0].split("until ")[1])
    assert starts[0] != starts[1]


def test_a_plan_starts_nothing(tmp_path: Path) -> None:
    for path in ("examples/shrink-digits.yaml", "examples/sunny-day.csv"):
        shutil.copy(ROOT / path, tmp_path)
    planned = subprocess.run(
        [GREENCTL, "plan", "shrink-digits.yaml", "--trace", "demo=sunny-day.csv", "--speed", "9"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert planned.returncode == 0
    assert {p.name for p in tmp_path.iterdir()} == {"shrink-digits.yaml", "sunny-day.csv"}


def test_a_job_stopped_by_a_person_goes_on_where_it_was(tmp_path: Path) -> None:
    job = manifest(task={"train": {"command": ["python", str(ROOT / "examples/train_digits/train.py"), "--epochs", "150"]}}, schedule=NOW)  # fmt: skip
    run = greenctl(tmp_path, job)
    process = run.start()
    wait_for(lambda: list((tmp_path / "out/shrink/checkpoints").glob("*")))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert "Stopping: attempts save what they have" in out
    assert "shrink  Suspended stopped; the same command goes on" in out
    assert "shrink Suspended ──" in out
    assert "Logs, picture and checkpoints: " in out
    assert run.active() == []
    first = run.job("shrink").attempts[0]
    assert first.stopping
    assert first.exit_code == 75
    finished = run.run()
    assert finished.returncode == 0, finished.stdout
    assert f"shrink goes on with what {tmp_path / 'out'}/ holds of it." in finished.stdout
    assert len(run.job("shrink").attempts) == 2


def test_who_asks_twice_does_not_wait_for_a_checkpoint(tmp_path: Path) -> None:
    text = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "open(os.environ['GREEN_OUTPUT_DIR'] + '/deaf', 'w').close()\n"
        "time.sleep(600)\n"
    )
    run = greenctl(tmp_path, train(tmp_path, text, schedule=NOW), STATIC)
    process = run.start()
    wait_for((tmp_path / "out/shrink/output/deaf").exists)
    process.send_signal(signal.SIGINT)
    wait_for(lambda: run.job("shrink").attempts[0].stopping)
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert time.monotonic() - asked < 10  # its grace period has two minutes
    assert "Suspended stopped; the same command goes on" in out
    wait_for(lambda: not run.active())


def test_progress_is_told_in_lines_where_nothing_is_drawn(tmp_path: Path) -> None:
    text = (
        "import time\n"
        "from green_jobs import progress\n"
        "for share in (5, 12, 18, 55):\n"
        "    progress.report(share, phase=f'epoch {share}'); time.sleep(2.5)\n"
    )
    finished = greenctl(tmp_path, train(tmp_path, text, schedule=NOW), STATIC).run()
    told = [
        line.split("shrink")[1].split() for line in finished.stdout.splitlines() if " % " in line
    ]
    assert ["50", "%", "epoch", "55"] in told
    assert [step for step, *_ in told] == ["10", "50"]


def test_a_persons_pause_ends_the_command_instead_of_hanging(tmp_path: Path) -> None:
    finished = greenctl(tmp_path, train(tmp_path, "pass", suspend=True), STATIC).run(timeout=60)
    assert finished.returncode == 75
    assert "spec.suspend" in finished.stdout


def test_a_deadline_that_is_missed_fails_the_job_where_asked(tmp_path: Path) -> None:
    schedule = {
        "completeWithin": "3s",
        "expectedDuration": "1s",
        "interruptible": True,
        "onDeadlineMissed": "Fail",
    }
    text = "import time; time.sleep(60)"
    run = greenctl(tmp_path, train(tmp_path, text, schedule=schedule), STATIC)
    finished = run.run()
    assert finished.returncode == 1
    status = run.job("shrink").status
    assert status is not None
    assert next(c.reason for c in status.conditions if c.type == "Failed") == "DeadlineExceeded"


def test_a_deadline_that_was_missed_is_told_at_the_end(tmp_path: Path) -> None:
    schedule = {"completeWithin": "3s", "expectedDuration": "1s"}
    text = "import time; time.sleep(6)"
    finished = greenctl(tmp_path, train(tmp_path, text, schedule=schedule), STATIC).run()
    assert finished.returncode == 0
    assert re.search(r"It ended \d+s after its deadline\.", finished.stdout)


def test_metrics_are_served_while_it_runs(tmp_path: Path, unused_port: int) -> None:
    text = "import time; [sum(range(10**5)) for _ in range(2000)]; time.sleep(20)"
    run = greenctl(
        tmp_path, train(tmp_path, text, schedule=NOW), STATIC,
        options=("--metrics-port", str(unused_port)),
    )  # fmt: skip
    process = run.start()
    try:
        scraped = wait_for(lambda: scrape(unused_port))
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert 'green_jobs{namespace="default",state="Running",task="train"} 1.0' in scraped
    assert 'green_energy_joules_total{namespace="default",provenance="Estimated"' in scraped
    assert 'green_job_energy_joules{name="shrink",namespace="default"}' in scraped
    assert 'green_zone_carbon_intensity_grams_per_joule{signal="AverageLifecycle"' in scraped
    promtool = program("promtool", "prometheus")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=scraped, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr


def scrape(port: int) -> str:
    """The metrics once the job runs and has been asked for its energy."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as reply:
            text = reply.read().decode()
    except OSError:
        return ""
    has_energy = 'green_job_energy_joules{name="shrink"' in text
    return text if has_energy and 'state="Running",task="train"} 1.0' in text else ""


@pytest.mark.parametrize(
    ("documents", "options", "says"),
    [
        ([manifest(tusk={})], (), "spec.tusk: unknown field"),
        ([TRACE_ZONE], (), "there is no GreenTrainingJob in it"),
        ([{"kind": "Pod"}], (), "kind: 'Pod': must be GreenTrainingJob or GridZone"),
        ([manifest(), manifest()], (), "GreenTrainingJob: 'shrink' is given 2 times"),
        (
            [manifest(placement={"zones": ["fr"]}), TRACE_ZONE],
            (),
            "spec.placement.zones: fr: this machine is in zone demo",
        ),
        (
            [manifest(), TRACE_ZONE, TRACE_ZONE | {"metadata": {"name": "fr"}}],
            (),
            "GridZone: 0 of demo, fr have spec.default: true; mark just one",
        ),
        (
            [manifest(), TRACE_ZONE],
            ("--trace", "demo"),
            "--trace: 'demo': write it as ZONE=FILE.csv",
        ),
        ([manifest(), TRACE_ZONE], ("--trace", "x=y"), "--trace: 'x': no GridZone of that name"),
        (
            [manifest(), TRACE_ZONE],
            ("--trace", "demo=none.csv"),
            "none.csv: cannot be read: No such file",
        ),
        (
            [manifest(), STATIC],
            ("--speed", "60"),
            "--speed: replays a trace; give one with --trace",
        ),
    ],
)
def test_bad_input_is_named_and_nothing_is_started(
    tmp_path: Path, documents: list[dict[str, object]], options: tuple[str, ...], says: str
) -> None:
    finished = greenctl(tmp_path, *documents, options=options).run(timeout=60)
    assert finished.returncode == 65
    assert says in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_yaml_is_named_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("a: [1\nb: }")
    finished = Greenctl([str(tmp_path / "job.yaml")], tmp_path / "out").run(timeout=60)
    assert finished.returncode == 65
    assert "is not YAML" in finished.stderr
    assert "line 2" in finished.stderr


def test_another_task_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    assert greenctl(tmp_path, train(tmp_path, "pass", schedule=NOW)).run().returncode == 0
    other = manifest(task={"train": {"command": ["true"]}}, schedule=NOW)
    finished = greenctl(tmp_path, other).run()
    assert finished.returncode == 65
    assert "spec.task cannot be changed" in finished.stderr


def test_a_folder_keeps_what_it_holds_of_other_jobs(tmp_path: Path) -> None:
    one = train(tmp_path, "pass", schedule=NOW)
    two = one | {"metadata": {"name": "second"}}
    run = greenctl(tmp_path, one)
    assert run.run().returncode == 0
    before = run.job("shrink")
    assert greenctl(tmp_path, two).run().returncode == 0
    assert run.job("shrink") == before
    again = greenctl(tmp_path, one).run()
    assert "shrink has ended before; nothing is run" in again.stdout
    assert run.job("shrink") == before


def test_work_that_was_saved_just_before_a_stop_counts_at_once(tmp_path: Path) -> None:
    text = (
        "import signal, sys, time\n"
        "from green_jobs import progress\n"
        "def stop(*_):\n"
        "    progress.report(saved=True); time.sleep(0.5); sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "progress.report(1)\n"
        "while True: sum(range(10**5))\n"
    )
    run = greenctl(tmp_path, train(tmp_path, text, schedule=NOW), STATIC)
    process = run.start()
    wait_for(lambda: run.active() and run.job("shrink").lead.entries)
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    marks = [e.mark for e in run.job("shrink").lead.entries]
    assert {"Working", "Saved", "Ended"} <= set(marks)
    assert "Counterfactual  0 mg" not in out


@pytest.mark.parametrize(
    ("place", "says"), [("job.yaml", "Not a directory"), ("/proc/x", "No such")]
)
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, place: str, says: str) -> None:
    run = greenctl(tmp_path, manifest())
    finished = Greenctl(run.arguments, tmp_path / place).run(timeout=60)
    assert finished.returncode == 65
    assert f"--output: {tmp_path / place}: {says}" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_two_runners_do_not_share_a_folder(tmp_path: Path) -> None:
    run = greenctl(tmp_path, train(tmp_path, "import time; time.sleep(30)", schedule=NOW))
    first = run.start()
    wait_for(run.active)
    second = run.run(timeout=60)
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)
    assert second.returncode == 65
    assert "another greenctl run works in" in second.stderr


def test_several_jobs_run_beside_each_other(tmp_path: Path) -> None:
    one = train(tmp_path, "pass", schedule=NOW)
    two = one | {"metadata": {"name": "second"}}
    finished = greenctl(tmp_path, one, two, options=("--json",)).run()
    assert finished.returncode == 0, finished.stderr
    items = json.loads(finished.stdout)["items"]
    assert [(i["metadata"]["name"], i["status"]["state"]) for i in items] == [
        ("shrink", "Succeeded"),
        ("second", "Succeeded"),
    ]


def test_the_package_runs_without_the_operator(tmp_path: Path) -> None:
    """The jobs' code is usable on its own, and a wrong call says how."""
    called = subprocess.run(
        [sys.executable, "-m", "green_jobs"], capture_output=True, text=True, cwd=tmp_path
    )
    assert called.returncode == 64
    assert "run" in called.stderr
