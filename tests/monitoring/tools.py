"""Prometheus' programs, and what to say where they are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final, NoReturn

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
RULES: Final = ROOT / "charts/green-training/files/prometheus-rules.yaml"
DASHBOARDS: Final = ROOT / "charts/green-training/files/dashboards"


def unavailable(reason: str) -> NoReturn:
    """A skip tells a person what is missing; in CI a missing program is a broken CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have what the tests need: {reason}", pytrace=False)
    pytest.skip(reason)


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
