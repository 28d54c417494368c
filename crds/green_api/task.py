"""What a job does: exactly one of ``compress``, ``federate`` and ``train``.

Bounds on numbers, lists and strings keep the cost of the API server's rules finite and give its
messages value and bound; the sizes are far above any use seen.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Final, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from green_api.base import Model, Rule, exactly_one
from green_api.federate import Federate
from green_api.learning import Data, Epochs, Export, LearningRate, Network

ClaimPath = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$",
                      max_length=512),
]  # fmt: skip
"""A relative path on the job's claim without ``.`` or ``..`` parts."""


class OriginalModel(Network):
    """The model to compress and where its weights come from."""

    weights: ClaimPath | None = None
    """A safetensors file on the claim with the weights of the original."""
    train_epochs: Epochs | None = None
    """Train the original from scratch for so many epochs first."""
    learning_rate: LearningRate = 0.05
    """Peak learning rate of that training (SGD with momentum, one cycle)."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *Network.rules,
        Rule(
            cel="!(has(self.weights) && has(self.trainEpochs))",
            message="weights and trainEpochs exclude each other: take given weights or train anew",
            holds=lambda m: m.weights is None or m.train_epochs is None,
            field="weights",
        ),
        Rule(
            cel="!has(self.builtin) || has(self.weights) || has(self.trainEpochs)",
            message="a builtin model has no weights of its own: give trainEpochs or weights",
            holds=lambda m: (
                m.builtin is None or m.weights is not None or m.train_epochs is not None
            ),
            field="trainEpochs",
        ),
    )


class PruneMethod(StrEnum):
    """How weights are removed."""

    STRUCTURED = "Structured"
    """Whole channels by group magnitude over the dependency graph: a smaller net that is faster everywhere."""


class Prune(Model):
    """Remove channels; follow with distill or finetune to recover accuracy."""

    method: PruneMethod = PruneMethod.STRUCTURED
    """How weights are removed."""
    ratio: Annotated[float, Field(ge=0.01, le=0.95)]
    """Share of the channels of each layer to remove."""


class Distill(Model):
    """Train on the original's soft targets (Hinton et al. 2015)."""

    epochs: Epochs
    """Passes over the training data."""
    learning_rate: LearningRate = 0.01
    """Peak learning rate (SGD with momentum, one cycle)."""
    temperature: Annotated[float, Field(gt=0, le=100)] = 4.0
    """Softens both distributions."""
    soft_target_weight: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Share of the soft-target loss; the rest is cross entropy on the labels."""
    student: Network | None = None
    """Train this other net instead of the current one."""


class Finetune(Model):
    """Train on the labels."""

    epochs: Epochs
    """Passes over the training data."""
    learning_rate: LearningRate = 0.01
    """Peak learning rate (SGD with momentum, one cycle)."""


class QuantizeMethod(StrEnum):
    """How weights and activations become integers."""

    POST_TRAINING = "PostTraining"
    """Static, calibrated on training examples after training (ONNX Runtime)."""


class Quantize(Model):
    """Integer weights and activations in the ONNX export."""

    method: QuantizeMethod = QuantizeMethod.POST_TRAINING
    """How weights and activations become integers."""
    bits: Annotated[int, Field(ge=8, le=8)] = 8
    """Bits per weight."""


class Step(Model):
    """One step of the pipeline: exactly one of its fields."""

    prune: Prune | None = None
    """Remove channels."""
    distill: Distill | None = None
    """Train on the original's soft targets."""
    finetune: Finetune | None = None
    """Train on the labels."""
    quantize: Quantize | None = None
    """Integer weights in the ONNX export; the last step."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel=exactly_one("prune", "distill", "finetune", "quantize"),
            message="a step is exactly one of prune, distill, finetune and quantize",
            holds=lambda s: (
                sum(x is not None for x in (s.prune, s.distill, s.finetune, s.quantize)) == 1
            ),
        ),
    )


class Compress(Model):
    """Make a model smaller and cheaper to run: a pipeline of steps on one original."""

    model: OriginalModel
    """The model to compress."""
    data: Data
    """The data to train, calibrate and test on."""
    steps: Annotated[list[Step], Field(min_length=1, max_length=16)]
    """Run in order. Distillation alone is a pipeline of one."""
    max_accuracy_drop_points: Annotated[float, Field(ge=0, le=100)] | None = None
    """The final model may lose so many percentage points of test accuracy; beyond, the job fails and the report is kept."""
    exports: Annotated[list[Export], Field(min_length=1, max_length=2)] = [
        Export.SAFETENSORS,
        Export.ONNX,
    ]
    """The formats to write."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Seed of weights and of the order of the data."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!self.steps.exists(s, has(s.quantize)) || (self.steps.exists_one(s, "
            "has(s.quantize)) && has(self.steps[self.steps.size() - 1].quantize))",
            message="quantize works on the finished model: make it the last step, once",
            holds=lambda c: all(step.quantize is None for step in c.steps[:-1]),
            field="steps",
        ),
        Rule(
            cel="!self.steps.exists(s, has(s.quantize)) || 'Onnx' in self.exports",
            message="a quantized model exists only as ONNX: add Onnx to exports",
            holds=lambda c: (
                all(step.quantize is None for step in c.steps) or Export.ONNX in c.exports
            ),
            field="exports",
        ),
        Rule(
            cel="self.exports.all(e, self.exports.exists_one(f, f == e))",
            message="each export format is named once",
            holds=lambda c: len(set(c.exports)) == len(c.exports),
            field="exports",
        ),
    )


class Train(Model):
    """The user's own training, run through the wrapper `python -m green_jobs exec --`.

    The command finds `GREEN_CHECKPOINT_DIR` and `GREEN_OUTPUT_DIR`, gets SIGTERM before a
    suspension and may report with `green_jobs.progress`.
    """

    command: Annotated[
        list[Annotated[str, StringConstraints(max_length=4096)]], Field(min_length=1, max_length=64)
    ]
    """Program and arguments, not run in a shell."""


ONLY_ROLE: Final = ""
"""The role of the pod of a task that needs one kind of pod only."""
MAX_TASK_BYTES: Final = 30 * 1024
"""A pod reads its task from one annotation of 32 KiB at most."""


class Task(Model):
    """Exactly one task."""

    compress: Compress | None = None
    """Compress or distill a model."""
    federate: Federate | None = None
    """Train one model at several sites whose data stays where it is."""
    train: Train | None = None
    """Run the user's own training command."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel=exactly_one("compress", "federate", "train"),
            message="a task is exactly one of compress, federate and train",
            holds=lambda t: sum(x is not None for x in (t.compress, t.federate, t.train)) == 1,
        ),
    )

    @model_validator(mode="after")
    def _fit(self) -> Self:
        size = len(self.model_dump_json(by_alias=True, exclude_none=True).encode())
        if size > MAX_TASK_BYTES:
            text = (
                f"the task takes {size} bytes as JSON, at most {MAX_TASK_BYTES}; put long texts "
                "in a file on the claim"
            )
            raise PydanticCustomError("size", "{message}", {"message": text})
        return self

    @property
    def kind(self) -> str:
        """The task's name, as metrics label it."""
        if self.federate is not None:
            return "federate"
        return "compress" if self.compress is not None else "train"

    @property
    def roles(self) -> tuple[str, ...]:
        """The kinds of pod of a run, each with books of its own; the first one's end is the run's."""
        return self.federate.roles if self.federate is not None else (ONLY_ROLE,)
