"""Checkpoints: safetensors files named by their place and digest, the last two kept.

The name carries the digest, so one atomic rename commits a checkpoint and its check together.
Nothing but safetensors is ever opened.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from green_api.contract import digest
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from green_jobs.files import write_atomically
from green_jobs.lock import Lock

_KEPT: Final = 2
_STATE: Final = "state"
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Tensors, and everything else as JSON."""

    tensors: dict[str, Tensor]
    state: str


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of one job."""

    folder: Path
    lock: Lock

    def save(self, checkpoint: Checkpoint) -> bool:
        """Commit a checkpoint, then drop all but the last two.

        Returns:
            Whether it stands; a disk that refuses is logged and leaves the earlier ones alone.

        Raises:
            LockLostError: another attempt has taken over; nothing was written.

        """
        data = save_tensors(checkpoint.tensors, metadata={_STATE: checkpoint.state})
        stored = self._newest_first()
        place = 1 + (_place(stored[0]) if stored else 0)
        try:
            self.lock.ensure()
            write_atomically(self.folder / f"{place:08d}-{digest(data)}.safetensors", data)
            for old in stored[_KEPT - 1 :]:
                old.unlink()
        except OSError as error:
            _LOG.warning("checkpoint not written, the last good one stays: %s", error)
            return False
        return True

    def load(self) -> Checkpoint | None:
        """The newest sound checkpoint; one that is not is logged, removed and passed over.

        What a killed attempt left half-written goes too.
        """
        for left_over in self.folder.glob(".*.tmp"):
            left_over.unlink(missing_ok=True)
        for path in self._newest_first():
            try:
                return _read(path)
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                _LOG.warning(
                    "checkpoint %s is not sound, taking the one before: %s", path.name, error
                )
                path.unlink(missing_ok=True)
        return None

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*-*.safetensors"), key=_place, reverse=True)


def _place(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _read(path: Path) -> Checkpoint:
    data = path.read_bytes()
    if digest(data) != path.stem.partition("-")[2]:
        msg = "its digest differs"
        raise ValueError(msg)
    # The file's layout: the header's length (8 bytes, little-endian), the header as JSON, tensors.
    end = 8 + int.from_bytes(data[:8], "little")
    state = json.loads(data[8:end])["__metadata__"][_STATE]
    # Copies, because sums may depend on the alignment of memory, which torch's own keeps.
    return Checkpoint({name: value.clone() for name, value in load_tensors(data).items()}, state)
