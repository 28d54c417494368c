"""What the tests need and a machine may lack."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def unavailable(reason: str) -> NoReturn:
    """A skip tells a person what is missing; in CI a missing program is a broken CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have what the tests need: {reason}", pytrace=False)
    pytest.skip(reason)
