"""The programs of a control plane: found, or built once.

``python -m tests.cluster.harness.programs`` makes them available before pytest, whose time-outs do
not know of builds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

NEWEST: Final = "1.34.4"
OLDEST: Final = "1.31.13"
"""The last of its line of which the module proxy has all parts of the controller manager."""
ROOT: Final = Path(__file__).resolve().parents[3]
_BUILT: Final = ("kube-apiserver", "kube-controller-manager", "kubectl")


class UnavailableError(Exception):
    """A program cannot be had here."""


@dataclass(frozen=True)
class Programs:
    """Paths of the programs of one version."""

    version: str
    paths: dict[str, Path]

    def __getitem__(self, name: str) -> Path:
        return self.paths[name]


def find_programs(version: str = NEWEST, names: tuple[str, ...] = _BUILT) -> Programs:
    """Take what KUBEBUILDER_ASSETS has, the system's etcd, and build the rest.

    Raises:
        UnavailableError: something is missing and cannot be built; the text says what to do.

    """
    # The folder holds one version, which stands for the newest.
    assets = os.environ.get("KUBEBUILDER_ASSETS") if version == NEWEST else None
    given = {name: Path(assets, name) for name in names if assets and Path(assets, name).exists()}
    missing = [name for name in names if name not in given]
    built = _build(version, missing) if missing else {}
    tools = {name: _tool(name, assets, package) for name, package in _TOOLS.items()}
    return Programs(version, tools | given | built)


_TOOLS: Final = {"etcd": "etcd-server", "openssl": "openssl", "setpriv": "util-linux"}


def _tool(name: str, assets: str | None, package: str) -> Path:
    given = Path(assets or os.devnull, name)
    found = given if given.exists() else shutil.which(name)
    if found is None:
        msg = f"{name} is missing: apt-get install {package}"
        raise UnavailableError(msg)
    return Path(found)


def _build(version: str, names: list[str]) -> dict[str, Path]:
    command = [sys.executable, "-m", "scripts.build_kubernetes"]
    last = ""
    with subprocess.Popen(
        [*command, "--version", version, *names],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as script:
        assert script.stderr is not None
        assert script.stdout is not None
        for line in script.stderr:  # a build of minutes is to be seen
            sys.stderr.write(line)
            last = line.strip()
        folder = Path(script.stdout.read().strip())
    if script.returncode:
        msg = f"{', '.join(names)} {version} cannot be built: {last}"
        raise UnavailableError(msg)
    return {name: folder / name for name in names}


def main() -> None:
    """Build what the cluster tests need; where that fails, the tests themselves say so."""
    try:
        find_programs()
        if os.environ.get("GREEN_MATRIX") == "all":
            find_programs(OLDEST)
    except UnavailableError as error:
        sys.stderr.write(f"cluster tests: {error}\n")


if __name__ == "__main__":
    main()
