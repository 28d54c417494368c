"""Notes what pods send to anywhere but pods, Services, their node and this machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from tests.node.harness.room import Room

_TABLE: Final = "green_beyond"
_SERVICES: Final = "10.96.0.0/16"


@contextmanager
def noting(room: Room) -> Iterator[Callable[[], list[str]]]:
    """Where packets went so far, looked at before Services are translated: ``from > to:port``.

    Names of the world lead there too: the node's DNS makes them up.
    """
    place = room.addresses
    known = f"{place.pods}, {_SERVICES}, {place.node}, {place.machine}"
    rules = (
        f"table inet {_TABLE} {{\n"
        "set beyond { type ipv4_addr . ipv4_addr . inet_service; flags dynamic; size 1024; }\n"
        "chain look { type filter hook prerouting priority raw;\n"
        f'iifname "cni0" ip daddr != {{ {known} }} '
        "add @beyond { ip saddr . ip daddr . th dport }\n"
        "}\n}\n"
    )
    file = room.folder / "beyond.nft"
    file.write_text(rules)
    room.run("nft", "--file", file)
    try:
        yield lambda: _ends(room.run("nft", "--numeric", "list", "set", "inet", _TABLE, "beyond"))
    finally:
        room.run("nft", "delete", "table", "inet", _TABLE)


def _ends(said: str) -> list[str]:
    found = re.findall(r"([0-9.]{7,}) \. ([0-9.]{7,}) \. (\d+)", said)
    return [f"{source} > {target}:{port}" for source, target, port in found]
