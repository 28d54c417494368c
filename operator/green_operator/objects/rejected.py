"""The status of a stored object that this version cannot read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from green_api.base import format_time


def rejected_status(
    body: dict[str, Any], problems: Sequence[str], now: datetime
) -> dict[str, Any] | None:
    """The stored status with Accepted=False; None where it says so already.

    The rest of it may be a newer version's and is kept as it is.
    """
    status: dict[str, Any] = dict(body.get("status") or {"state": "Accepted"})
    conditions = list(status.get("conditions") or ())
    message = ("cannot be read by this version: " + "; ".join(problems))[:1024]
    known = next((c for c in conditions if c.get("type") == "Accepted"), None)
    if known is not None and (known["status"], known["message"]) == ("False", message):
        return None
    since = known["lastTransitionTime"] if known and known["status"] == "False" else None
    condition = {
        "type": "Accepted",
        "status": "False",
        "reason": "NotReadable",
        "message": message,
        "observedGeneration": body["metadata"].get("generation", 0),
        "lastTransitionTime": since or format_time(now),
    }
    status["conditions"] = [*(c for c in conditions if c.get("type") != "Accepted"), condition]
    status["message"] = message
    return status
