"""The project's images, built from its Containerfiles on a machine that reaches package registries alone.

The base, a stand-in for `python:3.11-slim`, comes from Debian's packages; what the Containerfiles
install comes from a folder of wheels that are checked against `uv.lock`. PyTorch is left out
(target `light`): the tests mount this environment's copy. All lies in $XDG_CACHE_HOME/green-training/node.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.cache import cache_folder, locked
from tests.cluster.harness.programs import ROOT, UnavailableError

BASE: Final = "localhost/python:3.11"
_TOOLS: Final = {"buildah": "buildah", "mmdebstrap": "mmdebstrap"}
_BASE_PACKAGES: Final = "python3,python3-venv,ca-certificates,libstdc++6"
_SUITE: Final = "bookworm"
_RECIPE: Final = "1"
"""Counts the changes of how the images are made here; another number makes them anew."""
_KEPT_SECONDS: Final = 3600
"""An archive outlives its last use so long: another checkout's node may be about to load it."""
_SHARED_SOURCES: Final = (
    "pyproject.toml",
    "uv.lock",
    "LICENSE",
    "crds/green_api",
    ".dockerignore",
)


@dataclass(frozen=True)
class Image:
    """What is built from one Containerfile.

    Attributes:
        name: its name on the node.
        part: the folder of the Containerfile, and the extra that is installed.
        package: the code.
        options: of the build.
        pruned: a requirement that is left out with all that only it needs.
        extras: more extras that are installed.

    """

    name: str
    part: str
    package: str
    options: tuple[str, ...] = ()
    pruned: str = ""
    extras: tuple[str, ...] = ()


OPERATOR: Final = Image("localhost/green-operator:test", "operator", "operator/green_operator")
JOBS: Final = Image(
    "localhost/green-jobs:test", "jobs", "jobs/green_jobs", ("--target", "light"), "torch",
    ("federated",),
)  # fmt: skip


@dataclass(frozen=True)
class Archives:
    """Files that `ctr images import` reads."""

    base: Path
    operator: Path
    jobs: Path


def build_images() -> Archives:
    """Build what has changed since the last time.

    Raises:
        UnavailableError: a tool is missing, or something cannot be built; the text says why.

    """
    missing = [package for tool, package in _TOOLS.items() if shutil.which(tool) is None]
    if missing:
        msg = f"images need more packages: apt-get install {' '.join(missing)}"
        raise UnavailableError(msg)
    with locked(_cache()):
        base = _archive("base", _hash([f"{_SUITE} {_BASE_PACKAGES}"]), _build_base)
        return Archives(base, _archive_of(OPERATOR), _archive_of(JOBS))


def added_bytes(image: Path, base: Path) -> int:
    """What an image's layers hold beyond its base's, unpacked."""
    below = set(_layers(base))
    return sum(size for name, size in _layers(image).items() if name not in below)


def _layers(archive: Path) -> dict[str, int]:
    with tarfile.open(archive) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        (image,) = json.load(manifest)
        return {name: tar.getmember(name).size for name in image["Layers"]}


def _archive_of(image: Image) -> Path:
    sources = (*_SHARED_SOURCES, f"{image.part}/Containerfile", image.package)
    return _archive(image.part, _hash_sources(sources), lambda path: _build(image, path))


def _archive(name: str, digest: str, build: Callable[[Path], None]) -> Path:
    """The archive of that content, built where there is none; others of the name go in time."""
    path = _cache() / f"{name}-{digest}.tar"
    if not path.exists():
        started = time.monotonic()
        with tempfile.TemporaryDirectory(dir=_cache()) as folder:
            half = Path(folder) / "image.tar"
            build(half)
            half.rename(path)  # whole or not at all
        _tell(f"{name} image after {time.monotonic() - started:.0f} s")
    path.touch()
    for old in _cache().glob(f"{name}-*.tar"):
        if time.time() - old.stat().st_mtime > _KEPT_SECONDS:
            old.unlink()
    return path


