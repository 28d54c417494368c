"""What a federated round costs beside stock Flower: seconds, and CPU seconds of all processes.

All make the same rounds of the same net on the same two halves of the digits:

- ``ours``: ``greenctl run`` with everything it does: TLS, keys, warm trainers, guard, metering,
  journals, checkpoints;
- ``stock``: Flower's SuperLink, SuperNodes and ``flwr run`` without TLS and keys, and a client that
  trains with PyTorch, started anew for each round;
- ``empty``: the same with a client that imports nothing and returns what it was sent;
- ``training``: the training and judging alone, in one process.

They run one after the other, in turn, and the median of all rounds but each run's first counts.

    python -m tests.benchmarks.federated [--rounds N] [--repeats N]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import httpx
import psutil
import yaml
from green_api.federate import Federate
from green_api.learning import Data, Network
from green_jobs.tasks.federate.flower.switches import SWITCHES

from tests.cluster.harness.processes import free_port
from tests.cluster.harness.waiting import wait_for
from tests.unit.factories import manifest

ROOT: Final = Path(__file__).resolve().parents[2]
APP: Final = Path(__file__).parent / "flower_app"
BIN: Final = Path(sys.executable).parent
OUTPUT: Final = ROOT / "build" / "bench" / "federated.json"
SITES: Final = 2
BATCH, RATE = 32, 0.05
PATIENCE_SECONDS: Final = 600
ZONE: Final = {
    "apiVersion": "greentraining.io/v1alpha1",
    "kind": "GridZone",
    "metadata": {"name": "mixed"},
    "spec": {
        "default": True,
        "sources": [{"static": {"gramsPerKilowattHour": 300, "signal": "AverageLifecycle"}}],
    },
}

Row = dict[str, float]


class Tree:
    """A process and all that come of it: what they have spent so far.

    Children that were waited for are in their parents' figures.
    """

    def __init__(self, *roots: subprocess.Popen[bytes]) -> None:
        self._roots = [psutil.Process(root.pid) for root in roots]

    def cpu_seconds(self) -> float:
        total = 0.0
        for root in self._roots:
            for process in [root, *root.children(recursive=True)]:
                try:
                    total += sum(process.cpu_times()[:4])
                except psutil.NoSuchProcess:
                    continue
        return total


def measure(rounds: int, marks: Callable[[], int], tree: Tree) -> list[Row]:
    """Seconds and CPU seconds of each round but the first."""
    rows: list[Row] = []
    seen, last = 0, (0.0, 0.0)
    give_up = time.monotonic() + PATIENCE_SECONDS
    while seen < rounds:
        if time.monotonic() > give_up:
            sys.exit(f"only {seen} of {rounds} rounds within {PATIENCE_SECONDS} s")
        time.sleep(0.05)
        if (count := marks()) == seen:
            continue
        now = (time.monotonic(), tree.cpu_seconds())
        if seen:
            rows.append({"seconds": now[0] - last[0], "cpu": now[1] - last[1]})
        seen, last = count, now
    return rows


@contextmanager
def started(folder: Path, name: str, *command: object) -> Iterator[subprocess.Popen]:
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=log, stderr=log, cwd=folder,
            env={
                **os.environ, **SWITCHES, "FLWR_HOME": str(folder / "home"),
                # Flower starts programs of its own by their names.
                "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            },
        )  # fmt: skip
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ours(rounds: int, folder: Path) -> list[Row]:
    task = {
        "model": {"builtin": "digits-cnn"},
        "data": {"builtin": "digits", "batchSize": BATCH},
        "rounds": rounds,
        "learningRate": RATE,
        "partition": {"sites": SITES},
        "exports": ["Safetensors"],
    }
    job = manifest(
        task={"federate": task},
        schedule={"policy": "Immediately", "interruptible": True},
        resources={"cpu": 1},
    )
    (folder / "job.yaml").write_text(yaml.safe_dump_all([job, ZONE]))

    def marks() -> int:
        return sum(
            text.count(f" of {rounds}: accuracy ")
            for log in (folder / "out").glob("*/logs/*.log")
            for text in [log.read_text()]
        )

    with started(folder, "run", BIN / "greenctl", "run", "job.yaml", "--output", "out") as run:
        rows = measure(rounds, marks, Tree(run))
        if run.wait(120):
            sys.exit((folder / "run.log").read_text())
    return rows


def flower(client: str) -> Callable[[int, Path], list[Row]]:
    """Stock Flower with one of the app's clients."""

    def run(rounds: int, folder: Path) -> list[Row]:
        shutil.copytree(APP, folder / "app")
        project = folder / "app" / "pyproject.toml"
        project.write_text(project.read_text().replace("CLIENT", client))
        port, marks = free_port(), folder / "marks"
        (folder / "home").mkdir()
        (folder / "home" / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n[superlink.here]\n'
            f'address = "127.0.0.1:{port}"\ninsecure = true\n'
        )
        with ExitStack() as stack:
            link = stack.enter_context(
                started(folder, "link", BIN / "flower-superlink", "--insecure", "--port", port)
            )
            health = f"http://127.0.0.1:{port}/health"
            wait_for(lambda: httpx.get(health).status_code == httpx.codes.OK, 120)
            nodes = [
                stack.enter_context(
                    started(
                        folder, f"node-{site}", BIN / "flower-supernode", "--insecure",
                        "--superlink", f"127.0.0.1:{port}", "--port", free_port(),
                        "--node-config", f"site={site}",
                    )
                )
                for site in range(SITES)
            ]  # fmt: skip
            config = f'rounds={rounds} sites={SITES} marks="{marks}"'
            submit = [BIN / "flwr", "run", "app", "here", "--run-config", config]
            stack.enter_context(started(folder, "submit", *submit))

            # Flower judges the first weights too: one mark more.
            def counted() -> int:
                return max(0, len(marks.read_text().split("\n")) - 2)

            wait_for(marks.exists, PATIENCE_SECONDS)
            return measure(rounds, counted, Tree(link, *nodes))

    return run


