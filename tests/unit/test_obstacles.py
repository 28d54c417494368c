"""What keeps a job from running is told everywhere: as event, in words, with a fix, in the guide."""

from __future__ import annotations

from pathlib import Path

import pytest
from green_monitoring.rules import ALERTS
from green_operator.cli import words
from green_operator.cli.problems import BY_REASON
from green_operator.lifecycle.events import OBSTACLES

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide.md"
PASSING = {"Retrying"}
"""Goes by itself: no alert, no person has to act."""


@pytest.mark.parametrize("reason", sorted(OBSTACLES))
def test_every_obstacle_is_told_everywhere(reason: str) -> None:
    assert f"`{reason}`" in GUIDE.read_text()
    assert reason in BY_REASON
    if reason not in PASSING:
        assert reason in words.OBSTACLES
        assert any(reason in alert.expr for alert in ALERTS)
