"""The whole pipeline through the worker's process, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from green_api.contract import MAX_SUMMARY_BYTES
from green_api.errors import TaskConfigError
from green_api.learning import Data
from green_jobs import models
from green_jobs.data import first, load
from green_jobs.learning.evaluation import eager
from safetensors.torch import load_file, save_file

from tests.compress.job import SMALL, Job

FULL: dict[str, Any] = {
    "model": {"builtin": "digits-cnn", "trainEpochs": 8},
    "data": {"builtin": "digits", "batchSize": 64},
    "steps": [{"prune": {"ratio": 0.5}}, {"distill": {"epochs": 6}}, {"quantize": {}}],
    "maxAccuracyDropPoints": 4,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, str, str]:
    """A job done by the worker's process, with what that printed."""
    job = Job(tmp_path_factory.mktemp("full"), FULL)
    process = job.start()
    out, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    return job, out, log


def test_the_figures(finished: tuple[Job, str, str]) -> None:
    job, _, _ = finished
    result = job.state.result
    assert result is not None
    original, baseline, final = result.original, result.original_onnx, result.final
    assert original is not None
    assert baseline is not None
    assert final is not None
    assert original.accuracy > 0.96
    assert original.accuracy - final.accuracy <= 0.04
    assert baseline.accuracy == original.accuracy
    assert final.parameters < original.parameters / 2.5
    assert final.bytes == (job.output / "model.onnx").stat().st_size < baseline.bytes / 2
    assert [f.runtime for f in (original, baseline, final)] == [
        "PyTorch eager",
        "ONNX Runtime fp32",
        "ONNX Runtime int8",
    ]
    assert all(f.latency_ms and f.latency_cpu_ms for f in (original, baseline, final))
    assert len(result.model_dump_json()) < MAX_SUMMARY_BYTES


def test_the_details(finished: tuple[Job, str, str]) -> None:
    details: Any = finished[0].state.details
    assert [step["name"] for step in details["steps"]] == ["original", "prune", "distill"]
    assert details["agreementWithFloat"] > 0.95
    assert details["quantization"]["reduceRange"] is not bool(
        details["quantization"]["wideSumFlags"]
    )
    assert details["versions"]["torch"] == torch.__version__.partition("+")[0]


def test_the_log_reads_well(finished: tuple[Job, str, str]) -> None:
    _, out, log = finished
    assert out == ""
    assert len(log.splitlines()) == 8 + 6 + 3 + 2
    for noise in ("Warning", "warn", "Traceback", "[torch.onnx]"):
        assert noise not in log


def test_the_exported_model_loads(finished: tuple[Job, str, str]) -> None:
    job, _, _ = finished
    model = models.load(job.output)
    assert not model.training
    result = job.state.result
    assert result is not None
    assert result.final is not None
    assert sum(p.numel() for p in model.parameters()) == result.final.parameters
    inputs, targets = first(load(Data(builtin="digits"), "data").test, 360)
    assert (eager(model)(inputs).argmax(1) == targets).double().mean() > 0.93


def test_the_onnx_file_takes_any_batch(finished: tuple[Job, str, str]) -> None:
    session = onnxruntime.InferenceSession(finished[0].output / "model.onnx")
    name = session.get_inputs()[0].name
    for batch in (1, 2, 7):
        (logits,) = session.run(None, {name: np.zeros((batch, 1, 8, 8), np.float32)})
        assert logits.shape == (batch, 10)


def test_no_path_of_this_machine_in_the_output(finished: tuple[Job, str, str]) -> None:
    for path in finished[0].output.iterdir():
        assert str(Path(torch.__file__).parent).encode() not in path.read_bytes()


def test_a_broken_accuracy_limit_keeps_the_report(tmp_path: Path) -> None:
    task = FULL | {"steps": [{"prune": {"ratio": 0.9}}], "maxAccuracyDropPoints": 0.5}
    job = Job(tmp_path, task | {"exports": ["Safetensors"]})
    process = job.start()
    _, log = process.communicate(timeout=120)
    state = job.state
    assert process.returncode == 66, log
    assert "spec.task.compress.maxAccuracyDropPoints: 0.5: test accuracy fell by" in state.message
    assert state.result is not None
    assert state.result.final is not None
    assert state.result.original_onnx is None
    assert "steps" in state.details
    assert not state.done
    assert "Traceback" not in log


def test_a_mistake_of_the_author_is_told_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "on_claim.py").write_text("data = 'found, but no callable'")
    job = Job(tmp_path, SMALL | {"data": {"entrypoint": "on_claim:data"}})
    process = job.start()
    _, log = process.communicate(timeout=60)
    assert process.returncode == 65
    assert "entrypoint: 'on_claim:data': is not callable but str" in job.state.message
    assert job.state.message in log
    assert "Traceback" not in log


def test_given_weights(tmp_path: Path) -> None:
    trained = Job(tmp_path / "a", SMALL | {"steps": [{"finetune": {"epochs": 1}}]})
    trained.run()
    claim = tmp_path / "b"
    (claim / "given").mkdir(parents=True)
    (claim / "given" / "w.safetensors").write_bytes(trained.weights)
    task = SMALL | {"model": {"builtin": "digits-cnn", "weights": "given/w.safetensors"}}
    outcome = Job(claim, task).run()
    assert outcome.result.original is not None
    assert outcome.result.original.accuracy > 0.8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"not safetensors", "give the path of a safetensors file on the claim"),
        ({"other": torch.zeros(1)}, "does not fit the model: "),
    ],
)
def test_weights_that_cannot_be(job: Job, content: object, message: str) -> None:
    job.task = SMALL | {"model": {"builtin": "digits-cnn", "weights": "w.safetensors"}}
    path = job.claim / "w.safetensors"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        save_file(content, path)
    with pytest.raises(TaskConfigError, match=message) as error:
        job.run()
    assert str(error.value).startswith("spec.task.compress.model.weights: 'w.safetensors': ")


def test_distillation_into_a_student(job: Job, code: Path) -> None:
    (code / "tiny.py").write_text(
        "from torch import nn\n"
        "def net(hidden):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(),\n"
        "                         nn.Linear(hidden, 10))\n"
    )
    student = {"entrypoint": "tiny:net", "args": {"hidden": 12}}
    job.task = FULL | {"steps": [{"distill": {"epochs": 8, "student": student}}]}
    final = job.run().result.final
    assert final is not None
    assert final.parameters == 65 * 12 + 13 * 10
    assert final.accuracy > 0.8
    assert final.runtime == "ONNX Runtime fp32"
    record = json.loads((job.output / "model.json").read_text())
    assert record["network"] == student
    assert set(load_file(job.output / "model.safetensors")) == set(
        models.load(job.output).state_dict()
    )


def test_a_training_that_diverges(job: Job, code: Path) -> None:
    (code / "steep.py").write_text(
        "from torch import nn\n"
        "def net(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 10))\n"
    )
    model = {"entrypoint": "steep:net", "trainEpochs": 9, "learningRate": 10}
    job.task = SMALL | {"model": model}
    with pytest.raises(TaskConfigError, match=r"model\.learningRate: 10\.0: the loss is no number"):
        job.run()