def training(rounds: int, _folder: Path) -> list[Row]:
    """Both sites' training and the server's judging, in a process that has loaded everything."""
    printed = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.federated", "--train", str(rounds)],
        check=True, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    rows: list[Row] = json.loads(printed.stdout)
    return rows[1:]


def train(rounds: int) -> None:
    import torch
    from flwr.app import ConfigRecord, RecordDict
    from green_jobs import data, models
    from green_jobs.learning.evaluation import eager, evaluate
    from green_jobs.tasks.federate.parts import part_of
    from green_jobs.tasks.federate.records import ARRAYS, CONFIG, pack
    from green_jobs.tasks.federate.trainer import Trainer, get_weights

    torch.set_num_threads(1)
    task = Federate.model_validate(
        {
            "model": {"builtin": "digits-cnn"},
            "data": {"builtin": "digits", "batchSize": BATCH},
            "rounds": rounds,
            "learningRate": RATE,
            "partition": {"sites": SITES},
        }
    )
    sets = data.load(Data(builtin="digits"), "data")
    module = models.Net.build(Network(builtin="digits-cnn"), "model").module
    trainers = [
        Trainer(task, site, module, part_of(task, site, sets.train), 0) for site in task.names
    ]
    weights = get_weights(module)
    rows = []
    for number in range(1, rounds + 1):
        began = (time.monotonic(), time.process_time())
        for trainer in trainers:
            order = ConfigRecord({"server-round": number})
            trainer.handle(RecordDict({ARRAYS: pack(weights), CONFIG: order}))
        evaluate(eager(module), sets.test, lambda: None)
        rows.append({"seconds": time.monotonic() - began[0], "cpu": time.process_time() - began[1]})
    print(json.dumps(rows))


KINDS: Final = {
    "ours": ours,
    "stock": flower("training"),
    "empty": flower("empty"),
    "training": training,
}


def summary(rows: Sequence[Row]) -> Row:
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--train", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train(options.train)
        return
    measured: dict[str, list[Row]] = {kind: [] for kind in KINDS}
    for _ in range(options.repeats):
        for kind, run in KINDS.items():
            with tempfile.TemporaryDirectory() as folder:
                rows = run(options.rounds, Path(folder))
            measured[kind] += rows
            shown = summary(rows)
            print(f"{kind}: {shown['seconds']:.2f} s, {shown['cpu']:.2f} CPU s a round", flush=True)
    result = {kind: summary(rows) for kind, rows in measured.items()}
    spent = result["empty"]["cpu"] + result["training"]["cpu"]
    ratios = {
        "secondsOverStock": result["ours"]["seconds"] / result["stock"]["seconds"],
        "cpuOverEmptyAndTraining": result["ours"]["cpu"] / spent,
    }
    print(
        f"seconds over stock's: {ratios['secondsOverStock']:.2f} (aim: under 0.5); CPU over the "
        f"empty client's and the training: {ratios['cpuOverEmptyAndTraining']:.2f} (aim: 1 at most)"
    )
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps({**result, **ratios, "rounds": measured}, indent=1))


if __name__ == "__main__":
    main()
