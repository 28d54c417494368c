"""CPU time of the cgroup that this process lives in, version 2 or 1."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import psutil
from green_api.contract import Method

from green_jobs.energy.meter import MeterError
from green_jobs.energy.readings import read_number, read_text


class CgroupCpuTime:
    """CPU time of a cgroup that holds nothing but this job.

    Args:
        usage: reads the cgroup's counter.
        spent: CPU time of this process so far; what the cgroup counted before is not the job's.

    Raises:
        MeterError: there is no such counter.

    """

    method = Method.CGROUP_CPU_TIME

    def __init__(self, usage: Callable[[], timedelta], spent: timedelta) -> None:
        self._usage = usage
        self._before = usage() - spent
        self._highest = spent

    def read(self) -> timedelta:
        """CPU time since the attempt began.

        Raises:
            MeterError: the counter has gone.

        """
        self._highest = max(self._highest, self._usage() - self._before)
        return self._highest


def open_own_cgroup(root: Path, spent: timedelta) -> CgroupCpuTime | None:
    """The cgroup of this process, if it holds this job alone.

    Args:
        root: where `proc` and `sys` are found.
        spent: CPU time of this process so far.

    """
    for folder, usage in _candidates(root):
        try:
            if _is_ours(folder):
                return CgroupCpuTime(usage, spent)
        except (OSError, MeterError):
            continue
    return None


def _is_ours(cgroup: Path) -> bool:
    """Whether this process is in there, with nothing beside it but its descendants.

    The counter includes the groups below, so their members count too. A process of another PID
    namespace shows as 0 in version 2 and not at all in version 1, where a container can be told
    from its host only because the root of the hierarchy is never a container's.
    """
    if _is_root(cgroup):
        return False
    ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    members = {
        int(pid) for procs in cgroup.glob("**/cgroup.procs") for pid in procs.read_text().split()
    }
    return os.getpid() in members and members <= ours


def _is_root(cgroup: Path) -> bool:
    """Whether it is the root of its hierarchy, told by files that only it has, or only others."""
    if (cgroup / "cpuacct.usage").exists():
        return (cgroup / "cgroup.sane_behavior").exists()
    return not (cgroup / "cgroup.events").exists()


def _candidates(root: Path) -> Iterator[tuple[Path, Callable[[], timedelta]]]:
    """Where this process's cgroup may be mounted, and how its counter is read.

    A container may see its own cgroup as the root of the mount while `/proc` still tells the path
    on the host, so both places are tried.
    """
    paths = _own_paths(root)
    mount = root / "sys/fs/cgroup"
    if (path := paths.get("")) is not None:
        for folder in (mount / path, mount):
            yield folder, partial(_usage_v2, folder / "cpu.stat")
    if (path := paths.get("cpuacct")) is not None:
        for folder in (mount / "cpuacct" / path, mount / "cpuacct"):
            yield folder, partial(_usage_v1, folder / "cpuacct.usage")


def _own_paths(root: Path) -> dict[str, str]:
    """The cgroup path of this process by controller; version 2 is the empty name."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return {}
    fields = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    return {name: path.lstrip("/") for _, names, path in fields for name in names.split(",")}


def _usage_v2(stat: Path) -> timedelta:
    for line in read_text(stat).splitlines():
        name, _, microseconds = line.partition(" ")
        if name == "usage_usec":
            return timedelta(microseconds=int(microseconds))
    msg = f"{stat} has no usage_usec"
    raise MeterError(msg)


def _usage_v1(usage: Path) -> timedelta:
    return timedelta(microseconds=read_number(usage) / 1e3)
