"""The server's attempt: the net, its test data, the rounds, and the model that comes of them."""

from __future__ import annotations

import importlib.metadata
import logging
from dataclasses import dataclass, field
from typing import Final

import torch
from green_api.contract import ModelFigures, Result
from green_api.federate import Federate
from green_api.learning import Export
from pydantic import JsonValue

from green_jobs import data, outcome, progress
from green_jobs.checkpoint import CheckpointStore
from green_jobs.learning import export
from green_jobs.learning.checks import check_export, check_fit
from green_jobs.learning.evaluation import eager, evaluate
from green_jobs.learning.torch_setup import prepare_torch
from green_jobs.models import Net
from green_jobs.reporter import REPORTER
from green_jobs.seeds import derive, seed_all
from green_jobs.signals import Signals
from green_jobs.tasks.federate.attempt import FIELD, Attempt
from green_jobs.tasks.federate.errors import NoRoomError, RoundAbandonedError
from green_jobs.tasks.federate.link import ServerFiles
from green_jobs.tasks.federate.processes import Companion
from green_jobs.tasks.federate.server import Server
from green_jobs.tasks.federate.state import State, Weights
from green_jobs.tasks.federate.told import percentage, rounds_progress
from green_jobs.tasks.federate.trainer import get_weights, set_weights, trained_names

_LOG: Final = logging.getLogger(__name__)
_COMPARED: Final = 256
_PACKAGES: Final = ("flwr", "torch")


def serve(attempt: Attempt, files: ServerFiles, link: Companion, signals: Signals) -> None:
    """Make the rounds that are left, and leave the model.

    Args:
        attempt: this attempt.
        files: keys and folders.
        link: the SuperLink, started already.
        signals: whether the attempt is to stop.

    Raises:
        RoundAbandonedError: SIGTERM came; the last checkpoint stands.
        StalledError: too few sites for too long.
        LockLostError: another attempt has taken over.
        NoRoomError: the disk does not take the model.
        TaskConfigError: the task cannot work as written.

    """
    task = attempt.task
    device = prepare_torch(attempt.document)
    sets = data.load(task.data, f"{FIELD}.data", [data.TEST])
    seed_all(derive(task.seed, "original"))
    net = Net.build(task.model, f"{FIELD}.model")
    check_fit(net, sets, f"{FIELD}.model", FIELD)
    if Export.ONNX in task.exports and task.model.builtin is None:
        check_export(net, data.first(sets.test, 2)[0], FIELD)
    net.module.to(device)
    store = CheckpointStore(attempt.checkpoints, attempt.lock)
    state = _restore(store, task) or State(weights=get_weights(net.module))

    def check() -> None:
        if signals.stop_requested:
            msg = "interrupted; start again to go on from the last round"
            raise RoundAbandonedError(msg)

    def accuracy(weights: Weights) -> float:
        set_weights(net.module, weights)
        return evaluate(eager(net.module), sets.test, check).accuracy

    teller = _Teller(attempt, net, sets)
    server = Server(
        task, files, link, store, trained_names(net.module), accuracy, task.seed, signals, teller,
        attempt.federation.deadline,
    )  # fmt: skip
    state, why = server.run(state)
    outcome.finish(teller.result, teller.details, why)


def _restore(store: CheckpointStore, task: Federate) -> State | None:
    stored = store.load()
    state = State.from_checkpoint(stored, task) if stored is not None else None
    if stored is not None and state is None:
        _LOG.warning("the checkpoint is of another task; starting from the beginning")
    return state


@dataclass
class _Teller:
    """Tells the supervisor how the rounds go, and leaves the model when they are over."""

    attempt: Attempt
    net: Net
    sets: data.DataSets
    result: Result = field(default_factory=Result)
    details: dict[str, JsonValue] = field(default_factory=dict)
    _is_over: bool = False

    def begins(self, state: State) -> None:
        """Tell where the rounds stand."""
        self._tell(state, self._next(state), "")

    def went_on(self, state: State, *, is_saved: bool) -> None:
        """Tell what the last round brought, and what comes."""
        task, last = self.attempt.task, state.rounds[-1]
        _LOG.info(
            "round %d of %d: accuracy %.4f, loss %.4f, %d of %d sites, %.1f s",
            last.number, task.rounds, last.accuracy, last.loss, len(last.sites), task.count,
            last.seconds,
        )  # fmt: skip
        phase = self._next(state)
        if not is_saved:
            where = self.attempt.checkpoints
            phase += f"; the last one's checkpoint cannot be written to {where}: is the disk full?"
        self._tell(state, phase, "", is_saved=is_saved, accuracy=last.accuracy, loss=last.loss)

    def waits(self, state: State, why: str) -> None:
        """Tell who is waited for."""
        self._tell(state, f"round {state.next_round} waits: {why}", "")

    def stalled(self, state: State, why: str) -> None:
        """Tell who is missing."""
        self._tell(state, f"round {state.next_round} waits: {why}", why)

    def in_vain(self) -> None:
        """Tell that what was done since the last round is no useful work."""
        REPORTER.discard()

    def over(self, state: State, why: str) -> None:
        """Leave the model, once.

        Raises:
            NoRoomError: the disk refuses.

        """
        if self._is_over:
            return
        _LOG.info("%s", why)
        self._tell(state, "export", "")
        try:
            self.result, self.details = _leave_model(self.attempt, self.net, self.sets, state, why)
        except OSError as error:
            # What the system says of a write does not name the file.
            msg = (
                f"the model cannot be written to {self.attempt.output}: {error}; make room: the "
                "next attempt goes on from the last round that was saved"
            )
            raise NoRoomError(msg) from error
        self._is_over = True

    def _next(self, state: State) -> str:
        rounds = self.attempt.task.rounds
        return f"round {min(state.next_round, rounds)} of {rounds}"

    def _tell(
        self, state: State, phase: str, stalled: str, *, is_saved: bool = False, **metrics: float
    ) -> None:
        task = self.attempt.task
        rounds = rounds_progress(task, state, stalled)
        REPORTER.update(urgent=False, rounds=rounds)
        done = percentage(task, state.rounds)
        progress.report(done, phase=phase, saved=is_saved, **metrics)


def _leave_model(
    attempt: Attempt, net: Net, sets: data.DataSets, state: State, why: str
) -> tuple[Result, dict[str, JsonValue]]:
    """Write the final model, read it back and compare; what the report says of it."""
    task = attempt.task
    net.module.to(torch.device("cpu"))
    set_weights(net.module, state.weights)
    inputs, _ = data.first(sets.test, _COMPARED)
    size = len(export.safetensors_bytes(net))
    if Export.SAFETENSORS in task.exports:
        size = export.write_safetensors(attempt, net, inputs)
    if Export.ONNX in task.exports:
        size = len(
            attempt.write_output(export.ONNX_FILE, export.float_onnx(net, inputs)).read_bytes()
        )
    final = ModelFigures(
        parameters=net.parameters,
        bytes=size,
        accuracy=state.rounds[-1].accuracy if state.rounds else 0.0,
        runtime="PyTorch eager",
    )
    result = Result(final=final, rounds=rounds_progress(task, state, ""))
    details: dict[str, JsonValue] = {
        "end": why,
        "rounds": [r.to_wire() for r in state.rounds],
        "inVain": {site: part.to_wire() for site, part in state.in_vain.items()},
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }
    return result, details
