"""The pipeline: stage after stage, each from wherever the state says."""

from __future__ import annotations

import logging
from typing import Final

import torch
from torch.nn import functional

from green_jobs import data
from green_jobs.learning.evaluation import eager, evaluate
from green_jobs.learning.schedule import Schedule
from green_jobs.learning.torch_setup import prepare_torch
from green_jobs.learning.training import Loss, train
from green_jobs.models import Net
from green_jobs.seeds import derive, seed_all
from green_jobs.signals import Signals
from green_jobs.tasks.compress import distillation, pruning
from green_jobs.tasks.compress.attempt import FIELD, Attempt
from green_jobs.tasks.compress.finish import finish
from green_jobs.tasks.compress.layers import multiply_accumulates
from green_jobs.tasks.compress.plan import Stage, lay_out
from green_jobs.tasks.compress.session import Session
from green_jobs.tasks.compress.state import StageFigures, State
from green_jobs.tasks.compress.verdict import Outcome
from green_jobs.tasks.compress.weights import load_weights

_LOG: Final = logging.getLogger(__name__)


def run(attempt: Attempt, signals: Signals) -> Outcome:
    """Do the task, or what is left of it.

    Raises:
        AttemptInterruptedError: SIGTERM came.
        LockLostError: another attempt has taken over.
        TaskConfigError: the task cannot work as written.

    """
    device = prepare_torch(attempt.document)
    sets = data.load(attempt.task.data, f"{FIELD}.data")
    seed_all(derive(attempt.task.seed, "original"))
    fresh = Net.build(attempt.task.model, f"{FIELD}.model")
    session = Session(attempt, signals, lay_out(attempt.task, sets, fresh))
    state = session.restore() or State(current=fresh)
    pipeline = _Pipeline(attempt, session, sets, state, device)
    pipeline.run()
    return finish(attempt, session, sets, state)


class _Pipeline:
    """The stages on one state."""

    def __init__(
        self,
        attempt: Attempt,
        session: Session,
        sets: data.DataSets,
        state: State,
        device: torch.device,
    ) -> None:
        self._attempt = attempt
        self._session = session
        self._sets = sets
        self._state = state
        self._device = device
        self._example = data.first(sets.test, 2)[0].to(device)

    def run(self) -> None:
        """Do every stage that is not done."""
        stages = self._session.plan.stages
        if self._state.stage or self._state.step:
            _LOG.info("going on after %d of %d stages", self._state.stage, len(stages))
        for stage in stages[self._state.stage :]:
            self._state.to(self._device)
            self._session.report(self._state, 0.0, stage.name)
            self._perform(stage)
            self._close(stage)

    def _perform(self, stage: Stage) -> None:
        """Do what is left of the stage; afterwards only its evaluation is."""
        if self._state.step == 0:
            self._begin(stage)
        if stage.schedule is not None:
            self._train(stage, stage.schedule)
        self._session.safe_point(self._state)

    def _begin(self, stage: Stage) -> None:
        """What a stage does to the net before any training; it is done once.

        The state is saved only after a step, so an interruption cannot fall into the middle.
        """
        state, step = self._state, stage.step
        if step is None:
            load_weights(state.current, self._attempt)
        elif step.prune is not None:
            field = f"{FIELD}.steps[{state.stage - 1}]"
            pruning.prune(state.current.module, self._example, step.prune.ratio, field)
        elif step.distill is not None and step.distill.student is not None:
            seed_all(derive(self._attempt.task.seed, "student", state.stage))
            state.current = Net.build(step.distill.student)
            state.current.module.to(self._device)
        if stage.schedule is None:
            state.step = 1

    def _train(self, stage: Stage, schedule: Schedule) -> None:
        state = self._state
        for step in train(
            state.current.module, self._sets.train, schedule, self._loss(stage),
            state.momentum, state.step,
        ):  # fmt: skip
            state.step = step.number
            epoch = -(-step.number // schedule.batches)
            phase = f"{stage.name}: epoch {epoch}/{schedule.epochs}"
            self._session.report(
                state, step.number / schedule.steps, phase, loss=step.loss,
                training_accuracy=step.accuracy, learning_rate=step.learning_rate,
            )  # fmt: skip
            self._session.safe_point(state)
            if step.number == epoch * schedule.batches:
                _LOG.info(
                    "%s: loss %.4f, training accuracy %.2f %%",
                    phase, step.loss, 100 * step.accuracy,
                )  # fmt: skip

    def _loss(self, stage: Stage) -> Loss:
        step, original = stage.step, self._state.original
        if step is None or step.distill is None or original is None:
            return lambda _inputs, logits, targets: functional.cross_entropy(logits, targets)
        return distillation.loss_from(original.module.eval(), step.distill)

    def _close(self, stage: Stage) -> None:
        """Evaluate, keep the figures, save."""
        state, net = self._state, self._state.current
        predictions = evaluate(
            eager(net.module), self._sets.test, lambda: self._session.safe_point(state)
        )
        figures = StageFigures(
            name=stage.name,
            seconds=state.seconds,
            parameters=net.parameters,
            multiply_accumulates=multiply_accumulates(net.module, self._example),
            accuracy=predictions.accuracy,
        )
        _LOG.info(
            "%s: done in %.1f s: test accuracy %.2f %%, %d parameters",
            stage.name, figures.seconds, 100 * figures.accuracy, figures.parameters,
        )  # fmt: skip
        state.close_stage(figures)
        self._session.report(state, 0.0, stage.name, accuracy=figures.accuracy)
        self._session.save(state)
