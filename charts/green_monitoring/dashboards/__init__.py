"""Grafana's dashboards: one for each reader, and one for a single job."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from green_monitoring.dashboards.job import job
from green_monitoring.dashboards.jobs import jobs
from green_monitoring.dashboards.platform import platform
from green_monitoring.dashboards.sustainability import sustainability

_BOARDS: Final = {
    "platform": platform,
    "jobs": jobs,
    "sustainability": sustainability,
    "job": job,
}


def files() -> dict[str, str]:
    """Each dashboard as JSON, by its file's name."""
    encoder = JSONEncoder(sort_keys=True, indent=1)
    return {f"{name}.json": encoder.encode(make().build()) + "\n" for name, make in _BOARDS.items()}
