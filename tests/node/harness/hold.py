"""Keeper of a room in which a node runs; a program of its own, with the standard library alone.

    hold.py FOLDER NAME OUTER INNER PODS

Makes namespaces for processes, mounts and network, a pair of network devices between them and the
machine, and a cgroup of that name. Says `ready PID` with the process id to enter by, and waits for
the end of its standard input, which comes when the tests end, well or badly. Then it kills all that
runs in there: with the namespaces mounts, devices and nftables go. It takes cgroups and folder away
and sets back what the kubelet has tuned of the kernel.

Killed itself, it takes the processes with it, but leaves folder and cgroup.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
# What a kubelet sets for the whole machine (k8s.io/component-helpers/node/util/sysctl).
TUNED = (
    *("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops"),
    *("kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"),
)


def main() -> None:
    folder, name, outer, inner, pods = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # the end of the input is what ends this
    tuned = {key: Path("/proc/sys", key).read_text() for key in TUNED}
    init = None
    try:
        make_cgroups(name)
        init = start_init(folder)
        pid = wait_for_child(init.pid)
        connect(name, pid, outer, inner, pods)
        sys.stdout.write(f"ready {pid}\n")
        sys.stdout.flush()
        sys.stdin.read()
    finally:
        if init is not None:
            init.kill()  # its child, the first process in there, goes with it, and so do all
            init.wait()
        remove_cgroups(name)
        for key, value in tuned.items():
            with suppress(OSError):
                Path("/proc/sys", key).write_text(value)
        shutil.rmtree(folder, ignore_errors=True)


def start_init(folder: str) -> subprocess.Popen[bytes]:
    unshare = (
        *("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("--propagation", "private"),
    )
    guard = ("setpriv", "--pdeathsig", "KILL", "--")
    command = [*guard, *unshare, sys.executable, __file__, "init", folder]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)


def run_init(folder: Path) -> None:
    """The first process in the room: places of its own for what node programs write, and a reaper."""
    for place in ("/run", "/var/log"):
        run("mount", "-t", "tmpfs", "-o", "mode=755", "room", place)
    for part in ("upper", "work"):
        (folder / "var-lib" / part).mkdir(parents=True)
    layers = f"lowerdir=/var/lib,upperdir={folder}/var-lib/upper,workdir={folder}/var-lib/work"
    run("mount", "-t", "overlay", "-o", layers, "room", "/var/lib")
    run("mount", "--make-rshared", "/")
    (folder / "init").touch()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        signal.sigtimedwait({signal.SIGCHLD}, 5)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def wait_for_child(parent: int) -> int:
    """The id of the first process in there, as seen from here."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                after_name = entry.read_text().rpartition(")")[2].split()
                if int(after_name[1]) == parent and (Path(sys.argv[1]) / "init").exists():
                    return int(entry.parent.name)
        time.sleep(0.05)
    raise SystemExit("the namespaces could not be made")


def connect(name: str, pid: int, outer: str, inner: str, pods: str) -> None:
    """A pair of devices; from the machine the pods are reached by it, from the pods the machine."""
    run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    run("ip", "address", "add", f"{outer}/30", "dev", name)
    run("ip", "link", "set", name, "up")
    inside = ("nsenter", "--target", str(pid), "--net", "--")
    run(*inside, "ip", "link", "set", "lo", "up")
    run(*inside, "ip", "address", "add", f"{inner}/30", "dev", "eth0")
    run(*inside, "ip", "link", "set", "eth0", "up")
    run(*inside, "ip", "route", "add", "default", "via", outer)
    run("ip", "route", "add", pods, "via", inner)


def run(*command: str) -> None:
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode:
        raise SystemExit(f"{' '.join(command)}: {finished.stderr.strip()}")


def hierarchies() -> list[Path]:
    """The roots: one for all, or with version 1 one for each controller."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]


def make_cgroups(name: str) -> None:
    for root in hierarchies():
        place = root / name
        place.mkdir()
        if root.name == "cpuset":  # version 1 starts with none
            for file in ("cpuset.cpus", "cpuset.mems"):
                (place / file).write_text((root / file).read_text())


def remove_cgroups(name: str) -> None:
    """Deepest first; a process that has just been killed may hold one for a moment."""
    end = time.monotonic() + 20
    for root in hierarchies():
        while (root / name).exists() and time.monotonic() < end:
            for place, _, _ in os.walk(root / name, topdown=False):
                with suppress(OSError):
                    Path(place).rmdir()
            time.sleep(0.05)


if __name__ == "__main__":
    if sys.argv[1] == "init":
        run_init(Path(sys.argv[2]))
    else:
        main()
