"""A Prometheus that has seen the simulated month."""

from __future__ import annotations

from pathlib import Path

from tests.monitoring.month import END, Month, write
from tests.monitoring.prometheus import Prometheus
from tests.monitoring.tools import RULES, promtool


class Seeded:
    """The month, and the Prometheus that has its samples."""

    def __init__(self, folder: Path) -> None:
        self.month = Month()
        samples = folder / "month.om"
        self.count = write(self.month, samples)
        tsdb = folder / "tsdb"
        # One block instead of 360: each of them would read the whole file again.
        promtool(
            "tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=744h", "--quiet",
            samples, tsdb,
        )  # fmt: skip
        samples.unlink()
        self.prometheus = Prometheus(folder)
        self.prometheus.start()
        last = int(END.timestamp())
        recorded = folder / "recorded"
        promtool(
            "tsdb", "create-blocks-from", "rules", f"--start={last - 3600}", f"--end={last}",
            "--eval-interval=10m", f"--output-dir={recorded}", f"--url={self.prometheus.url}", RULES,
        )  # fmt: skip
        self.prometheus.stop()
        for block in recorded.iterdir():
            block.rename(tsdb / block.name)
        self.prometheus = Prometheus(folder)
        self.prometheus.start()
