"""Post-training quantization to 8 bits, static, by ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor

from green_jobs import data
from green_jobs.learning.onnx_model import quiet

_EXAMPLES = 512
_BATCH = 64


def quantize(model: bytes, examples: Iterable[Tensor], *, reduce_range: bool) -> bytes:
    """An ONNX file with integer weights and activations.

    Activations are unsigned with one scale per tensor, weights signed with one per channel; QDQ
    nodes mark them, which ONNX Runtime fuses into integer kernels.

    Args:
        model: the float file.
        examples: batches of inputs (B, ...) whose activations set the scales.
        reduce_range: 7 bits for weights, for CPUs that would saturate.

    """
    with tempfile.TemporaryDirectory() as folder, quiet():
        graph = onnx.load_from_string(model)
        quantized = Path(folder) / "quantized.onnx"
        quantize_static(
            graph,
            quantized,
            _Reader(graph.graph.input[0].name, examples),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=reduce_range,
        )
        return quantized.read_bytes()


def calibration_examples(dataset: data.MapDataset, seed: int) -> Iterator[Tensor]:
    """Batches of training inputs, drawn without repetition."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(dataset), generator=generator)[:_EXAMPLES]
    for inputs, _ in data.batches(dataset, data.chunks(chosen, _BATCH)):
        yield inputs


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Hands the examples to the calibrator, one batch a call, None at the end."""

    def __init__(self, name: str, examples: Iterable[Tensor]) -> None:
        self._feeds = ({name: inputs.numpy()} for inputs in examples)

    def get_next(self) -> Mapping[str, object] | None:
        """The next batch."""
        return next(self._feeds, None)
