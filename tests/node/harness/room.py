"""The room of a node: its own processes, mounts and network on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from random import SystemRandom
from typing import Final

from tests.cluster.harness.processes import Process
from tests.cluster.harness.programs import UnavailableError

_RANGE: Final = IPv4Network("10.192.0.0/10")
_HOLDER: Final = Path(__file__).with_name("hold.py")


@dataclass(frozen=True)
class Addresses:
    """Where things are: a network of its own for each room, so that two live beside each other."""

    machine: str
    node: str
    pods: str

    @classmethod
    def choose(cls) -> Addresses:
        """Part of 10/8, which is what the operator takes for pods unless told otherwise.

        Raises:
            UnavailableError: all that was tried is in use.

        """
        for net in SystemRandom().sample(list(_RANGE.subnets(new_prefix=23)), 20):
            taken = subprocess.run(
                ["ip", "-o", "route", "show", "match", str(net)], capture_output=True, text=True
            ).stdout
            if all(line.startswith("default") for line in taken.splitlines()):
                pods, link = net.subnets(new_prefix=24)
                return cls(str(link[1]), str(link[2]), str(pods))
        msg = f"this machine has routes of its own into {_RANGE}"
        raise UnavailableError(msg)


class Room:
    """Namespaces that end with the tests, however those end.

    Raises:
        UnavailableError: this machine, or this user, cannot make them.

    """

    def __init__(self) -> None:
        if os.geteuid() != 0:
            msg = "a node needs root (namespaces, mounts, cgroups)"
            raise UnavailableError(msg)
        missing = [
            tool for tool in ("unshare", "nsenter", "setpriv", "ip") if not shutil.which(tool)
        ]
        if missing:
            msg = f"{', '.join(missing)} missing: apt-get install util-linux iproute2"
            raise UnavailableError(msg)
        self.addresses = place = Addresses.choose()
        self.folder = Path(tempfile.mkdtemp(prefix="green-node-"))
        self.name = f"gn{self.folder.name[-8:].replace('_', 'x')}"
        self._holder = subprocess.Popen(
            [sys.executable, str(_HOLDER), str(self.folder), self.name, place.machine, place.node, place.pods],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )  # fmt: skip
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        word, _, pid = self._holder.stdout.readline().partition(" ")
        if word != "ready":
            self._holder.wait()
            msg = f"no namespaces here: {self._holder.stderr.read().strip()[-500:]}"
            raise UnavailableError(msg)
        self.pid = int(pid)

    def process(
        self, name: str, command: Sequence[object], env: dict[str, str] | None = None
    ) -> Process:
        """A program in there; end it with ``kill``, which does not ask it."""
        inside = ("setpriv", "--pdeathsig", "KILL", "--", *command)
        return Process(name, (*self._entrance(), *inside), self.folder / f"{name}.log", env)

    def run(self, *command: object, check: bool = True) -> str:
        """What a command in there prints."""
        whole = [str(part) for part in (*self._entrance(), *command)]
        finished = subprocess.run(whole, capture_output=True, text=True)
        assert finished.returncode == 0 or not check, f"{' '.join(whole)}:\n{finished.stderr}"
        return finished.stdout

    def kill_all(self) -> None:
        """End all that runs in there but the first process, which keeps the room."""
        self.run("sh", "-c", "kill -KILL -1")

    def close(self) -> None:
        """End all that runs in there and take everything away."""
        assert self._holder.stdin is not None
        self._holder.stdin.close()
        self._holder.wait(300)  # images and pods leave gigabytes of small files

    def _entrance(self) -> tuple[object, ...]:
        return ("nsenter", "--target", self.pid, "--mount", "--net", "--pid", "--")
