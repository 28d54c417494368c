"""The stages of a pipeline and how much work each is; a rehearsal finds what cannot work.

The rehearsal walks through the steps with fresh nets, so that a net that does not fit the data,
cannot be pruned or cannot be exported fails the job in seconds and not after hours of training.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Final

from green_api.learning import Export
from green_api.task import Compress, Step

from green_jobs import data
from green_jobs.learning.checks import check_export, check_fit
from green_jobs.learning.schedule import Schedule
from green_jobs.models import Net
from green_jobs.seeds import derive
from green_jobs.tasks.compress import pruning
from green_jobs.tasks.compress.attempt import FIELD
from green_jobs.tasks.compress.layers import forward_seconds

# A backward pass is about two forward passes.
_TRAINING_PASSES: Final = 3
# Tracing, calibrating and checking the exports takes about so long whatever the net.
_EXPORT_SECONDS: Final = 8.0
_TIMED: Final = 32


@dataclass(frozen=True)
class Stage:
    """One stage.

    Args:
        name: for people.
        step: what to do; None for the original.
        schedule: how to train, where the stage trains.
        training_work: expected seconds of its training.
        test_work: expected seconds of the evaluation after it.

    """

    name: str
    step: Step | None
    schedule: Schedule | None
    training_work: float
    test_work: float


@dataclass(frozen=True)
class Plan:
    """The stages in order; exports follow them."""

    stages: tuple[Stage, ...]

    def percentage(self, stage: int, share: float) -> float:
        """How much of the whole work is done when a share of a stage's training is.

        The stage after the last is the exports.
        """
        done = sum(stage.training_work + stage.test_work for stage in self.stages[:stage])
        total = sum(stage.training_work + stage.test_work for stage in self.stages)
        if stage < len(self.stages):
            done += share * self.stages[stage].training_work
        return 100 * done / (total + _EXPORT_SECONDS)


def lay_out(task: Compress, sets: data.DataSets, original: Net) -> Plan:
    """Rehearse the task and lay out its stages.

    Args:
        task: the task.
        sets: its data.
        original: the fresh original on the CPU; left as it is.

    Raises:
        TaskConfigError: the task cannot work; the text names the field and the fix.

    """
    batch, _ = data.first(sets.test, min(task.data.batch_size, _TIMED))
    net = copy.deepcopy(original)
    _check(task, net, sets, f"{FIELD}.model")
    cost = teacher = forward_seconds(net.module, batch)
    stages = [_original_stage(task, sets, cost)]
    for index, step in enumerate(task.steps):
        if step.quantize is not None:
            continue
        field = f"{FIELD}.steps[{index}]"
        net = _rehearse(task, step, net, sets, field)
        cost = forward_seconds(net.module, batch)
        schedule = _schedule(task, step, sets, index, field)
        passes = _TRAINING_PASSES * cost + (teacher if step.distill else 0)
        stages.append(_stage(_name(step), step, schedule, passes, cost, sets))
    return Plan(tuple(stages))


def _check(task: Compress, net: Net, sets: data.DataSets, field: str) -> None:
    check_fit(net, sets, field, FIELD)
    if Export.ONNX in task.exports and net.network.builtin is None:
        check_export(net, data.first(sets.test, 2)[0], FIELD)


def _rehearse(task: Compress, step: Step, net: Net, sets: data.DataSets, field: str) -> Net:
    if step.prune is not None:
        example, _ = data.first(sets.test, 2)
        pruning.prune(net.module, example, step.prune.ratio, field)
    elif step.distill is not None and step.distill.student is not None:
        field = f"{field}.distill.student"
        net = Net.build(step.distill.student, field)
        _check(task, net, sets, field)
    return net


def _original_stage(task: Compress, sets: data.DataSets, cost: float) -> Stage:
    schedule = None
    if (epochs := task.model.train_epochs) is not None:
        seed = derive(task.seed, "original")
        schedule = Schedule(
            f"{FIELD}.model", epochs, task.model.learning_rate, task.data.batch_size,
            len(sets.train), seed,
        )  # fmt: skip
    return _stage("original", None, schedule, _TRAINING_PASSES * cost, cost, sets)


def _schedule(
    task: Compress, step: Step, sets: data.DataSets, index: int, field: str
) -> Schedule | None:
    training = step.distill or step.finetune
    if training is None:
        return None
    return Schedule(
        f"{field}.{_name(step)}", training.epochs, training.learning_rate, task.data.batch_size,
        len(sets.train), derive(task.seed, "step", index),
    )  # fmt: skip


def _stage(
    name: str,
    step: Step | None,
    schedule: Schedule | None,
    training_cost: float,
    test_cost: float,
    sets: data.DataSets,
) -> Stage:
    """A stage whose costs are seconds per example."""
    examples = schedule.steps * schedule.batch_size if schedule else 0
    return Stage(name, step, schedule, examples * training_cost, len(sets.test) * test_cost)


def _name(step: Step) -> str:
    kinds = ("prune", "distill", "finetune")
    return next(kind for kind in kinds if getattr(step, kind) is not None)
