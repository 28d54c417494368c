"""Fixtures of tests with real attempts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.jobs.wrapper.harness import Claim


@pytest.fixture
def claim(tmp_path: Path) -> Iterator[Claim]:
    (tmp_path / "claim").mkdir()
    (tmp_path / "scratch").mkdir()
    claim = Claim(tmp_path / "claim", tmp_path / "scratch")
    yield claim
    for attempt in claim.attempts:
        attempt.process.kill()
        attempt.process.wait()


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    """Write a Python program and return its path."""

    def write(text: str) -> str:
        path = tmp_path / "worker.py"
        path.write_text(text)
        return str(path)

    return write
