"""The dashboards as Grafana would ask for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from tests.monitoring.month import END
from tests.monitoring.tools import DASHBOARDS

RANGES: Final = {"platform": 7, "jobs": 7, "sustainability": 30, "job": 3}
"""Days that each board is looked at."""


@dataclass(frozen=True)
class Asked:
    """One query of one panel."""

    board: str
    panel: dict[str, Any]
    expr: str
    instant: bool
    days: int
    ref: str
    """What the panel calls the query by."""

    @property
    def unit(self) -> str:
        """That of its column, in a table; else the panel's."""
        names = [
            t["options"].get("renameByName", {}) for t in self.panel.get("transformations", [])
        ]
        columns = {name[value] for name in names if (value := f"Value #{self.ref}") in name}
        found: dict[str, str] = {
            o["matcher"]["options"]: p["value"]
            for o in self.panel["fieldConfig"]["overrides"]
            for p in o["properties"]
            if p["id"] == "unit"
        }
        default: str = self.panel["fieldConfig"]["defaults"]["unit"]
        return next((found[column] for column in columns), default)

    def __str__(self) -> str:
        return f"{self.board}: {self.panel['title']}: {self.expr}"


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DASHBOARDS / f"{name}.json").read_text())
    return found


def filled(expr: str, days: int, namespace: str = ".*", name: str = ".*") -> str:
    """An expression with the variables in their place, as Grafana does it."""
    for variable, value in (
        ("$__range", f"{days}d"), ("$namespace", namespace), ("$name", name), ("$zone", ".*"),
    ):  # fmt: skip
        expr = expr.replace(variable, value)
    assert "$" not in expr, expr
    return expr


def asked(board: str, namespace: str = ".*", name: str = ".*") -> Iterator[Asked]:
    """All queries of a board."""
    days = RANGES[board]
    for panel in load(board)["panels"]:
        for target in panel["targets"]:
            expr = filled(target["expr"], days, namespace, name)
            yield Asked(board, panel, expr, bool(target.get("instant")), days, target["refId"])


LAST: Final = END.timestamp()
