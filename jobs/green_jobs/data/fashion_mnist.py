"""Fashion-MNIST: the publisher's four files, found, fetched, checked and parsed.

Xiao, Rasul, Vollgraf 2017 (arXiv:1708.07747), MIT licence. The digests are of the unpacked files:
Debian's package holds the same bytes in another gzip header.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from green_api.contract import CLAIM_ENV, digest
from green_api.errors import TaskConfigError

from green_jobs.files import write_atomically

_DIGESTS: Final = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
_DEBIAN_PACKAGE: Final = "dataset-fashion-mnist"
_DEBIAN_FOLDER: Final = "usr/share/datasets/fashion-mnist"
_PUBLISHER: Final = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
_SECONDS: Final = 120

Bytes = npt.NDArray[np.uint8]


def load(field: str = "data") -> tuple[Bytes, Bytes, Bytes, Bytes]:
    """Training images (60000, 28, 28) and labels (60000,), test images (10000, ...) and labels.

    ``field`` is the data's path in the manifest, for messages.

    Raises:
        TaskConfigError: the files are not there or not the publisher's.

    """
    folder = _find(field)
    train_images, train_labels, test_images, test_labels = (
        parse_idx(_unpack(folder / f"{name}.gz", sha256)) for name, sha256 in _DIGESTS.items()
    )
    return train_images, train_labels, test_images, test_labels


def fetch() -> Path:
    """Fill the claim or, outside of a pod, the cache: from Debian's package, else the publisher.

    Returns:
        The folder with the four files.

    Raises:
        OSError: neither gave the files (a network or disk error).
        TaskConfigError: what came is not the publisher's data.

    """
    folder = _on_claim() or _cache()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        source = _from_debian(Path(scratch)) or _from_publisher(Path(scratch))
        for name, sha256 in _DIGESTS.items():
            _unpack(source / f"{name}.gz", sha256)
            write_atomically(folder / f"{name}.gz", (source / f"{name}.gz").read_bytes())
    return folder


def parse_idx(data: bytes) -> Bytes:
    """An array of unsigned bytes in the IDX format.

    Two zero bytes, the type (8: unsigned byte), the number of dimensions, each dimension as a
    big-endian 32-bit integer, the values row by row (http://yann.lecun.com/exdb/mnist/).

    Raises:
        ValueError: the data is something else.

    """
    dimensions = data[3] if len(data) > 3 else 0
    start = 4 + 4 * dimensions
    if data[:3] != b"\0\0\x08" or len(data) < start:
        msg = "not an IDX file of unsigned bytes"
        raise ValueError(msg)
    shape = [int.from_bytes(data[i : i + 4], "big") for i in range(4, start, 4)]
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "green-training" / "fashion-mnist"


def _on_claim() -> Path | None:
    """Where a claim has them, for images hold no data; None where there is no claim."""
    claim = os.environ.get(CLAIM_ENV)
    return Path(claim) / "datasets" / "fashion-mnist" if claim else None


def _find(field: str) -> Path:
    folders = [f for f in (_on_claim(), Path("/") / _DEBIAN_FOLDER, _cache()) if f is not None]
    for folder in folders:
        if all((folder / f"{name}.gz").is_file() for name in _DIGESTS):
            return folder
    msg = (
        f"{field}.builtin: 'fashion-mnist': the data is in none of "
        f"{', '.join(map(str, folders))}; run `python -m green_jobs fetch fashion-mnist`, "
        f"in a cluster in a pod with the claim at ${CLAIM_ENV}, or install Debian's "
        f"{_DEBIAN_PACKAGE}"
    )
    raise TaskConfigError(msg)


def _unpack(path: Path, sha256: str) -> bytes:
    try:
        data = gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile):
        data = b""
    if digest(data) != sha256:
        msg = (
            f"{path}: is not the publisher's file (SHA-256 differs); remove it and run "
            "`python -m green_jobs fetch fashion-mnist`"
        )
        raise TaskConfigError(msg)
    return data


def _from_debian(scratch: Path) -> Path | None:
    """Unpack Debian's package, which needs no root; None where apt is not or does not know it."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return None
    try:
        _run(scratch, "apt-get", "download", _DEBIAN_PACKAGE)
        _run(scratch, "dpkg-deb", "-x", next(_packages(scratch)).name, ".")
    except (subprocess.SubprocessError, StopIteration):
        return None
    return scratch / _DEBIAN_FOLDER


def _packages(scratch: Path) -> Iterator[Path]:
    return scratch.glob(f"{_DEBIAN_PACKAGE}_*.deb")


def _run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=_SECONDS)  # noqa: S603 - fixed commands


def _from_publisher(scratch: Path) -> Path:
    """Download the four files; a connection that is silent for long is an OSError."""
    for name in _DIGESTS:
        with urllib.request.urlopen(f"{_PUBLISHER}/{name}.gz", timeout=_SECONDS) as reply:  # noqa: S310 - a constant URL
            (scratch / f"{name}.gz").write_bytes(reply.read())
    return scratch
