"""The accuracy of a federated job by round beside plain Flower's FedAvg: ten uneven sites.

Fashion-MNIST, parted by Dirichlet(0.3). The job runs through ``greenctl`` with its SuperLink and
SuperNodes; Flower's own loop runs over the same trainers, parts, seeds and first weights in this
process. Figures go to build/bench/convergence.json, the picture to docs/images.

    python -m tests.benchmarks.convergence [--rounds N]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import torch
import yaml
from flwr.app import ArrayRecord, MetricRecord
from flwr.serverapp.strategy import FedAvg
from green_api.federate import Federate
from green_jobs import data
from green_jobs.learning.evaluation import eager, evaluate
from green_jobs.models import Net
from green_jobs.seeds import derive, seed_all
from green_jobs.tasks.federate.parts import labels_of, part_of
from green_jobs.tasks.federate.records import gather, spread
from green_jobs.tasks.federate.trainer import Trainer, get_weights, set_weights

from tests.benchmarks.federated import ZONE
from tests.e2e.harness import Greenctl
from tests.federate.loop import LoopGrid
from tests.federate.test_rounds import array_by_array
from tests.unit.factories import manifest

ROOT: Final = Path(__file__).resolve().parents[2]
OUTPUT: Final = ROOT / "build" / "bench" / "convergence.json"
PICTURE: Final = ROOT / "docs" / "images" / "federated-accuracy.png"
SITES, CONCENTRATION = 10, 0.3


def federate(rounds: int) -> dict[str, Any]:
    return {
        "model": {"builtin": "fashion-cnn"},
        "data": {"builtin": "fashion-mnist", "batchSize": 64},
        "rounds": rounds,
        "minSites": SITES,
        "partition": {"sites": SITES, "dirichlet": CONCENTRATION},
        "exports": ["Safetensors"],
    }


def ours(rounds: int) -> list[float]:
    """Through ``greenctl run``."""
    job = manifest(
        task={"federate": federate(rounds)},
        schedule={"policy": "Immediately", "interruptible": True},
        resources={"cpu": 1},
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "job.yaml").write_text(yaml.safe_dump_all([job, ZONE]))
        run = Greenctl([str(Path(folder) / "job.yaml")], Path(folder) / "out")
        finished = run.run(timeout=3600)
        if finished.returncode:
            sys.exit(finished.stderr)
        made: list[dict[str, Any]] = run.report("shrink").details["rounds"]  # type: ignore[assignment]
    return [row["accuracy"] for row in made]


def plain(task: Federate) -> tuple[list[float], list[list[int]]]:
    """Flower's own loop; the sizes of the sites' classes besides."""
    torch.set_num_threads(1)
    sets = data.load(task.data, "data")
    parts = {site: part_of(task, site, sets.train) for site in task.names}
    trainers = {
        site: Trainer(task, site, Net.build(task.model).module, part, task.seed)
        for site, part in parts.items()
    }
    seed_all(derive(task.seed, "original"))
    module = Net.build(task.model).module
    accuracies: list[float] = []

    def judge(number: int, arrays: ArrayRecord) -> MetricRecord:
        set_weights(module, gather(arrays))
        accuracy = evaluate(eager(module), sets.test, lambda: None).accuracy
        if number:
            accuracies.append(accuracy)
            print(f"plain, round {number}: {accuracy:.4f}", flush=True)
        return MetricRecord({"accuracy": accuracy})

    grid = LoopGrid({name: array_by_array(trainer.handle) for name, trainer in trainers.items()})
    strategy = FedAvg(min_train_nodes=SITES, min_available_nodes=SITES, fraction_evaluate=0.0)
    strategy.start(grid, spread(get_weights(module)), num_rounds=task.rounds, evaluate_fn=judge)
    counts = [torch.bincount(torch.from_numpy(labels_of(part)), minlength=10) for part in
              parts.values()]  # fmt: skip
    return accuracies, [count.tolist() for count in counts]


def draw(job: list[float], flower: list[float], classes: list[list[int]]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 3.8), dpi=150, layout="constrained", width_ratios=[2, 1]
    )
    rounds = range(1, len(job) + 1)
    left.plot(
        rounds, [100 * a for a in flower], color="#94a3b8", lw=5, label="plain Flower, FedAvg"
    )
    left.plot(rounds, [100 * a for a in job], color="#16a34a", marker="o", ms=4, label="the job")
    left.set(xlabel="round", ylabel="test accuracy in %")
    left.set_title(f"Fashion-MNIST at {SITES} sites, Dirichlet({CONCENTRATION})", loc="left")
    left.legend(frameon=False, loc="lower right")
    left.spines[["top", "right"]].set_visible(False)
    behind = [0] * len(classes)
    for label in range(10):
        sizes = [row[label] for row in classes]
        right.barh(range(len(classes)), sizes, left=behind, color=plt.colormaps["tab10"](label))
        behind = [a + b for a, b in zip(behind, sizes, strict=True)]
    right.set(xlabel="examples, coloured by class", yticks=range(len(classes)))
    right.set_yticklabels([f"site-{number}" for number in range(len(classes))], fontsize=7)
    right.invert_yaxis()
    right.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    job = ours(rounds)
    flower, classes = plain(Federate.model_validate(federate(rounds)))
    for number, (a, b) in enumerate(zip(job, flower, strict=True), 1):
        print(f"round {number}: {a:.4f} the job, {b:.4f} plain Flower")
    draw(job, flower, classes)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps({"job": job, "flower": flower, "classes": classes}, indent=1))


if __name__ == "__main__":
    main()
