"""The end of the pipeline: exports and measurements."""

from __future__ import annotations

import importlib.metadata
import logging
from typing import Final

import torch
from green_api.contract import ModelFigures, Result
from green_api.learning import Export
from pydantic import JsonValue

from green_jobs import data
from green_jobs.learning import export
from green_jobs.learning.evaluation import Predict, Predictions, eager, evaluate, latency
from green_jobs.learning.onnx_model import OnnxModel
from green_jobs.models import Net
from green_jobs.seeds import derive
from green_jobs.tasks.compress import cpu
from green_jobs.tasks.compress.attempt import Attempt
from green_jobs.tasks.compress.session import Session
from green_jobs.tasks.compress.state import State
from green_jobs.tasks.compress.verdict import Outcome, broken_limit

_LOG: Final = logging.getLogger(__name__)
_COMPARED: Final = 256
_FLOAT: Final = "ONNX Runtime fp32"
_INTEGER: Final = "ONNX Runtime int8"
_PACKAGES: Final = ("torch", "torch-pruning", "onnx", "onnxruntime", "onnxscript")


def finish(attempt: Attempt, session: Session, sets: data.DataSets, state: State) -> Outcome:
    """Export and measure the finished nets, on the CPU.

    Raises:
        AttemptInterruptedError: SIGTERM came.
        ExportError: a file does not do what its net does.
        LockLostError: another attempt has taken over.
        OSError: the disk refuses.

    """
    session.report(state, 0.0, "export")
    state.to(torch.device("cpu"))
    return _Finish(attempt, session, sets, state).run()


class _Finish:
    """The exports and measurements of one finished state."""

    def __init__(
        self, attempt: Attempt, session: Session, sets: data.DataSets, state: State
    ) -> None:
        self._attempt = attempt
        self._session = session
        self._sets = sets
        self._state = state
        self._inputs, _ = data.first(sets.test, _COMPARED)
        self._details: dict[str, JsonValue] = {
            "steps": [figures.to_wire() for figures in state.figures],
            "threads": torch.get_num_threads(),
            "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        }

    def run(self) -> Outcome:
        current, original = self._state.current, self._state.original or self._state.current
        exports = self._attempt.task.exports
        size = len(export.safetensors_bytes(current))
        if Export.SAFETENSORS in exports:
            size = export.write_safetensors(self._attempt, current, self._inputs)
            _LOG.info("export: model.safetensors: %d bytes", size)
        before = self._eager(original, len(export.safetensors_bytes(original)), 0)
        baseline, after = None, None
        if Export.ONNX in exports:
            baseline = self._onnx_baseline(original)
            after = self._final_onnx(current)
        else:
            after = self._eager(current, size, -1)
        result = Result(original=before, original_onnx=baseline, final=after)
        return Outcome(result, self._details, broken_limit(self._attempt.task, before, after))

    def _eager(self, net: Net, size: int, stage: int) -> ModelFigures:
        accuracy = self._state.figures[stage].accuracy
        return self._figures(net, eager(net.module), size, accuracy, "PyTorch eager")

    def _onnx_baseline(self, original: Net) -> ModelFigures:
        file = export.float_onnx(original, self._inputs)
        accuracy = self._evaluate(file).accuracy
        return self._figures(original, OnnxModel(file, 1), len(file), accuracy, _FLOAT)

    def _final_onnx(self, net: Net) -> ModelFigures:
        file, runtime = export.float_onnx(net, self._inputs), _FLOAT
        before = self._evaluate(file)
        if self._attempt.task.steps[-1].quantize is not None:
            self._session.report(self._state, 0.0, "quantize")
            file, runtime = self._quantize(file), _INTEGER
        file = self._attempt.write_output(export.ONNX_FILE, file).read_bytes()
        after = self._evaluate(file)
        _LOG.info(
            "export: %s: %d bytes, test accuracy %.2f %% (%s)",
            export.ONNX_FILE, len(file), 100 * after.accuracy, runtime,
        )  # fmt: skip
        if runtime == _INTEGER:
            self._details["agreementWithFloat"] = after.agreement(before)
        return self._figures(net, OnnxModel(file, 1), len(file), after.accuracy, runtime)

    def _quantize(self, file: bytes) -> bytes:
        # A quarter of a second of imports, of which an attempt that ends before has no use.
        from green_jobs.tasks.compress import quantization

        flags = cpu.flags()
        reduce_range = cpu.needs_reduced_range(cpu.machine(), flags)
        self._details["quantization"] = {
            "machine": cpu.machine(),
            "wideSumFlags": list(cpu.wide_sum_flags(flags)),
            "reduceRange": reduce_range,
            "activations": "uint8 per tensor",
            "weights": "int8 per channel",
        }
        seed = derive(self._attempt.task.seed, "calibration")
        examples = quantization.calibration_examples(self._sets.train, seed)
        return quantization.quantize(file, examples, reduce_range=reduce_range)

    def _evaluate(self, file: bytes) -> Predictions:
        self._session.safe_point(self._state)
        model = OnnxModel(file, torch.get_num_threads())
        return evaluate(model, self._sets.test, lambda: self._session.safe_point(self._state))

    def _figures(
        self, net: Net, predict: Predict, size: int, accuracy: float, runtime: str
    ) -> ModelFigures:
        self._session.safe_point(self._state)
        one = latency(predict, self._inputs[:1])
        return ModelFigures(
            parameters=net.parameters,
            bytes=size,
            accuracy=accuracy,
            latency_ms=one.wall_ms,
            latency_cpu_ms=one.cpu_ms,
            runtime=runtime,
        )
