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

_SCRIPT: Final = """
import sys, time
from tests.cluster.harness.programs import UnavailableError
from tests.node.harness.room import Room
try:
    room = Room()
except UnavailableError as error:
    sys.exit(str(error))
sleeper = room.process("sleeper", ["sh", "-c", "sleep 98765 & sleep 98765"])
sleeper.start()
room.run("ip", "link", "add", "cni0", "type", "bridge")
room.run("mount", "-t", "tmpfs", "none", "/mnt")
print(room.folder, room.name, flush=True)
time.sleep(1000)
"""


def test_nothing_is_left_behind_where_pytest_is_killed() -> None:
    if os.geteuid() != 0 and os.environ.get("CI") != "true":
        pytest.skip("a node needs root (namespaces, mounts, cgroups)")
    tests = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert tests.stdout is not None
    folder, _, name = tests.stdout.readline().strip().partition(" ")
    assert _remains(folder, name) >= {"folder", "device", "cgroup", "process"}
    tests.send_signal(signal.SIGKILL)
    tests.wait()
    wait_for(lambda: not _remains(folder, name), what="all is gone", seen=lambda: sorted(_remains(folder, name)))  # fmt: skip
    assert "98765" not in _processes()


def _remains(folder: str, name: str) -> set[str]:
    devices = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True).stdout
    there = {
        "folder": Path(folder).exists(),
        "device": name in devices,
        "cgroup": any(Path("/sys/fs/cgroup").glob(f"{name}"))
        or any(Path("/sys/fs/cgroup").glob(f"*/{name}")),
        "mount": folder in Path("/proc/mounts").read_text(),
        "process": folder in _processes(),
    }
    return {what for what, is_there in there.items() if is_there}


def _processes() -> str:
    return subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True).stdout
