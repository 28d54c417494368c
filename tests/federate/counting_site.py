"""A trainer without a model: adds one to every weight and says which process it is."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from flwr.app import MetricRecord, RecordDict
from green_api.errors import TaskConfigError
from green_jobs.tasks.federate.flower.runtime import Endpoint
from green_jobs.tasks.federate.flower.tasks import serve_tasks
from green_jobs.tasks.federate.records import ARRAYS, CONFIG, METRICS, pack, unpack


def handle(content: RecordDict) -> RecordDict:
    config = dict(content[CONFIG])
    if config.get("fail") == sys.argv[3]:
        msg = "this site's disk is gone"
        raise OSError(msg)
    if config.get("unfit") == sys.argv[3]:
        msg = "spec.task.federate.model: is another net"
        raise TaskConfigError(msg)
    time.sleep(float(str(config.get("seconds", 0))))
    weights = {name: w + 1 for name, w in unpack(content[ARRAYS]).items()}  # type: ignore[arg-type]
    arrays = pack(weights)
    if config.get("garble") == sys.argv[3]:
        for array in arrays.values():
            array.shape = ("no number",)  # type: ignore[assignment]
    return RecordDict({ARRAYS: arrays, METRICS: MetricRecord({"pid": os.getpid()})})


if __name__ == "__main__":
    serve_tasks(
        Endpoint(sys.argv[1]),
        Path(sys.argv[2]).read_bytes(),
        handle,
        threading.Event(),
        lambda _: None,
    )
