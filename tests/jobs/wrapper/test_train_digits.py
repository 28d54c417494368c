"""The example of a user's own script, suspended and resumed."""

import shutil
import sys
from pathlib import Path

import yaml
from harness import Claim, wait_until
from safetensors.numpy import load_file

from green_api.contract import Mark
from green_api.job import GreenTrainingJob
from green_api.zone import GridZone

EXAMPLES = Path(__file__).parents[3] / "examples"
SCRIPT = str(EXAMPLES / "train_digits/train.py")


def test_the_manifest_is_valid() -> None:
    job, zone = yaml.safe_load_all((EXAMPLES / "train-digits.yaml").read_text())
    train = GreenTrainingJob.model_validate(job).spec.task.train
    assert train is not None
    assert (EXAMPLES / train.command[1]).is_file()
    GridZone.model_validate(zone)


def test_an_interrupted_training_ends_with_the_same_model(claim: Claim) -> None:
    output = claim.folder / "output/model.safetensors"
    one_thread = {"OMP_NUM_THREADS": "1"}
    first = claim.start(
        sys.executable, SCRIPT, "--epochs", "100000", environment=one_thread
    )  # fmt: skip
    wait_until(lambda: Mark.SAVED in claim.marks())
    assert first.stop() == 75
    assert not output.exists()

    checkpoint = load_file(claim.folder / "checkpoints/checkpoint.safetensors")
    epochs = str(int(checkpoint["epoch"]) + 3)
    second = claim.run(
        sys.executable, SCRIPT, "--epochs", epochs, uid="a2", environment=one_thread
    )  # fmt: skip
    assert second.process.returncode == 0
    assert claim.report.result.metrics["accuracy"] > 0.9
    interrupted = output.read_bytes()

    shutil.rmtree(claim.folder)
    claim.run(sys.executable, SCRIPT, "--epochs", epochs, uid="a3", environment=one_thread)
    assert output.read_bytes() == interrupted
