"""ONNX: written by torch's exporter, run by ONNX Runtime."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

_ERRORS_ONLY = 3


def export(module: nn.Module, example: Tensor) -> bytes:
    """The net as an ONNX file, float, with a dynamic batch; leaves it in evaluation mode.

    Args:
        module: the net, on the CPU.
        example: inputs (B, ...) with B of at least 2, which is what keeps the batch dynamic.

    """
    module.eval()
    with quiet():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None  # noqa: S101 - the dynamo exporter always returns one
    model = program.model_proto
    graph = model.graph
    # The exporter's notes: half of a small file, with stack traces that name this machine's paths.
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, graph, model):
        part.ClearField("metadata_props")
    data: bytes = model.SerializeToString()
    return data


class OnnxModel:
    """A model file in ONNX Runtime; called with inputs (B, ...) it gives logits (B, C).

    Args:
        data: the file's bytes.
        threads: of one call; 1 runs it in the caller's thread, whose CPU time then is the model's.

    """

    def __init__(self, data: bytes, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _ERRORS_ONLY
        self._session = onnxruntime.InferenceSession(
            data, options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name

    def __call__(self, inputs: Tensor) -> Tensor:
        """The logits."""
        outputs = self._session.run(None, {self._input: np.ascontiguousarray(inputs.numpy())})
        return torch.from_numpy(outputs[0])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporters' and quantizer's chatter out of the log; errors are raised anyway."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
