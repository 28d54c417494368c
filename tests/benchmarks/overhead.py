"""What the wrapper costs: CPU time of a whole attempt over that of a bare PyTorch loop.

Both train the same net on the same data with the same optimiser, evaluate it after each of two
trainings and write a safetensors file; the attempt has a supervisor that meters, journals and
answers beside it, takes checkpoints, rehearses, verifies its export and measures latencies. They
run side by side, each on a core of its own, and change cores: what else the machine does slows
both alike. One thread each, because more would spin while they wait for one another.

    python tests/benchmarks/overhead.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from green_api.contract import (
    ATTEMPT_ENV,
    CLAIM_ENV,
    PORT_ENV,
    TASK_FILE_ENV,
    TERMINATION_FILE_ENV,
)
from green_api.learning import Data, Network
from green_jobs import data, models
from green_jobs.learning.schedule import one_cycle
from green_jobs.learning.training import descend
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

AIM = 1.02
REPEATS = 4
EPOCHS = 2
TRAININGS = 2
BATCH = 128
RATE = 0.05
PORT = 18_765
RESULT = Path(__file__).parents[2] / "build" / "bench" / "overhead.json"


def bare() -> None:
    """The loop that a person would write."""
    torch.set_num_threads(1)
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


def bare_command(folder: Path) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, __file__, "bare", str(folder / "model.safetensors")], {}


def attempt_command(folder: Path) -> tuple[list[str], dict[str, str]]:
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
        "cores": 1, "gpuWatts": 300, "coreWatts": 10,
    }  # fmt: skip
    (folder / "document.json").write_text(json.dumps(document))
    environment = {
        TASK_FILE_ENV: str(folder / "document.json"),
        ATTEMPT_ENV: "attempt",
        CLAIM_ENV: str(folder),
        PORT_ENV: str(PORT),
        TERMINATION_FILE_ENV: str(folder / "termination"),
    }
    return [sys.executable, "-m", "green_jobs", "run"], environment


KINDS = {"bare loop": bare_command, "attempt": attempt_command}


def side_by_side(cores: Sequence[int]) -> dict[str, float]:
    """CPU seconds of both, run at once, each on a core of its own, with all its processes."""
    with tempfile.TemporaryDirectory() as root:
        running = {
            name: _start(name, Path(root) / name, core)
            for name, core in zip(KINDS, cores, strict=True)
        }
        return {name: _cpu_seconds(name, process) for name, process in running.items()}


def _start(name: str, folder: Path, core: int) -> subprocess.Popen[bytes]:
    folder.mkdir()
    command, environment = KINDS[name](folder)
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            ["taskset", "--cpu-list", str(core), *command],
            env=os.environ | environment, stdout=log, stderr=log,
        )  # fmt: skip


def _cpu_seconds(name: str, process: subprocess.Popen[bytes]) -> float:
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{name} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    cores = sorted(os.sched_getaffinity(0))
    cores = [cores[0], cores[-1]]
    pairs = []
    for _ in range(REPEATS):
        pairs.append(side_by_side(cores))
        ratio = pairs[-1]["attempt"] / pairs[-1]["bare loop"]
        shown = ", ".join(
            f"{name} {seconds:.1f} CPU seconds" for name, seconds in pairs[-1].items()
        )
        print(f"{shown}: {ratio:.4f}", flush=True)
        cores.reverse()
    # An even number of pairs: each kind was as often on either core.
    total = {name: sum(pair[name] for pair in pairs) for name in KINDS}
    ratio = total["attempt"] / total["bare loop"]
    print(f"attempt over bare loop: {ratio:.4f}; aim: at most {AIM}", flush=True)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({"cpuSeconds": pairs, "ratio": ratio, "aim": AIM}, indent=1))


if __name__ == "__main__":
    bare() if sys.argv[1:2] == ["bare"] else main()
