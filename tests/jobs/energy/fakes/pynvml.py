"""Stands for nvidia-ml-py: two GPUs whose counters rise by 1 J per reading, in millijoules.

Every value that is returned goes to $FAKE_NVML_LOG, in whose path % stands for the attempt. $FAKE_NVML_RESET_AT: the reading at which the
counters begin anew; $FAKE_NVML_FAIL_AT: the reading from which on there is none.
"""

import os
from pathlib import Path

_readings = [0, 0]
_counters = [1_000_000, 5_000_000]


class NVMLError(Exception):
    """What NVML raises."""


def nvmlInit() -> None:  # noqa: N802
    pass


def nvmlDeviceGetCount() -> int:  # noqa: N802
    return 2


def nvmlDeviceGetHandleByIndex(index: int) -> int:  # noqa: N802
    return index


def nvmlDeviceGetMigMode(_handle: int) -> list[int]:  # noqa: N802
    raise NVMLError("Not Supported")


def nvmlDeviceGetTotalEnergyConsumption(handle: int) -> int:  # noqa: N802
    _readings[handle] += 1
    if _readings[handle] >= int(os.environ.get("FAKE_NVML_FAIL_AT", 10**9)):
        raise NVMLError("GPU is lost")
    if _readings[handle] == int(os.environ.get("FAKE_NVML_RESET_AT", 0)):
        _counters[handle] = 0
    _counters[handle] += 1000 + handle
    path = os.environ["FAKE_NVML_LOG"].replace("%", os.environ.get("GREEN_ATTEMPT_UID", ""))
    with Path(path).open("a") as log:
        log.write(f"{handle} {_counters[handle]}\n")
    return _counters[handle]
