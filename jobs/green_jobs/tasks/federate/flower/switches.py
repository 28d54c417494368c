"""What keeps Flower at home."""

from __future__ import annotations

from typing import Final

SWITCHES: Final = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
"""For the environment of every process that imports Flower: nothing is called or fetched from
outside."""
