"""Dashboards with a Prometheus' answers in them, drawn by Grafana's own components."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.monitoring.boards import LAST, RANGES, filled, load
from tests.monitoring.prometheus import Prometheus
from tests.monitoring.tools import ROOT, program
from tests.needs import unavailable

BROWSER: Final = ROOT / "tests/browser"
_POINTS: Final = 500


def answered(prometheus: Prometheus, name: str, namespace: str, job: str) -> dict[str, Any]:
    """A board whose panels have the answers to their queries."""
    board, days = load(name), RANGES[name]
    begin = LAST - days * 86_400
    for panel in board["panels"]:
        panel["answers"] = []
        for target in panel["targets"]:
            expr = filled(target["expr"], days, namespace, job)
            if target.get("instant"):
                found = [
                    {"metric": labels, "value": [LAST, str(value)]}
                    for labels, value in prometheus.ask(expr, LAST)
                ]
            else:
                step = 86_400 if panel.get("interval") == "1d" else days * 86_400 / _POINTS
                found = prometheus.over(expr, begin, LAST, step)
            panel["answers"].append(found)
    # The times on either edge would be cut in half: just within them none is written there.
    return {"name": name, "board": board, "from": begin * 1000 + 1, "to": LAST * 1000 - 1}


def draw(boards: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Draw each board into `dashboard-NAME.png`; what the page told of it."""
    chromium = program("chromium", "chromium")
    if not (BROWSER / "node_modules").exists():
        unavailable("the components of the panels are missing: make panels")
    given = folder / "boards.json"
    given.write_text(json.dumps(boards))
    command = [
        program("node", "nodejs"),
        str(BROWSER / "draw.mjs"),
        str(given),
        str(folder),
        chromium,
    ]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert finished.returncode == 0, finished.stderr[-4000:]
    told: dict[str, Any] = json.loads((folder / "told.json").read_text())
    return told
