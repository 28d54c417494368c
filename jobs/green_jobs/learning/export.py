"""Output files, each read back and compared with the net that it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from green_api.errors import GreenError
from safetensors.torch import save as save_tensors
from torch import Tensor

from green_jobs import models
from green_jobs.learning import onnx_model
from green_jobs.learning.evaluation import eager
from green_jobs.models import Net

ONNX_FILE = "model.onnx"
# Other kernels sum in another order; float32 has 7 digits.
_RELATIVE, _ABSOLUTE = 1e-3, 1e-4


class ExportError(GreenError):
    """An exported file does not do what its net does."""


def safetensors_bytes(net: Net) -> bytes:
    """The net's tensors as a safetensors file."""
    return save_tensors(net.tensors())


class Output(Protocol):
    """A job's folder of results."""

    @property
    def output(self) -> Path:
        """Where the files are."""

    def write_output(self, name: str, data: bytes) -> Path:
        """Commit a file."""


def write_safetensors(attempt: Output, net: Net, inputs: Tensor) -> int:
    """Write ``model.safetensors`` and ``model.json``; the size of the former in bytes.

    Raises:
        ExportError: loaded again, they give other outputs than the net.
        LockLostError: another attempt has taken over.
        OSError: the disk refuses.

    """
    data = safetensors_bytes(net)
    attempt.write_output(models.WEIGHTS_FILE, data)
    attempt.write_output(models.RECORD_FILE, net.record().to_json())
    again = models.load(attempt.output)
    if not torch.equal(eager(again)(inputs), eager(net.module)(inputs)):
        msg = f"{models.WEIGHTS_FILE} loaded again gives other outputs than the model"
        raise ExportError(msg)
    return len(data)


def float_onnx(net: Net, inputs: Tensor) -> bytes:
    """The net as a float ONNX file.

    Raises:
        ExportError: ONNX Runtime gives other outputs than PyTorch.

    """
    data = onnx_model.export(net.module, inputs[:2])
    outputs = onnx_model.OnnxModel(data, torch.get_num_threads())(inputs)
    expected = eager(net.module)(inputs)
    if not torch.allclose(outputs, expected, rtol=_RELATIVE, atol=_ABSOLUTE):
        difference = (outputs - expected).abs().max().item()
        msg = f"the ONNX export differs from PyTorch by up to {difference:g}"
        raise ExportError(msg)
    return data
