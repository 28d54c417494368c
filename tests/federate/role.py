"""Server and sites of one training on digits, each a process; told by a folder what to do.

    python -m tests.federate.role FOLDER server|SITE

``task.json`` says what; keys and certificates lie beside it. State goes to ``SERVER/progress.json``.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import torch
from green_api.contract import ExitCode
from green_api.federate import Federate
from green_jobs import data
from green_jobs.checkpoint import CheckpointStore
from green_jobs.files import write_atomically
from green_jobs.learning.evaluation import eager, evaluate
from green_jobs.lock import Lock
from green_jobs.models import Net
from green_jobs.signals import Signals
from green_jobs.tasks.federate.flower.runtime import Endpoint
from green_jobs.tasks.federate.partition import even_parts
from green_jobs.tasks.federate.rounds import RoundAbandonedError
from green_jobs.tasks.federate.server import Server, ServerFiles
from green_jobs.tasks.federate.site import Site, SiteFiles
from green_jobs.tasks.federate.state import State, Weights
from green_jobs.tasks.federate.trainer import Trainer, get_weights, set_weights
from torch.utils.data import Subset

SEED = 5


def serve(folder: Path, task: Federate, signals: Signals) -> int:
    place = folder / "server"
    (place / "checkpoints").mkdir(parents=True, exist_ok=True)
    lock = Lock(place, "server")
    lock.take()
    store = CheckpointStore(place / "checkpoints", lock)
    torch.manual_seed(SEED)
    module = Net.build(task.model).module
    test = data.load(task.data, "data").test

    def accuracy(weights: Weights) -> float:
        set_weights(module, weights)
        return evaluate(eager(module), test, lambda: None).accuracy

    def report(state: State, stalled: str) -> None:
        told = {"rounds": [r.model_dump(mode="json") for r in state.rounds], "stalled": stalled}
        write_atomically(place / "progress.json", json.dumps(told).encode(), durable=False)

    stored = store.load()
    state = State.from_checkpoint(stored, task) if stored is not None else None
    files = ServerFiles(
        (folder / "address").read_text(), folder,
        {site: (folder / f"{site}.pub").read_bytes() for site in task.names}, place,
    )  # fmt: skip
    server = Server(task, files, store, accuracy, SEED, signals, report)
    try:
        state, _ = server.run(state or State(weights=get_weights(module)))
    except RoundAbandonedError:
        return ExitCode.INTERRUPTED
    report(state, "")
    return ExitCode.SUCCEEDED


def work(folder: Path, task: Federate, site: str, signals: Signals) -> int:
    train = data.load(task.data, "data").train
    part = even_parts(len(train), task.count, SEED)[task.names.index(site)]
    trainer = Trainer(task, site, Net.build(task.model).module, Subset(train, part.tolist()), SEED)
    link = Endpoint((folder / "address").read_text(), (folder / "ca.pem").read_bytes())
    files = SiteFiles(
        link, folder / "ca.pem", folder / site, folder / "secret", folder / f"{site}.d"
    )
    return ExitCode.SUCCEEDED if Site(files, trainer, signals).run() else ExitCode.INTERRUPTED


def main() -> int:
    signals = Signals()
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(1)
    folder, role = Path(sys.argv[1]), sys.argv[2]
    task = Federate.model_validate_json((folder / "task.json").read_bytes())
    return serve(folder, task, signals) if role == "server" else work(folder, task, role, signals)


if __name__ == "__main__":
    sys.exit(main())
