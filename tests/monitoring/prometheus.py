"""A real Prometheus, Debian's, over series that were written or that it scrapes."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.harness.processes import Process, free_port
from tests.monitoring.tools import program

Sample = tuple[dict[str, str], float]


class Prometheus:
    """One that scrapes these targets every second, or none, and follows these rules."""

    def __init__(
        self, folder: Path, targets: tuple[str, ...] = (), rules: Path | None = None
    ) -> None:
        config: dict[str, Any] = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}}
        if targets:
            scrape = {"job_name": "green-training", "honor_labels": True}
            config["scrape_configs"] = [scrape | {"static_configs": [{"targets": list(targets)}]}]
        if rules is not None:
            config["rule_files"] = [str(rules)]
        file = folder / "prometheus.yaml"
        file.write_text(yaml.safe_dump(config))
        self.url = f"http://127.0.0.1:{free_port()}"
        command = (
            program("prometheus", "prometheus"),
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            "--storage.tsdb.retention.time=50y",
            # The month is scraped every quarter of an hour, and has no marks of what has gone.
            "--query.lookback-delta=899s",
            f"--web.listen-address={self.url.removeprefix('http://')}",
        )
        self.process = Process("prometheus", command, folder / "prometheus.log")

    def start(self) -> None:
        self.process.start()
        self.process.wait_ready(
            lambda: b"Ready" in urllib.request.urlopen(f"{self.url}/-/ready", timeout=5).read()
        )

    def stop(self) -> None:
        self.process.stop()

    def ask(self, expression: str, at: float | None = None) -> list[Sample]:
        """The answer at a moment, now by default."""
        given = {"query": expression} | ({} if at is None else {"time": str(at)})
        found = self._get("query", given)
        return [(s["metric"], float(s["value"][1])) for s in found]

    def raw(
        self, selector: str, at: float | None = None
    ) -> list[tuple[dict[str, str], list[float]]]:
        """The scraped values of a range selector, in their order."""
        given = {"query": selector} | ({} if at is None else {"time": str(at)})
        return [
            (s["metric"], [float(v) for _, v in s["values"]]) for s in self._get("query", given)
        ]

    def over(self, expression: str, start: float, end: float, step: float) -> list[Any]:
        """The answer over a time, as Grafana asks."""
        times = {"start": str(start), "end": str(end), "step": str(step)}
        found: list[Any] = self._get("query_range", {"query": expression} | times)
        return found

    def _get(self, what: str, given: dict[str, str]) -> Any:
        url = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(given)}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)["data"]["result"]
