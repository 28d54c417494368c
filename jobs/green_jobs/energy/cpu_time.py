"""CPU time of this job: of its own cgroup where it has one, else of its processes."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import psutil
from green_api.contract import Method

from green_jobs.energy.cgroup import open_own_cgroup


class CpuTime(Protocol):
    """The job's CPU time."""

    @property
    def method(self) -> Method:
        """How it is found."""

    def read(self) -> timedelta:
        """CPU time since the attempt began; it never falls.

        Raises:
            MeterError: there is no reading.

        """


class ProcessCpuTime:
    """CPU time of this process and its descendants, the reaped ones included.

    A process that ends between two looks at its family can be seen twice or not at all for a
    moment. The true figure never falls, so the highest seen is kept and the error does not last.
    """

    method = Method.PROCESS_CPU_TIME

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._highest = timedelta()

    def read(self) -> timedelta:
        """CPU time since the attempt began."""
        family = [self._process, *self._process.children(recursive=True)]
        self._highest = max(self._highest, timedelta(seconds=sum(map(_seconds, family))))
        return self._highest


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0  # it has just ended; its parent carries its time from now on
    return float(times.user + times.system + times.children_user + times.children_system)


def open_cpu_time(root: Path) -> CpuTime:
    """The best view of this job's CPU time.

    Args:
        root: where `proc` and `sys` are found.

    """
    spent = timedelta(seconds=time.process_time())
    return open_own_cgroup(root, spent) or ProcessCpuTime()
