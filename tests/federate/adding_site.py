"""A whole site as a process, SuperNode and all: ``… FOLDER NAME SERVER``; it adds one to all weights.

While the file ``hold`` is in the folder, it answers nothing from the second round on; one
whose name is in the file ``too-large`` sends 65 MB.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

import numpy as np
from flwr.app import RecordDict
from green_jobs.signals import Signals
from green_jobs.tasks.federate.flower.runtime import Endpoint
from green_jobs.tasks.federate.records import ARRAYS, reply, unpack
from green_jobs.tasks.federate.site import Site, SiteFiles
from green_jobs.tasks.federate.trainer import round_of

ASKED: Final = "asked for round"
"""What its log says, with the round's number."""


class Adder:
    """Does the work."""

    examples = 10

    def __init__(self, folder: Path, name: str) -> None:
        self._hold = folder / "hold"
        large = folder / "too-large"
        self._is_large = large.exists() and name in large.read_text().split()

    def handle(self, content: RecordDict) -> RecordDict:
        """One round's work."""
        sys.stderr.write(f"{ASKED} {round_of(content)}\n")
        while self._hold.exists() and round_of(content) > 1:
            time.sleep(0.05)
        weights = {name: w + 1 for name, w in unpack(content[ARRAYS]).items()}  # type: ignore[arg-type]
        if self._is_large:
            weights = {"w": np.zeros(65 * 2**18, np.float32)}
        return reply(weights, {"num-examples": self.examples, "loss": 1.0, "accuracy": 0.5})


def main(folder: Path, name: str, server: str) -> bool:
    """Serve the rounds; whether the server has finished."""
    signals = Signals()
    ca = folder / "ca.pem"
    files = SiteFiles(
        superlink=Endpoint(server, ca.read_bytes()), ca=ca, private_key=folder / name,
        secret=folder / "secret", home=folder / f"home-{name}",
    )  # fmt: skip
    return Site(name, files, Adder(folder, name), signals).run()


if __name__ == "__main__":
    sys.exit(0 if main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]) else 75)
