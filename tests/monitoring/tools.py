"""Prometheus' programs, and what to say where they are missing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.needs import unavailable

ROOT: Final = Path(__file__).resolve().parents[2]
RULES: Final = ROOT / "charts/green-training/files/prometheus-rules.yaml"
DASHBOARDS: Final = ROOT / "charts/green-training/files/dashboards"


def program(name: str, package: str) -> str:
    """The path of a program; without it the test is skipped."""
    found = shutil.which(name)
    if found is None:
        unavailable(f"{name} is missing: apt-get install {package}")
    return found


def promtool(*arguments: object, stdin: str | None = None) -> str:
    """What promtool prints; it must find nothing wrong."""
    command = [program("promtool", "prometheus"), *map(str, arguments)]
    finished = subprocess.run(command, input=stdin, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout + finished.stderr
