"""One replica of the operator as a process, with the account and the configuration of a release."""

from __future__ import annotations

import sys
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cluster.harness.processes import Process, free_port


class Replica:
    """Started and ended by `with`."""

    def __init__(self, kubeconfig: Path, config: str, namespace: str, folder: Path) -> None:
        file = folder / "config.yaml"
        file.write_text(config)
        self._port = free_port()
        environment = {
            "KUBECONFIG": str(kubeconfig),
            "GREEN_CONFIG": str(file),
            "POD_NAMESPACE": namespace,
            "POD_NAME": "replica",
        }
        command = (sys.executable, "-m", "green_operator.main", f"--port={self._port}")
        self._process = Process("operator", command, folder / "operator.log", environment)

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.stop(timeout=30)

    def answers(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as page:
            text: str = page.read().decode()
            return text

    def tail(self) -> str:
        return self._process.tail()
