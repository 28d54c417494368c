"""NVML's energy counter of whole GPUs, millijoules since the driver was loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from green_api.base import Provenance
from green_api.contract import VISIBLE_DEVICES_ENV, Component, Method, devices_in
from green_api.units import Energy

from green_jobs.energy.meter import MeterError, RisingCounter


class NvmlMeter:
    """The sum over the first GPUs that this process may use.

    The joules of an idle but reserved GPU count: nobody else can use it.

    Args:
        gpus: how many are reserved.
        environment: says by CUDA_VISIBLE_DEVICES which devices are this job's. Indices are taken
            in NVML's order, which is CUDA's own where all GPUs of a machine are alike.

    Raises:
        MeterError: not all of their counters can be read, or a GPU is split (MIG) and its counter
            would include other tenants.

    """

    component = Component.GPU
    method = Method.NVML_COUNTER
    provenance = Provenance.MEASURED

    def __init__(self, gpus: int, environment: Mapping[str, str]) -> None:
        self._nvml = _load()
        try:
            self._handles = self._open(gpus, environment.get(VISIBLE_DEVICES_ENV))
        except self._nvml.NVMLError as error:
            raise MeterError(str(error)) from error
        self._counters = [RisingCounter(self._millijoules(handle)) for handle in self._handles]
        self._total = 0.0

    def read(self) -> Energy:
        """Energy since the meter was opened.

        Raises:
            MeterError: a GPU does not answer.

        """
        # All devices before any sum: one that fails must not leave the others half counted.
        values = [self._millijoules(handle) for handle in self._handles]
        rises = [counter.rise(v) for counter, v in zip(self._counters, values, strict=True)]
        self._total += sum(rises)
        return Energy(self._total / 1e3)

    def _open(self, gpus: int, visible: str | None) -> list[Any]:
        self._nvml.nvmlInit()
        handles = [self._handle(name) for name in self._names(visible)[:gpus]]
        if len(handles) < gpus:
            msg = f"{gpus} GPUs are reserved but NVML shows {len(handles)}"
            raise MeterError(msg)
        if any(self._is_split(handle) for handle in handles):
            msg = "the GPU is split by MIG; its energy counter covers the whole board"
            raise MeterError(msg)
        return handles

    def _names(self, visible: str | None) -> list[str]:
        if visible is None:
            return [str(index) for index in range(self._nvml.nvmlDeviceGetCount())]
        return devices_in(visible)

    def _handle(self, name: str) -> Any:  # noqa: ANN401 - NVML's opaque handle
        if name.isdigit():
            return self._nvml.nvmlDeviceGetHandleByIndex(int(name))
        return self._nvml.nvmlDeviceGetHandleByUUID(name)

    def _is_split(self, handle: Any) -> bool:  # noqa: ANN401 - NVML's opaque handle
        try:
            current, _pending = self._nvml.nvmlDeviceGetMigMode(handle)
        except self._nvml.NVMLError:
            return False  # a GPU that does not know MIG
        return bool(current)

    def _millijoules(self, handle: Any) -> int:  # noqa: ANN401 - NVML's opaque handle
        try:
            value = self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        except self._nvml.NVMLError as error:
            raise MeterError(str(error)) from error
        if not isinstance(value, int):
            msg = "NVML gives no energy counter"
            raise MeterError(msg)
        return value


def _load() -> Any:  # noqa: ANN401 - a module without types
    try:
        import pynvml  # only where there are GPUs: it costs a tenth of a second
    except ImportError as error:
        msg = "nvidia-ml-py is not installed"
        raise MeterError(msg) from error
    return pynvml
