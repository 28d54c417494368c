"""Integers: when weights need less range, and what quantization changes."""

from __future__ import annotations

import onnx
import pytest
import torch
from green_jobs.learning import onnx_model
from green_jobs.tasks.compress import quantization
from green_jobs.tasks.compress.cpu import flags, needs_reduced_range, wide_sum_flags
from torch import nn


@pytest.mark.parametrize(
    ("machine", "cpu_flags", "reduced"),
    [
        ("x86_64", {"avx2"}, True),
        ("x86_64", {"avx2", "avx512f", "avx512bw"}, True),
        ("AMD64", {"avx2", "avx_vnni"}, False),
        ("x86_64", {"avx2", "avx512_vnni"}, False),
        ("x86_64", {"amx_int8"}, False),
        ("x86_64", set(), True),
        ("aarch64", {"asimd"}, False),
        ("arm64", set(), False),
    ],
)
def test_reduced_range(machine: str, cpu_flags: set[str], *, reduced: bool) -> None:
    assert needs_reduced_range(machine, frozenset(cpu_flags)) is reduced
    assert set(wide_sum_flags(frozenset(cpu_flags))) <= cpu_flags


def test_flags_of_this_cpu() -> None:
    assert all(flag and " " not in flag for flag in flags())


@pytest.fixture(scope="module")
def net() -> tuple[nn.Module, bytes]:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)
    )
    return module, onnx_model.export(module, torch.randn(2, 1, 8, 8))


@pytest.mark.parametrize("reduce_range", [False, True])
def test_quantized_outputs_are_near(net: tuple[nn.Module, bytes], *, reduce_range: bool) -> None:
    module, file = net
    inputs = torch.randn(64, 1, 8, 8)
    quantized = quantization.quantize(file, [inputs[:32], inputs[32:]], reduce_range=reduce_range)
    before, after = (
        onnx_model.OnnxModel(file, 1)(inputs),
        onnx_model.OnnxModel(quantized, 1)(inputs),
    )
    assert torch.allclose(before, module(inputs), atol=1e-5)
    assert (after - before).abs().max() < 0.15 * before.abs().max()
    assert len(quantized) < len(file)


@pytest.mark.parametrize(("reduce_range", "most"), [(False, 127), (True, 64)])
def test_range_of_weights(net: tuple[nn.Module, bytes], *, reduce_range: bool, most: int) -> None:
    quantized = quantization.quantize(net[1], [torch.randn(8, 1, 8, 8)], reduce_range=reduce_range)
    integers = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load_from_string(quantized).graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1
    ]
    assert len(integers) == 2
    assert max(abs(values.astype(int)).max() for values in integers) in {most - 1, most}
