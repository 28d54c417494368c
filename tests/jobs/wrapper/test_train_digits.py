"""The example of a user's own script, suspended and resumed."""

import sys
from pathlib import Path

import yaml
from green_api.contract import Mark
from green_api.job import GreenTrainingJob
from green_api.zone import GridZone
from safetensors.numpy import load_file

from tests.jobs.wrapper.harness import Attempt, Claim, wait_until

EXAMPLES = Path(__file__).parents[3] / "examples"
SCRIPT = str(EXAMPLES / "train_digits/train.py")


def test_the_manifest_is_valid() -> None:
    job, zone = yaml.safe_load_all((EXAMPLES / "train-digits.yaml").read_text())
    train = GreenTrainingJob.model_validate(job).spec.task.train
    assert train is not None
    assert (EXAMPLES / train.command[1]).is_file()
    GridZone.model_validate(zone)


def test_an_interrupted_training_ends_with_the_same_model(claim: Claim, tmp_path: Path) -> None:
    first = start(claim, 100_000, "a1")
    wait_until(lambda: Mark.SAVED in claim.marks())
    assert first.stop() == 75
    assert not model_of(claim).exists()
    checkpoint = load_file(claim.folder / "checkpoints/checkpoint.safetensors")
    epochs = int(checkpoint["epoch"]) + 3

    never_interrupted = Claim(tmp_path / "other", claim.scratch, claim.attempts)
    attempts = start(claim, epochs, "a2"), start(never_interrupted, epochs, "a3")
    assert [attempt.wait() for attempt in attempts] == [0, 0]
    assert model_of(claim).read_bytes() == model_of(never_interrupted).read_bytes()
    assert claim.report.result.metrics["accuracy"] > 0.9


def start(claim: Claim, epochs: int, uid: str) -> Attempt:
    command = sys.executable, SCRIPT, "--epochs", str(epochs)
    return claim.start(*command, uid=uid, environment={"OMP_NUM_THREADS": "1"})


def model_of(claim: Claim) -> Path:
    return claim.folder / "output/model.safetensors"
