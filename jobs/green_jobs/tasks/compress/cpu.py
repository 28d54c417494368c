"""What this CPU can do with 8-bit integers."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Final

_X86: Final = {"x86_64", "amd64", "i686"}
# Instructions that multiply bytes and add into 32 bits at once.
_WIDE_SUMS: Final = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})


def flags() -> frozenset[str]:
    """The CPU's flags as Linux names them; empty where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    named = (line.partition(":") for line in lines)
    return frozenset(
        flag for name, _, value in named if name.strip() in {"flags", "Features"}
        for flag in value.split()
    )  # fmt: skip


def wide_sum_flags(cpu_flags: frozenset[str]) -> list[str]:
    """Those of the flags that make full 8-bit weights safe."""
    return sorted(cpu_flags & _WIDE_SUMS)


def needs_reduced_range(machine: str, cpu_flags: frozenset[str]) -> bool:
    """Whether weights must keep to 7 bits.

    An x86 CPU without VNNI adds pairs of 8-bit products in 16 bits, which saturate: accuracy falls
    by points. Other CPUs widen first.
    """
    return machine.lower() in _X86 and not cpu_flags & _WIDE_SUMS


def machine() -> str:
    """The architecture's name."""
    return platform.machine()
