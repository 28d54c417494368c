"""What a node leaves behind: nothing, also where the tests are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.cluster.harness.programs import ROOT
from tests.cluster.harness.waiting import wait_for

_SLEEP: Final = "98765.25"
_SCRIPT: Final = """
import sys, time
from tests.cluster.harness.programs import UnavailableError
from tests.node.harness.room import Room
try:
    room = Room()
except UnavailableError as error:
    sys.exit(str(error))
sleeper = room.process("sleeper", ["sh", "-c", "sleep $0 & sleep $0", sys.argv[1]])
sleeper.start()
room.run("ip", "link", "add", "cni0", "type", "bridge")
room.run("mount", "-t", "tmpfs", "none", "/mnt")
print(room.folder, room.name, flush=True)
time.sleep(1000)
"""


def test_nothing_is_left_behind_where_pytest_is_killed() -> None:
    if os.geteuid() != 0 and os.environ.get("CI") != "true":
        pytest.skip("a node needs root (namespaces, mounts, cgroups)")
    script = [sys.executable, "-c", _SCRIPT, _SLEEP]
    with subprocess.Popen(script, cwd=ROOT, stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        try:
            folder, _, name = tests.stdout.readline().strip().partition(" ")
            assert _remains(folder, name) == {"folder", "device", "cgroup", "processes"}
        finally:
            tests.send_signal(signal.SIGKILL)
    wait_for(
        lambda: not _remains(folder, name), what="all is gone",
        seen=lambda: sorted(_remains(folder, name)),
    )  # fmt: skip


def _remains(folder: str, name: str) -> set[str]:
    devices = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True).stdout
    processes = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True).stdout
    cgroups = Path("/sys/fs/cgroup")
    there = {
        "folder": Path(folder).exists(),
        "device": name in devices or "cni0" in devices,
        "cgroup": any((*cgroups.glob(name), *cgroups.glob(f"*/{name}"))),
        "mount": folder in Path("/proc/mounts").read_text(),
        "processes": folder in processes or f"sleep {_SLEEP}" in processes,
    }
    return {what for what, is_there in there.items() if is_there}
