"""Helm, as a user calls it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from scripts.get_helm import get_helm
from tests.cluster.harness.programs import ROOT

CHART: Final = ROOT / "charts" / "green-training"
PREVIOUS: Final = Path(__file__).parent / "previous" / "green-training-0.1.0.tgz"
RELEASE: Final = "green-training"
Document = dict[str, Any]


class RefusedError(Exception):
    """Helm ended with an error; the text is what it printed."""


@dataclass(frozen=True)
class Helm:
    """One major version, with folders of its own."""

    major: int
    program: Path
    folder: Path

    def run(self, *arguments: object, kubeconfig: Path | None = None) -> str:
        """What it prints.

        Raises:
            RefusedError: it ended with an error.

        """
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HELM_")}
        # Its cache of what a server has would outlive a test's server on the same port.
        environment |= {"HOME": str(self.folder), "KUBECONFIG": str(kubeconfig or os.devnull)}
        finished = subprocess.run(
            [str(self.program), *map(str, arguments)],
            env=environment, capture_output=True, text=True,
        )  # fmt: skip
        if finished.returncode:
            raise RefusedError(finished.stdout + finished.stderr)
        return finished.stdout

    def template(self, values: Mapping[str, Any] | None = None, *options: str) -> list[Document]:
        """The documents that the chart renders."""
        text = self.run(
            "template", RELEASE, CHART, "--namespace", "green", *self.given(values), *options
        )
        return [document for document in yaml.safe_load_all(text) if document]

    def given(self, values: Mapping[str, Any] | None) -> tuple[object, ...]:
        """Options that hand values over in a file."""
        if values is None:
            return ()
        file = self.folder / "values.json"
        # In YAML as Go reads it a text such as n would have to be quoted.
        file.write_text(json.dumps(dict(values)))
        return ("--values", file)


def find_helm(major: int, folder: Path) -> Helm:
    """Helm of PATH where it is of that version, else from the package.

    Raises:
        UnavailableError: it cannot be had here.

    """
    found = shutil.which("helm")
    if found is not None:
        command = [found, "version", "--template", "{{.Version}}"]
        version = subprocess.run(command, capture_output=True, text=True).stdout
        if version.startswith(f"v{major}."):
            return Helm(major, Path(found), folder)
    return Helm(major, get_helm(major), folder)


def one(documents: list[Document], kind: str, name: str = "") -> Document:
    """The only document of a kind, or that of a name."""
    (found,) = [
        document
        for document in documents
        if document["kind"] == kind and name in ("", document["metadata"]["name"])
    ]
    return found
