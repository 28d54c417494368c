"""Every panel is drawn by Grafana's own components, with the month's data, in a real browser."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.monitoring.boards import RANGES, load
from tests.monitoring.drawn import answered, draw
from tests.monitoring.seeded import Seeded
from tests.monitoring.test_month import a_job
from tests.monitoring.tools import ROOT

# Points of a line that crosses the narrowest part of a panel.
COLOURED = 50
# Of figures, bars and tables; those of axes are drawn and cannot be read.
UNITS = {
    "platform": ("hours", "seconds"),
    "jobs": ("kWh", "kg", "%"),
    "sustainability": ("MWh", "kg", "gCO2e/kWh", "%"),
    "job": ("Wh", "g", "%"),
}


def test_every_panel_is_drawn_with_its_data(seeded: Seeded, tmp_path: Path) -> None:
    boards = [
        answered(seeded.prometheus, board, *(a_job(seeded) if board == "job" else (".*", ".*")))
        for board in RANGES
    ]
    told = draw(boards, tmp_path)
    for board in RANGES:
        page = told[board]
        assert page["errors"] == []
        panels = load(board)["panels"]
        assert page["titles"] == [panel["title"] for panel in panels]
        lines = [panel for panel in panels if panel["type"] == "timeseries"]
        assert len(page["canvases"]) == len(lines)
        assert min(page["canvases"]) > COLOURED
        for unit in UNITS[board]:
            assert unit in page["text"], (board, unit)
        assert "NaN" not in page["text"]
        picture = tmp_path / f"dashboard-{board}.png"
        assert picture.stat().st_size > 20_000
        if os.environ.get("UPDATE_PICTURES"):
            shutil.copy(picture, ROOT / "docs/images" / picture.name)
