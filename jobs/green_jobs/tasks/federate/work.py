"""A site's attempt: its data, its net, and its part of each round."""

from __future__ import annotations

import logging
from typing import Final

from flwr.app import RecordDict
from green_api.contract import Result
from green_api.errors import TaskConfigError

from green_jobs import data, outcome, progress
from green_jobs.learning.checks import check_fit
from green_jobs.learning.torch_setup import prepare_torch
from green_jobs.models import Net
from green_jobs.reporter import REPORTER
from green_jobs.signals import Signals
from green_jobs.tasks.federate.attempt import FIELD, Attempt, credentials_folder, flower_home
from green_jobs.tasks.federate.errors import RoundAbandonedError
from green_jobs.tasks.federate.flower.runtime import Endpoint
from green_jobs.tasks.federate.parts import labels_of, part_of
from green_jobs.tasks.federate.site import Site, SiteFiles
from green_jobs.tasks.federate.trainer import Trainer, round_of

_LOG: Final = logging.getLogger(__name__)


def work(attempt: Attempt, signals: Signals) -> None:
    """Serve the rounds until the server has finished.

    Raises:
        RefusedError: the server does not let this site in.
        RoundAbandonedError: SIGTERM came.
        TaskConfigError: this site cannot work as the task is written.

    """
    task, name = attempt.task, attempt.role
    device = prepare_torch(attempt.document)
    net = Net.build(task.model, f"{FIELD}.model")
    sets = data.load(task.data, f"{FIELD}.data", [data.TRAIN])
    dataset = part_of(task, name, sets.train)
    _check_fit(name, net, dataset)
    net.module.to(device)
    trainer = _Told(Trainer(task, name, net.module, dataset, task.seed), task.rounds)
    if len(set(labels_of(dataset).tolist())) == 1:
        _LOG.warning("site %s: its data holds one class only", name)
        trainer.note = "; its data holds one class only"
    if not Site(name, _files(attempt), trainer, signals).run():
        msg = "stopped before the server has finished; its last update stands where it was taken"
        raise RoundAbandonedError(msg)
    progress.report(saved=True)
    outcome.finish(
        Result(metrics=REPORTER.state.metrics), {}, "the server has finished the training"
    )


def _check_fit(site: str, net: Net, dataset: data.MapDataset) -> None:
    """Hold the net against this site's own data: the server has seen others."""
    if not len(dataset):
        return  # what a trainer has words for
    try:
        check_fit(net, data.DataSets(train=dataset, test=dataset), f"{FIELD}.model", FIELD)
    except TaskConfigError as error:
        msg = f"site {site}: {error}"
        raise TaskConfigError(msg) from error


def _files(attempt: Attempt) -> SiteFiles:
    folder = credentials_folder()
    ca = (folder / "ca.pem").read_bytes()
    return SiteFiles(
        superlink=Endpoint(attempt.federation.server, ca),
        ca=folder / "ca.pem",
        private_key=folder / "site.key",
        secret=folder / "secret",
        home=flower_home(attempt.folder, ca),
    )


class _Told:
    """A trainer whose progress is told.

    The work of a round is kept once the server asks for the next: it has a checkpoint then. If the
    server asks for the same one again, the work was in vain.
    """

    def __init__(self, trainer: Trainer, rounds: int) -> None:
        self.note = ""
        self._trainer = trainer
        self._rounds = rounds
        self._last = 0
        progress.report(phase="waits for the server")

    @property
    def examples(self) -> int:
        """How many the site trains on."""
        return self._trainer.examples

    def handle(self, content: RecordDict) -> RecordDict:
        """One round's work."""
        number = round_of(content)
        is_kept = 0 < self._last < number
        if number <= self._last:
            REPORTER.discard()
        self._last = number
        share = 100.0 * (number - 1) / self._rounds
        progress.report(
            share, phase=f"trains in round {number}{self.note}", saved=is_kept,
            examples=self._trainer.examples,
        )  # fmt: skip
        answer = self._trainer.handle(content)
        metrics = {n: float(str(v)) for n, v in dict(answer["metrics"]).items()}
        progress.report(
            phase=f"has sent its update of round {number}{self.note}",
            loss=metrics["loss"], accuracy=metrics["accuracy"],
        )  # fmt: skip
        return answer
