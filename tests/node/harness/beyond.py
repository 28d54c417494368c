"""Counts what pods send to anywhere but pods, Services, their node and this machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from tests.node.harness.room import Room

_TABLE: Final = "green_beyond"
_SERVICES: Final = "10.96.0.0/16"


@contextmanager
def counting(room: Room) -> Iterator[Callable[[], int]]:
    """Packets so far, looked at before Services are translated.

    Names of the world lead there too: the node's DNS makes them up.
    """
    place = room.addresses
    known = f"{place.pods}, {_SERVICES}, {place.node}, {place.machine}"
    rules = (
        f"table inet {_TABLE} {{ counter beyond {{}}\n"
        "chain look { type filter hook prerouting priority raw;\n"
        f'iifname "cni0" ip daddr != {{ {known} }} counter name beyond\n'
        "}\n}\n"
    )
    file = room.folder / "beyond.nft"
    file.write_text(rules)
    room.run("nft", "--file", file)
    try:
        yield lambda: _packets(room.run("nft", "list", "counter", "inet", _TABLE, "beyond"))
    finally:
        room.run("nft", "delete", "table", "inet", _TABLE)


def _packets(said: str) -> int:
    (packets,) = re.findall(r"packets (\d+)", said)
    return int(packets)
