"""The builtin data: genuine files, found, checked and parsed."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from green_api.errors import TaskConfigError
from green_api.learning import Data
from green_jobs import data
from green_jobs.data import fashion_mnist
from hypothesis import given
from hypothesis import strategies as st

from tests.needs import unavailable

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture
def genuine() -> None:
    if not DEBIAN.is_dir():
        unavailable("Debian's dataset-fashion-mnist is absent")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no package of Debian's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(fashion_mnist, "_DEBIAN_FOLDER", "nowhere")
    folder = tmp_path / "green-training" / "fashion-mnist"
    folder.mkdir(parents=True)
    return folder


def test_digits() -> None:
    sets = data.load(Data(builtin="digits"), "data")
    inputs, targets = sets.train.tensors
    assert inputs.shape == (1437, 1, 8, 8)
    assert len(sets.test) == 360
    assert inputs.dtype == torch.float32
    assert abs(inputs.mean().item()) < 1e-3
    assert abs(inputs.std().item() - 1) < 1e-3
    assert set(targets.tolist()) == set(range(10))


@pytest.mark.usefixtures("genuine")
def test_fashion_mnist() -> None:
    sets = data.load(Data(builtin="fashion-mnist"), "data")
    inputs, targets = sets.train.tensors
    assert inputs.shape == (60_000, 1, 28, 28)
    assert sets.test.tensors[0].shape == (10_000, 1, 28, 28)
    assert abs(inputs.mean().item()) < 1e-3
    assert abs(inputs.std().item() - 1) < 1e-3
    assert torch.bincount(targets).tolist() == [6000] * 10
    assert torch.bincount(sets.test.tensors[1]).tolist() == [1000] * 10


def test_absent_data_says_how_to_get_it(cache: Path) -> None:
    with pytest.raises(TaskConfigError, match="python -m green_jobs fetch fashion-mnist") as error:
        data.load(Data(builtin="fashion-mnist"), "data")
    assert str(cache) in str(error.value)


@pytest.mark.usefixtures("genuine")
def test_a_claim_may_have_the_data(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREEN_CLAIM_DIR", str(tmp_path / "claim"))
    folder = tmp_path / "claim" / "datasets" / "fashion-mnist"
    with pytest.raises(TaskConfigError) as error:
        data.load(Data(builtin="fashion-mnist"), "data")
    assert str(folder) in str(error.value)
    assert "with the claim at $GREEN_CLAIM_DIR" in str(error.value)
    folder.parent.mkdir(parents=True)
    shutil.copytree(DEBIAN, folder)
    assert len(data.load(Data(builtin="fashion-mnist"), "data").test) == 10_000


@pytest.mark.parametrize("content", [gzip.compress(b"other"), b"no gzip", b""])
def test_other_files_are_refused(cache: Path, content: bytes) -> None:
    for kind in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (cache / f"{kind}-ubyte.gz").write_bytes(content)
    with pytest.raises(TaskConfigError, match="is not the publisher's file"):
        fashion_mnist.load()


@pytest.mark.usefixtures("genuine")
def test_fetch_fills_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "_from_debian", lambda _: None)
    monkeypatch.setattr(fashion_mnist, "_PUBLISHER", DEBIAN.as_uri())
    assert fashion_mnist.fetch() == cache
    assert len(list(cache.iterdir())) == 4
    assert fashion_mnist.load()[3].shape == (10_000,)


def test_fetch_leaves_nothing_of_a_failed_download(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fashion_mnist, "_from_debian", lambda _: None)
    monkeypatch.setattr(fashion_mnist, "_PUBLISHER", (tmp_path / "empty").as_uri())
    with pytest.raises(OSError, match="empty"):
        fashion_mnist.fetch()
    assert list(cache.iterdir()) == []


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_idx_round_trip(shape: list[int], random: object) -> None:
    values = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    assert np.array_equal(fashion_mnist.parse_idx(header + values.tobytes()), values)


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x08", b"\0\0\x0d\x01\0\0\0\x01x", b"\0\0\x08\x02\0\0\0\x01"]
)
def test_no_idx(content: bytes) -> None:
    with pytest.raises(ValueError, match="not an IDX file"):
        fashion_mnist.parse_idx(content)
