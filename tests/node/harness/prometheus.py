"""A real Prometheus that scrapes the operator's pods."""

from __future__ import annotations

import json
import shutil
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml

from tests.cluster.harness.processes import Process, free_port
from tests.cluster.harness.programs import UnavailableError

_PORT: Final = 8080


class Prometheus:
    """Debian's, which cannot ask an API server for pods.

    Args:
        pods: the addresses of the operator's pods by name.
        folder: for its configuration and data.

    Raises:
        UnavailableError: it is not installed.

    """

    def __init__(self, pods: Mapping[str, str], folder: Path) -> None:
        program = shutil.which("prometheus")
        if program is None:
            msg = "prometheus is missing: apt-get install prometheus"
            raise UnavailableError(msg)
        scrape = {
            "job_name": "green-training",
            # As the chart's ServiceMonitor has it: a job's namespace is the metric's own label.
            "honor_labels": True,
            "static_configs": [
                {"targets": [f"{address}:{_PORT}"], "labels": {"pod": name}}
                for name, address in pods.items()
            ],
        }
        config = folder / "prometheus.yaml"
        every = {"scrape_interval": "1s", "scrape_timeout": "1s"}
        config.write_text(yaml.safe_dump({"global": every, "scrape_configs": [scrape]}))
        self._url = f"http://127.0.0.1:{free_port()}"
        command = (
            *(program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"),
            f"--web.listen-address={self._url.removeprefix('http://')}",
        )
        self.process = Process("prometheus", command, folder / "prometheus.log")

    def start(self) -> None:
        self.process.start()
        self.process.wait_ready(
            lambda: b"Ready" in urllib.request.urlopen(f"{self._url}/-/ready", timeout=2).read()
        )

    def value(self, expression: str) -> float:
        """The only sample of an expression now."""
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self._url}/api/v1/query?{query}", timeout=10) as answer:
            (sample,) = json.load(answer)["data"]["result"]
        return float(sample["value"][1])
