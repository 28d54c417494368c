"""What users' entry points get wrong is found before training and told with the fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from green_api.errors import TaskConfigError
from green_jobs import entrypoints

from tests.compress.job import SMALL, Job

CODE = """
import torch
from torch import nn
from torch.utils.data import TensorDataset

number = 7
def net(): return nn.Linear(64, 10)
def no_net(): return "net"
def flat(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
def narrow(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
def pooled(): return nn.Conv2d(1, 10, 3)
class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)
    def forward(self, x):
        y = self.linear(x.flatten(1))
        return y if y.sum().item() > 0 else -y
def branching(): return Branching()
def no_mapping(): return [1, 2]
def no_test(): return {"train": [1]}
def empty(): return {"train": [], "test": []}
def iterable(): return {"train": iter(()), "test": iter(())}
def no_pairs(): return {"train": [1, 2], "test": [1, 2]}
def no_tensor(): return {"train": [(1, 2)], "test": [(1, 2)]}
def float_targets():
    part = TensorDataset(torch.zeros(8, 1, 8, 8), torch.zeros(8))
    return {"train": part, "test": part}
def from_one():
    part = TensorDataset(torch.zeros(10, 1, 8, 8), torch.arange(1, 11))
    return {"train": part, "test": part}
"""


@pytest.fixture
def wrong(code: Path) -> str:
    (code / "wrong_code.py").write_text(CODE)
    (code / "broken_code.py").write_text("1 / 0")
    return "wrong_code"


def _message(job: Job, **changes: Any) -> str:
    job.task = SMALL | changes
    with pytest.raises(TaskConfigError) as error:
        job.run()
    assert not list(job.checkpoints.iterdir())
    return str(error.value)


@pytest.mark.parametrize(
    ("entrypoint", "words"),
    [
        ("nowhere.at_all:net", "importing nowhere.at_all raised ModuleNotFoundError"),
        ("broken_code:net", "importing broken_code raised ZeroDivisionError"),
        ("wrong_code:missing", "wrong_code has no 'missing'; name a function of it"),
        ("wrong_code:number", "is not callable but int; name a function or class"),
        ("wrong_code:no_net", "returned str; return a torch.nn.Module"),
        ("wrong_code:net", "does not fit the data: inputs of shape (2, 1, 8, 8): "),
        ("wrong_code:narrow", "outputs of shape (2, 3) are no logits"),
        ("wrong_code:pooled", "are no logits (examples, classes from 0)"),
    ],
)
def test_models(job: Job, wrong: str, entrypoint: str, words: str) -> None:
    message = _message(job, model={"entrypoint": entrypoint, "trainEpochs": 1})
    assert message.startswith(f"spec.task.compress.model.entrypoint: '{entrypoint}'")
    assert words in message


@pytest.mark.parametrize(
    ("entrypoint", "words"),
    [
        ("no_mapping", "returned list; return a mapping with train and test"),
        ("no_test", "returned dict; return a mapping with train and test"),
        ("empty", "train is no filled map-style data set"),
        ("iterable", "train is no filled map-style data set"),
        ("no_pairs", "train[0] is no pair (input tensor, class index)"),
        ("no_tensor", "train[0] is no pair (input tensor, class index)"),
        ("float_targets", "targets are torch.float32"),
    ],
)
def test_data(job: Job, wrong: str, entrypoint: str, words: str) -> None:
    message = _message(job, data={"entrypoint": f"{wrong}:{entrypoint}"})
    assert message.startswith("spec.task.compress.data")
    assert words in message


def test_arguments_that_it_does_not_take(job: Job, wrong: str) -> None:
    model = {"entrypoint": f"{wrong}:net", "args": {"depth": 3}, "trainEpochs": 1}
    message = _message(job, model=model)
    assert message.startswith("spec.task.compress.model.args: ['depth']: wrong_code:net does not")


def test_its_own_error_keeps_its_traceback(code: Path) -> None:
    (code / "raising_code.py").write_text("def net(): raise KeyError('inner')")
    with pytest.raises(KeyError, match="inner"):
        entrypoints.call("raising_code:net", None, "model")


def test_builtin_model_on_other_data(job: Job) -> None:
    message = _message(job, model={"builtin": "fashion-cnn", "trainEpochs": 1})
    assert message.startswith(
        "spec.task.compress.model.builtin: 'fashion-cnn': does not fit the data: "
    )


def test_student_on_other_data(job: Job) -> None:
    step = {"distill": {"epochs": 1, "student": {"builtin": "fashion-cnn"}}}
    message = _message(job, steps=[{"prune": {"ratio": 0.5}}, step])
    assert message.startswith("spec.task.compress.steps[1].distill.student.builtin: 'fashion-cnn'")


def test_net_without_inner_channels(job: Job, wrong: str) -> None:
    message = _message(job, model={"entrypoint": f"{wrong}:flat", "trainEpochs": 1})
    assert message.startswith("spec.task.compress.steps[0].prune: 0.5: ")
    assert "distill into a student instead" in message


def test_classes_that_count_from_one(job: Job, wrong: str) -> None:
    message = _message(job, data={"entrypoint": f"{wrong}:from_one"})
    assert message.startswith("spec.task.compress.model.builtin: 'digits-cnn': does not fit the")
    assert "outputs of shape (2, 10) are no logits" in message


def test_net_that_torch_cannot_export(job: Job, wrong: str) -> None:
    message = _message(
        job,
        model={"entrypoint": f"{wrong}:branching", "trainEpochs": 1},
        steps=[{"finetune": {"epochs": 1}}],
        exports=["Onnx"],
    )
    assert message.startswith("spec.task.compress.exports: Onnx: torch.onnx cannot export")
    assert "leave Onnx out" in message
