"""What all tests share."""

from __future__ import annotations

import os
import socket
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

SEED: Final = int(os.environ.get("GREEN_SEED", "20261124"))
WHOLE: Final = os.environ.get("GREEN_MATRIX") == "all"
"""Long matrices run whole; else a sample of them, chosen by the seed."""


# Nothing is timed in a test, examples of property tests neither.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_report_header() -> str:
    return f"matrices: {'whole' if WHOLE else 'sampled'}, seed {SEED} (GREEN_SEED)"


@pytest.fixture
def unused_port() -> int:
    """A TCP port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
