"""What a checkpoint folder may hold and what becomes of it."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from green_jobs.checkpoint import Checkpoint, CheckpointStore
from green_jobs.lock import Lock, LockLostError


class Trap:
    """Pickled, it writes a file when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("open('sprung', 'w').close()",)


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    Lock(tmp_path, "a").take()
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return CheckpointStore(folder, Lock(tmp_path, "a"))


def _save(store: CheckpointStore, value: float) -> bool:
    return store.save(Checkpoint({"x": torch.full((3,), value)}, f"state {value}"))


def _value(store: CheckpointStore) -> float | None:
    loaded = store.load()
    return None if loaded is None else loaded.tensors["x"][0].item()


def test_the_last_two_are_kept(store: CheckpointStore) -> None:
    assert store.load() is None
    for value in range(5):
        assert _save(store, value)
    assert len(list(store.folder.iterdir())) == 2
    loaded = store.load()
    assert loaded is not None
    assert loaded.state == "state 4"
    assert _value(store) == 4


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_a_damaged_newest_gives_way_to_the_one_before(
    store: CheckpointStore, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    _save(store, 1)
    _save(store, 2)
    newest = max(store.folder.iterdir())
    data = newest.read_bytes()
    if damage == "flip":
        newest.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "gone":
        newest.unlink()
    else:
        newest.write_bytes(data[: len(data) // 2] if damage == "cut" else b"")
    assert _value(store) == 1
    assert ("not sound" in caplog.text) == (damage != "gone")
    assert _save(store, 3)
    assert _value(store) == 3


def test_no_pickle_is_loaded(
    store: CheckpointStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trap = pickle.dumps(Trap())
    digest = hashlib.sha256(trap).hexdigest()
    for name in ("00000009.pt", "model.pkl", f"00000009-{digest}.safetensors"):
        (store.folder / name).write_bytes(trap)
    torch.save({"x": torch.ones(1)}, store.folder / "00000010.safetensors")
    assert store.load() is None
    _save(store, 1)
    assert _value(store) == 1
    assert not (tmp_path / "sprung").exists()


def test_another_holder_of_the_lock(store: CheckpointStore, tmp_path: Path) -> None:
    _save(store, 1)
    Lock(tmp_path, "b").take()
    with pytest.raises(LockLostError):
        _save(store, 2)
    assert _value(store) == 1


def test_left_overs_of_a_killed_attempt_go(store: CheckpointStore) -> None:
    (store.folder / ".00000001-x.safetensors.77.tmp").write_bytes(b"half")
    assert store.load() is None
    _save(store, 1)
    assert [path.name[:9] for path in store.folder.iterdir()] == ["00000001-"]
