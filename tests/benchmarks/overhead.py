"""What the wrapper costs: CPU time of a whole attempt over that of a bare PyTorch loop.

Both train the same net on the same data with the same optimiser, evaluate it after each of two
trainings and write a safetensors file; the attempt has a supervisor that meters, journals and
answers beside it, takes checkpoints, rehearses, verifies its export and measures latencies. Runs
alternate, so that a machine that slows down slows both, and the least of the repeats counts:
other work on the machine only ever adds.

    python tests/benchmarks/overhead.py
"""
# ruff: noqa: T201 - its output is what it is for

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from green_api.contract import (
    ATTEMPT_ENV,
    CLAIM_ENV,
    PORT_ENV,
    TASK_FILE_ENV,
    TERMINATION_FILE_ENV,
)
from green_api.task import Data, Network
from green_jobs import data, models
from green_jobs.tasks.compress.schedule import one_cycle
from green_jobs.tasks.compress.training import descend
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

AIM = 1.02
REPEATS = 4
EPOCHS = 2
TRAININGS = 2
BATCH = 128
RATE = 0.05
THREADS = 1  # more of them would spin while they wait for one another on a busy machine
PORT = 18_765
RESULT = Path(__file__).parents[2] / "build" / "bench" / "overhead.json"


def bare() -> None:
    """The loop that a person would write."""
    torch.set_num_threads(THREADS)
    sets = data.load(Data(builtin="fashion-mnist"), "data")
    net = models.Net.build(Network(builtin="fashion-cnn")).module
    for _ in range(TRAININGS):
        train(net, *sets.train.tensors)
        print(f"accuracy {accuracy(net, *sets.test.tensors):.4f}", flush=True)
    save_file(net.state_dict(), sys.argv[2])


def train(net: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    parameters = dict(net.named_parameters())
    momentum = {name: torch.zeros_like(value) for name, value in parameters.items()}
    batches = len(inputs) // BATCH
    net.train()
    for epoch in range(EPOCHS):
        order = torch.randperm(len(inputs))
        for batch in range(batches):
            chosen = order[batch * BATCH : (batch + 1) * BATCH]
            net.zero_grad()
            functional.cross_entropy(net(inputs[chosen]), targets[chosen]).backward()
            descend(
                parameters, momentum, one_cycle(epoch * batches + batch, EPOCHS * batches, RATE)
            )


@torch.no_grad()
def accuracy(net: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    net.eval()
    classes = torch.cat([net(batch).argmax(1) for batch in inputs.split(500)])
    return (classes == targets).double().mean().item()


def run_bare(folder: Path) -> None:
    _call([sys.executable, __file__, "bare", str(folder / "model.safetensors")], {})


def run_attempt(folder: Path) -> None:
    """The same as an attempt: supervisor and worker."""
    training = {"epochs": EPOCHS, "learningRate": RATE}
    task = {
        "model": {"builtin": "fashion-cnn", "trainEpochs": EPOCHS, "learningRate": RATE},
        "data": {"builtin": "fashion-mnist", "batchSize": BATCH},
        "steps": [{"finetune": training}] * (TRAININGS - 1),
        "exports": ["Safetensors"],
    }
    document = {
        "namespace": "bench", "name": "overhead", "folder": "job", "task": {"compress": task},
        "cores": THREADS, "gpuWatts": 300, "coreWatts": 10,
    }  # fmt: skip
    (folder / "document.json").write_text(json.dumps(document))
    environment = {
        TASK_FILE_ENV: str(folder / "document.json"),
        ATTEMPT_ENV: "attempt",
        CLAIM_ENV: str(folder),
        PORT_ENV: str(PORT),
        TERMINATION_FILE_ENV: str(folder / "termination"),
    }
    _call([sys.executable, "-m", "green_jobs", "run"], environment)


def _call(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command} ended with {done.returncode}\n{done.stdout}{done.stderr}")


def cpu_seconds(run: Callable[[Path], None]) -> float:
    """User and system time of a run with all its processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    kinds = {"bare loop": run_bare, "attempt": run_attempt}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for repeat in range(REPEATS):
        for name in sorted(kinds, reverse=bool(repeat % 2)):
            seconds[name].append(cpu_seconds(kinds[name]))
            print(f"{name}: {seconds[name][-1]:.1f} CPU seconds", flush=True)
    least = {name: min(values) for name, values in seconds.items()}
    ratio = least["attempt"] / least["bare loop"]
    print(f"attempt over bare loop: {ratio:.4f}; aim: at most {AIM}", flush=True)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    result = {"cpuSeconds": seconds, "least": least, "ratio": ratio, "aim": AIM}
    RESULT.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    bare() if sys.argv[1:2] == ["bare"] else main()
