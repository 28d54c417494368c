"""What every meter has in common."""

from __future__ import annotations

from typing import Protocol

from green_api.base import Provenance
from green_api.contract import Component, Method
from green_api.errors import GreenError
from green_api.units import Energy


class MeterError(GreenError):
    """A device or file that this process cannot read, or can read no more."""


class Meter(Protocol):
    """The energy of one component by one method."""

    @property
    def component(self) -> Component:
        """What draws the energy."""

    @property
    def method(self) -> Method:
        """How it is found."""

    @property
    def provenance(self) -> Provenance:
        """How sure it is."""

    def read(self) -> Energy:
        """Energy since the attempt began, or since the meter was opened; it never falls.

        Raises:
            MeterError: there is no reading.

        """


class RisingCounter:
    """Sums the rises of a raw counter, over its wraps and resets.

    A value below the last one is a wrap where the counter is known to wrap, and else a reset (a
    driver that was loaded anew): then what it shows has been counted since that reset.

    Args:
        first: the value to count from.
        wraps_at: the counter's range, in its own unit; None where it does not wrap.

    """

    def __init__(self, first: float, wraps_at: float | None = None) -> None:
        self._last = first
        self._wraps_at = wraps_at

    def rise(self, value: float) -> float:
        """How far the counter has risen since the last call, in its own unit."""
        rise = value - self._last
        if rise < 0:
            rise = value if self._wraps_at is None else max(rise + self._wraps_at, 0.0)
        self._last = value
        return rise
