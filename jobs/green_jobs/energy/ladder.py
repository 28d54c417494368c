"""The choice of methods, and what happens when one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from green_api.base import Provenance
from green_api.contract import Component, Counter, Method, TaskDocument
from green_api.units import ZERO_ENERGY, Energy, Power

from green_jobs.console import warn
from green_jobs.energy.cpu import CpuTimeMeter, RaplMeter
from green_jobs.energy.cpu_time import open_cpu_time
from green_jobs.energy.meter import Meter, MeterError
from green_jobs.energy.nvml import NvmlMeter


class ComponentMeter:
    """One component by the best method that opens, then by its reserved power.

    Args:
        component: what is metered.
        openers: the methods, best first.
        reserved: what the reserved hardware draws by the power table.
        clock: seconds, monotonic.

    """

    def __init__(
        self,
        component: Component,
        openers: Sequence[Callable[[], Meter]],
        reserved: Power,
        clock: Callable[[], float],
    ) -> None:
        self._component = component
        self._reserved = reserved
        self._clock = clock
        self._last_reading = clock()
        self._meter = _open(component, openers)
        self._failed = self._meter is None
        self._metered = ZERO_ENERGY

    def read(self) -> list[Counter]:
        """The component's counters: the metered one, and the reserved one once that has failed."""
        now = self._clock()
        if self._meter is not None and not self._failed:
            try:
                self._metered = self._meter.read()
                self._last_reading = now
            except MeterError as error:
                self._failed = True
                warn(f"{self._component} energy is estimated by its reserved power: {error}")
        return [*self._metered_counter(), *self._reserved_counter(now)]

    def _metered_counter(self) -> Iterator[Counter]:
        if self._meter is not None:
            yield self._counter(self._meter.method, self._meter.provenance, self._metered)

    def _reserved_counter(self, now: float) -> Iterator[Counter]:
        if self._failed:
            energy = self._reserved * timedelta(seconds=now - self._last_reading)
            yield self._counter(Method.RESERVED, Provenance.ESTIMATED, energy)

    def _counter(self, method: Method, provenance: Provenance, energy: Energy) -> Counter:
        return Counter(
            component=self._component, provenance=provenance, method=method, joules=energy.joules
        )


class Meters:
    """All components of an attempt."""

    def __init__(self, components: Sequence[ComponentMeter]) -> None:
        self._components = components

    def read(self) -> list[Counter]:
        """Cumulative counters since the attempt began; none of them ever falls."""
        return [counter for component in self._components for counter in component.read()]


def open_meters(
    document: TaskDocument,
    environment: Mapping[str, str],
    clock: Callable[[], float],
    root: Path = Path("/"),
) -> Meters:
    """The meters of an attempt; what cannot be read is estimated.

    Args:
        document: what is reserved, and the power table.
        environment: says which GPUs are visible.
        clock: seconds, monotonic.
        root: where `proc` and `sys` are found.

    """
    cpu_time = open_cpu_time(root)
    core = Power(document.core_watts)
    cpu = ComponentMeter(
        Component.CPU,
        [lambda: RaplMeter(cpu_time, root), lambda: CpuTimeMeter(cpu_time, core)],
        Power(document.cores * document.core_watts),
        clock,
    )
    if document.gpus == 0:
        return Meters([cpu])
    gpu = ComponentMeter(
        Component.GPU,
        [lambda: NvmlMeter(document.gpus, environment)],
        Power(document.gpus * document.gpu_watts),
        clock,
    )
    return Meters([gpu, cpu])


def _open(component: Component, openers: Sequence[Callable[[], Meter]]) -> Meter | None:
    """The first method that opens and gives a reading."""
    reason = ""
    for opener in openers:
        try:
            meter = opener()
            meter.read()
        except MeterError as error:
            reason = str(error)
        else:
            return meter
    warn(f"{component} energy is estimated by its reserved power: {reason}")
    return None
