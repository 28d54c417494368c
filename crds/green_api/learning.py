"""What is trained on what, whatever the task: nets, data sets, and the formats of what comes out."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, JsonValue, StringConstraints

from green_api.base import Model, Rule, exactly_one

Entrypoint = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$",
        max_length=253,
    ),
]
"""``package.module:callable``."""

Arguments = Annotated[
    dict[Annotated[str, StringConstraints(max_length=63)], JsonValue], Field(max_length=32)
]
Epochs = Annotated[int, Field(ge=1, le=10_000)]
LearningRate = Annotated[float, Field(gt=0, le=10)]


class BuiltinModel(StrEnum):
    """Models that come with the jobs' code."""

    FASHION_CNN = "fashion-cnn"
    """A small convolutional net for 28 x 28 grey images, 10 classes."""
    DIGITS_CNN = "digits-cnn"
    """A small convolutional net for 8 x 8 grey images, 10 classes."""


class BuiltinData(StrEnum):
    """Data sets that the jobs' code knows."""

    FASHION_MNIST = "fashion-mnist"
    """Fashion-MNIST: 60,000 training and 10,000 test images of 28 x 28, 10 classes (MIT licence)."""
    DIGITS = "digits"
    """scikit-learn's digits: 1,797 images of 8 x 8, 10 classes; every fifth is a test image."""


class Network(Model):
    """An architecture: a builtin one, or what an entrypoint returns."""

    builtin: BuiltinModel | None = None
    """A model that comes with the jobs' code."""
    entrypoint: Entrypoint | None = None
    """`package.module:callable` that returns an `nn.Module`; found in the image or in `code/` on the claim."""
    args: Arguments | None = None
    """Keyword arguments of the entrypoint."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel=exactly_one("builtin", "entrypoint"),
            message="exactly one of builtin and entrypoint must be given",
            holds=lambda m: (m.builtin is None) != (m.entrypoint is None),
        ),
        Rule(
            cel="!has(self.args) || has(self.entrypoint)",
            message="args are passed to an entrypoint; a builtin takes none, leave args out",
            holds=lambda m: m.args is None or m.entrypoint is not None,
            field="args",
        ),
    )


class Data(Model):
    """The data set: a builtin one, or what an entrypoint returns."""

    builtin: BuiltinData | None = None
    """A data set that the jobs' code knows."""
    entrypoint: Entrypoint | None = None
    """`package.module:callable` that returns a mapping with `train` and `test`, map-style data sets of (input, target)."""
    args: Arguments | None = None
    """Keyword arguments of the entrypoint."""
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 128
    """Examples per training step."""

    rules: ClassVar[tuple[Rule, ...]] = Network.rules


class Export(StrEnum):
    """A format of the result."""

    SAFETENSORS = "Safetensors"
    """Float weights, with a JSON of the layer widths that rebuilds the net."""
    ONNX = "Onnx"
    """The final model for ONNX Runtime, quantized where the pipeline quantizes."""