def _build_base(path: Path) -> None:
    _tell("making a base image from Debian's packages: a minute, once")
    root = path.with_name("root.tar")
    excluded = [
        f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale", "info")
    ]
    _run(
        *("mmdebstrap", "--mode=root", "--variant=essential", f"--include={_BASE_PACKAGES}"),
        *(*excluded, _SUITE, str(root)),
    )
    lines = (
        "FROM scratch",
        f"ADD {root.name} /",
        "RUN ln -s /usr/bin/python3 /usr/local/bin/python",
        'CMD ["sleep", "infinity"]',  # so that it serves as the sandbox of pods too
    )
    (path.parent / "Containerfile").write_text("\n".join(lines) + "\n")
    _buildah("bud", "--tag", BASE, str(path.parent))
    root.unlink()
    _push(BASE, path)


def _build(image: Image, path: Path) -> None:
    wheels = _wheels(image)
    _buildah(
        *("bud", "--layers", "--build-arg", f"BASE={BASE}", "--build-context", f"wheels={wheels}"),
        *("--file", f"{image.part}/Containerfile", "--tag", image.name, *image.options, "."),
    )
    _push(image.name, path)


def _push(name: str, path: Path) -> None:
    _buildah("push", "--quiet", name, f"docker-archive:{path}:{name}")


def _wheels(image: Image) -> Path:
    """A folder with what the Containerfile installs."""
    text = (ROOT / image.part / "Containerfile").read_text()
    (uv_version,) = re.findall(r"^ARG UV_VERSION=(.+)$", text, re.MULTILINE)
    digest = _hash([uv_version, image.pruned, *image.extras, (ROOT / "uv.lock").read_text()])
    folder = _cache() / f"wheels-{image.part}-{digest}"
    if folder.exists():
        return folder
    for old in _cache().glob(f"wheels-{image.part}-*"):
        shutil.rmtree(old)
    with tempfile.TemporaryDirectory(dir=_cache()) as name:
        half = Path(name) / "wheels"
        half.mkdir()
        locked = Path(name) / "requirements.txt"
        prune = ("--prune", image.pruned) if image.pruned else ()
        _run(
            *(_uv(), "export", "--quiet", "--frozen", "--no-dev", "--no-emit-project"),
            *(f"--extra={extra}" for extra in (image.part, *image.extras)),
            *(*prune, "--output-file", str(locked)),
        )
        download = (
            *(_uv(), "run", "--quiet", "--no-project", "--with", "pip", "python", "-m", "pip"),
            *("download", "--quiet", "--no-deps", "--only-binary", ":all:"),
            *("--python-version", "3.11", "--dest", str(half)),
        )
        _run(*download, "--require-hashes", "--requirement", str(locked))
        _run(*download, f"uv=={uv_version}")
        half.rename(folder)
    return folder


def _buildah(*arguments: str) -> None:
    """One command with a store of its own; the mounts that it leaves end with it."""
    store = ("--root", str(_cache() / "store"), "--runroot", str(_cache() / "run"))
    environment = {"BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "overlay"}
    _run("unshare", "--mount", "buildah", *store, *arguments, **environment)


def _run(*command: str, **environment: str) -> None:
    finished = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )
    if finished.returncode:
        last = "\n".join((finished.stdout + finished.stderr).strip().splitlines()[-15:])
        msg = f"{' '.join(command[:6])} … failed:\n{last}"
        raise UnavailableError(msg)


def _uv() -> str:
    fetched = ROOT / ".tools" / "bin" / "uv"
    found = shutil.which("uv") or (str(fetched) if fetched.exists() else None)
    if found is None:
        msg = "uv is missing: run make setup"
        raise UnavailableError(msg)
    return found


def _hash_sources(names: Sequence[str]) -> str:
    parts: list[str] = []
    for name in names:
        path = ROOT / name
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                parts += [str(file.relative_to(ROOT)), file.read_bytes().hex()]
    return _hash(parts)


def _hash(parts: Sequence[str]) -> str:
    whole = "\0".join([*parts, _RECIPE])
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def _cache() -> Path:
    return cache_folder("node")


def _tell(text: str) -> None:
    sys.stderr.write(f"node images: {text}\n")
