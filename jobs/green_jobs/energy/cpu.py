"""CPU energy from CPU time: a share of the packages' RAPL counters, or the table's power."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from green_api.base import Provenance
from green_api.contract import Component, Method
from green_api.units import ZERO_ENERGY, Energy, Power

from green_jobs.energy.cpu_time import CpuTime
from green_jobs.energy.meter import MeterError, RisingCounter
from green_jobs.energy.readings import read_number, read_text

# Columns of the first line of /proc/stat that are work: user, nice, system, irq, softirq. Idle,
# iowait and steal are not; guest time stands in user already.
_BUSY: Final = (1, 2, 3, 6, 7)


@dataclass(frozen=True)
class CpuTimeMeter:
    """CPU time times the table's power of a busy core."""

    cpu_time: CpuTime
    core: Power

    component = Component.CPU
    provenance = Provenance.ESTIMATED

    @property
    def method(self) -> Method:
        """How the CPU time is found."""
        return self.cpu_time.method

    def read(self) -> Energy:
        """Energy since the attempt began.

        Raises:
            MeterError: the CPU time cannot be read.

        """
        return self.core * self.cpu_time.read()


class RaplMeter:
    """The packages' energy between two readings times the job's share of the busy CPU time.

    Args:
        cpu_time: the job's own.
        root: where `proc` and `sys` are found.

    Raises:
        MeterError: there are no package counters, or this process may not read them.

    """

    component = Component.CPU
    method = Method.RAPL_SHARE
    provenance = Provenance.ATTRIBUTED

    def __init__(self, cpu_time: CpuTime, root: Path) -> None:
        self._cpu_time = cpu_time
        self._stat = root / "proc/stat"
        self._zones = _package_zones(root / "sys/class/powercap")
        self._counters = [
            RisingCounter(
                read_number(zone / "energy_uj"), read_number(zone / "max_energy_range_uj")
            )
            for zone in self._zones
        ]
        self._times = self._read_times()
        self._total = ZERO_ENERGY

    def read(self) -> Energy:
        """Energy since the meter was opened.

        Raises:
            MeterError: a counter cannot be read.

        """
        values = [read_number(zone / "energy_uj") for zone in self._zones]
        job, busy = self._read_times()
        share = share_of(job - self._times[0], busy - self._times[1])
        rises = [counter.rise(v) for counter, v in zip(self._counters, values, strict=True)]
        self._total += Energy(sum(rises) / 1e6) * share
        self._times = job, busy
        return self._total

    def _read_times(self) -> tuple[timedelta, timedelta]:
        return self._cpu_time.read(), busy_time(read_text(self._stat))


def share_of(job: timedelta, busy: timedelta) -> float:
    """The job's part of the machine's busy time, 0 to 1; the two clocks may tick apart."""
    if job <= timedelta():
        return 0.0
    return min(job / busy, 1.0) if busy > timedelta() else 1.0


def busy_time(stat: str) -> timedelta:
    """The machine's busy CPU time since it booted, summed over its cores.

    Args:
        stat: the content of /proc/stat.

    Raises:
        MeterError: it does not begin as such a file does.

    """
    columns = stat.partition("\n")[0].split()
    if columns[:1] != ["cpu"] or len(columns) <= max(_BUSY):
        msg = "/proc/stat does not begin with the machine's CPU times"
        raise MeterError(msg)
    ticks = sum(int(columns[column]) for column in _BUSY)
    return timedelta(seconds=ticks / os.sysconf("SC_CLK_TCK"))


def _package_zones(powercap: Path) -> list[Path]:
    """The packages alone: cores are part of them, memory is not, `psys` is the whole platform."""
    zones = [
        z for z in sorted(powercap.glob("*:*")) if read_text(z / "name").startswith("package-")
    ]
    if not zones:
        msg = "no RAPL package counters"
        raise MeterError(msg)
    return zones
