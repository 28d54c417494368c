"""Meters on made devices and files."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from green_api.base import Provenance
from green_api.contract import Component, Counter, Method, TaskDocument
from green_api.units import Energy, Power
from green_jobs.energy.cgroup import open_own_cgroup
from green_jobs.energy.cpu import CpuTimeMeter, RaplMeter, busy_time, share_of
from green_jobs.energy.cpu_time import ProcessCpuTime, open_cpu_time
from green_jobs.energy.ladder import ComponentMeter, open_meters
from green_jobs.energy.meter import MeterError, RisingCounter
from green_jobs.energy.nvml import NvmlMeter
from hypothesis import given
from hypothesis import strategies as st

SECOND = timedelta(seconds=1)


class TestRisingCounter:
    @given(
        first=st.integers(0, 999),
        increments=st.lists(st.integers(0, 999), max_size=50),
    )
    def test_sums_over_wraps(self, first: int, increments: list[int]) -> None:
        counter = RisingCounter(first, wraps_at=1000)
        raw, rises = first, []
        for increment in increments:
            raw = (raw + increment) % 1000
            rises.append(counter.rise(raw))
        assert rises == increments

    @given(st.lists(st.lists(st.integers(0, 10**12), min_size=1, max_size=10), min_size=1))
    def test_sums_over_segments(self, increments: list[list[int]]) -> None:
        """A reset shows wherever the new value is below the old one; what else is there to see?"""
        counter, total, expected, last = RisingCounter(0), 0.0, 0, 0
        for segment in increments:
            value = 0
            for increment in segment:
                value += increment
                expected += value - last if value >= last else value
                last = value
                rise = counter.rise(value)
                assert rise >= 0
                total += rise
        assert total == expected

    @given(st.lists(st.floats(0, 1e15)), st.one_of(st.none(), st.floats(1, 1e9)))
    def test_never_falls(self, values: list[float], wraps_at: float | None) -> None:
        counter = RisingCounter(0, wraps_at)
        assert all(counter.rise(value) >= 0 for value in values)


class Scripted:
    """A meter that plays readings; None is a failure."""

    component = Component.GPU
    method = Method.NVML_COUNTER
    provenance = Provenance.MEASURED

    def __init__(self, readings: list[float | None]) -> None:
        self._readings = iter(readings)

    def read(self) -> Energy:
        joules = next(self._readings)
        if joules is None:
            raise MeterError("lost")
        return Energy(joules)


def component(
    openers: list[Callable[[], Any]], clock: Callable[[], float], watts: float = 300
) -> ComponentMeter:
    return ComponentMeter(Component.GPU, openers, Power(watts), clock)


def fail() -> Any:
    raise MeterError("not here")


class TestComponentMeter:
    def test_takes_the_first_method_that_opens_and_reads(self) -> None:
        meter = component(
            [fail, lambda: Scripted([None]), lambda: Scripted([0.0, 5.0])], lambda: 0.0
        )
        [counter] = meter.read()
        assert (counter.method, counter.joules) == (Method.NVML_COUNTER, 5)

    def test_without_any_method_the_reserved_power_counts_from_the_start(self) -> None:
        times = iter([100.0, 110.0])
        [counter] = component([fail], lambda: next(times)).read()
        assert (counter.method, counter.provenance) == (Method.RESERVED, Provenance.ESTIMATED)
        assert counter.joules == 3000

    def test_a_method_that_fails_hands_over_without_a_gap(self) -> None:
        times = iter([0.0, 10.0, 20.0, 30.0])
        meter = component([lambda: Scripted([0.0, 500.0, None])], lambda: next(times))
        assert [c.joules for c in meter.read()] == [500]
        assert [c.joules for c in meter.read()] == [500, 3000]
        assert [c.joules for c in meter.read()] == [500, 6000]

    @given(
        rises=st.lists(st.one_of(st.none(), st.floats(0, 1e6)), min_size=1, max_size=20),
        steps=st.lists(st.floats(0, 1e4), min_size=21, max_size=21),
    )
    def test_no_counter_ever_falls_or_goes(
        self, rises: list[float | None], steps: list[float]
    ) -> None:
        total, readings = 0.0, [0.0]
        for rise in rises:
            total += rise or 0.0
            readings.append(None if rise is None else total)
        elapsed, times = 0.0, []
        for step in steps:
            elapsed += step
            times.append(elapsed)
        clock = iter(times)
        meter = component([lambda: Scripted(list(readings))], lambda: next(clock))
        before: dict[Method, float] = {}
        for _ in rises:
            now = {counter.method: counter.joules for counter in meter.read()}
            assert before.keys() <= now.keys()
            assert all(now[method] >= joules for method, joules in before.items())
            before = now


class FakeNvmlError(Exception):
    pass


class FakeNvml(SimpleNamespace):
    """A machine with GPUs that have counters in millijoules."""

    NVMLError = FakeNvmlError

    def __init__(self, counters: dict[str, object], mig: bool = False) -> None:
        super().__init__(counters=counters, mig=mig)

    def nvmlInit(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.counters)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        if index >= len(self.counters):
            raise FakeNvmlError("Invalid Argument")
        return list(self.counters)[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid not in self.counters:
            raise FakeNvmlError("Not Found")
        return uuid

    def nvmlDeviceGetMigMode(self, _handle: str) -> tuple[int, int]:  # noqa: N802
        return int(self.mig), 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> object:  # noqa: N802
        value = self.counters[handle]
        if isinstance(value, Exception):
            raise value
        return value


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml({"GPU-a": 1000, "GPU-b": 2000, "GPU-c": 3000})
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


class TestNvmlMeter:
    @pytest.mark.parametrize(
        ("gpus", "visible", "expected"),
        [
            (1, None, ["GPU-a"]),
            (2, None, ["GPU-a", "GPU-b"]),
            (1, "2", ["GPU-c"]),
            (2, "2, 0", ["GPU-c", "GPU-a"]),
            (1, "GPU-b", ["GPU-b"]),
            (1, "1,-1,0", ["GPU-b"]),
        ],
    )
    def test_reads_the_first_visible_devices(
        self, nvml: FakeNvml, gpus: int, visible: str | None, expected: list[str]
    ) -> None:
        meter = NvmlMeter(gpus, {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
        assert meter.read() == Energy(0)
        for name in nvml.counters:
            nvml.counters[name] += 10 ** (3 + expected.index(name)) if name in expected else 7777
        assert meter.read() == Energy(sum(10.0**i for i in range(len(expected))))

    @pytest.mark.parametrize(
        ("gpus", "visible"), [(4, None), (1, ""), (1, "-1"), (2, "0,-1,1"), (1, "9"), (1, "MIG-x")]
    )
    def test_refuses_to_count_less_than_is_reserved(
        self, nvml: FakeNvml, gpus: int, visible: str | None
    ) -> None:
        environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
        with pytest.raises(MeterError):
            NvmlMeter(gpus, environment)

    @pytest.mark.parametrize("value", [None, FakeNvmlError("Not Supported")])
    def test_no_counter_is_not_zero(self, nvml: FakeNvml, value: object) -> None:
        nvml.counters["GPU-a"] = value
        with pytest.raises(MeterError):
            NvmlMeter(1, {})

    def test_refuses_a_split_gpu(self, nvml: FakeNvml) -> None:
        nvml.mig = True
        with pytest.raises(MeterError, match="MIG"):
            NvmlMeter(1, {})

    def test_goes_on_after_a_reload_of_the_driver(self, nvml: FakeNvml) -> None:
        meter = NvmlMeter(1, {})
        for value in (6000, 500, 1500):
            nvml.counters["GPU-a"] = value
            energy = meter.read()
        assert energy == Energy(5 + 0.5 + 1)

    def test_a_failing_device_counts_no_other_half(self, nvml: FakeNvml) -> None:
        meter = NvmlMeter(2, {})
        nvml.counters.update({"GPU-a": 2000, "GPU-b": FakeNvmlError("lost")})
        with pytest.raises(MeterError):
            meter.read()
        nvml.counters["GPU-b"] = 3000
        assert meter.read() == Energy(2)

    def test_says_that_the_library_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", None)
        with pytest.raises(MeterError, match="nvidia-ml-py"):
            NvmlMeter(1, {})


class FakeCpuTime:
    method = Method.PROCESS_CPU_TIME

    def __init__(self) -> None:
        self.time = timedelta()

    def read(self) -> timedelta:
        return self.time


class Machine:
    """A tree with the kernel's files."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, content: object) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{content}\n")
        return file

    def zone(self, number: str, name: str, microjoules: int, wraps_at: int = 10**9) -> None:
        folder = f"sys/class/powercap/intel-rapl:{number}"
        self.write(f"{folder}/name", name)
        self.write(f"{folder}/energy_uj", microjoules)
        self.write(f"{folder}/max_energy_range_uj", wraps_at)

    def busy(self, seconds: float) -> None:
        ticks = round(seconds * os.sysconf("SC_CLK_TCK"))
        self.write("proc/stat", f"cpu  {ticks} 0 0 99999 99999 0 0 99999 0 0\ncpu0 1 2 3")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


class TestRaplMeter:
    def test_takes_the_jobs_share_of_all_packages(self, machine: Machine) -> None:
        machine.zone("0", "package-0", 1_000_000)
        machine.zone("0:0", "core", 500)
        machine.zone("1", "package-1", 2_000_000)
        machine.zone("2", "psys", 700)
        machine.busy(100)
        cpu_time = FakeCpuTime()
        meter = RaplMeter(cpu_time, machine.root)
        assert meter.read() == Energy(0)
        machine.zone("0", "package-0", 41_000_000)
        machine.zone("1", "package-1", 22_000_000)
        machine.busy(110)
        cpu_time.time = 4 * SECOND
        assert meter.read().joules == pytest.approx(60 * 0.4)
        cpu_time.time = 5 * SECOND
        assert meter.read().joules == pytest.approx(60 * 0.4)
        assert (meter.provenance, meter.method) == (Provenance.ATTRIBUTED, Method.RAPL_SHARE)

    def test_goes_on_over_a_wrap(self, machine: Machine) -> None:
        machine.zone("0", "package-0", 9_000_000, wraps_at=10_000_000)
        machine.busy(0)
        cpu_time = FakeCpuTime()
        meter = RaplMeter(cpu_time, machine.root)
        machine.zone("0", "package-0", 2_000_000, wraps_at=10_000_000)
        machine.busy(1)
        cpu_time.time = SECOND
        assert meter.read() == Energy(3)

    @pytest.mark.parametrize("missing", ["energy_uj", "max_energy_range_uj"])
    def test_is_not_available_without_a_file(self, machine: Machine, missing: str) -> None:
        machine.zone("0", "package-0", 1)
        machine.busy(0)
        (machine.root / "sys/class/powercap/intel-rapl:0" / missing).unlink()
        with pytest.raises(MeterError):
            RaplMeter(FakeCpuTime(), machine.root)

    @pytest.mark.parametrize("stat", ["", "cpu", "intr 1 2 3 4 5 6 7 8"])
    def test_is_not_available_with_another_proc_stat(self, machine: Machine, stat: str) -> None:
        machine.zone("0", "package-0", 1)
        machine.write("proc/stat", stat)
        with pytest.raises(MeterError):
            RaplMeter(FakeCpuTime(), machine.root)

    def test_is_not_available_with_a_counter_that_is_no_number(self, machine: Machine) -> None:
        machine.zone("0", "package-0", 1)
        machine.busy(0)
        machine.write("sys/class/powercap/intel-rapl:0/energy_uj", "broken")
        with pytest.raises(MeterError, match="no number"):
            RaplMeter(FakeCpuTime(), machine.root)

    @given(st.floats(-10, 1e6), st.floats(-10, 1e6))
    def test_a_share_is_a_share(self, job: float, busy: float) -> None:
        assert 0 <= share_of(timedelta(seconds=job), timedelta(seconds=busy)) <= 1

    def test_busy_is_user_nice_system_irq_softirq(self) -> None:
        ticks = os.sysconf("SC_CLK_TCK")
        stat = f"cpu  {ticks} {ticks} {ticks} 7 7 {ticks} {ticks} 7 7 7\n"
        assert busy_time(stat) == 5 * SECOND


class TestCgroup:
    def v2(self, machine: Machine, path: str, mounted: str, procs: list[int]) -> Path:
        machine.write("proc/self/cgroup", f"0::{path}")
        machine.write(f"sys/fs/cgroup{mounted}/cgroup.procs", "\n".join(map(str, procs)))
        machine.write(f"sys/fs/cgroup{mounted}/cgroup.events", "populated 1")
        return machine.write(f"sys/fs/cgroup{mounted}/cpu.stat", "usage_usec 7000000\nuser_usec 1")

    @pytest.mark.parametrize(
        ("path", "mounted"), [("/", ""), ("/kubepods/pod1/c", "/kubepods/pod1/c"), ("/kube/c", "")]
    )
    def test_version_2_counts_from_now_on(self, machine: Machine, path: str, mounted: str) -> None:
        stat = self.v2(machine, path, mounted, [os.getpid()])
        cpu_time = open_own_cgroup(machine.root, spent=SECOND)
        assert cpu_time is not None
        assert cpu_time.method is Method.CGROUP_CPU_TIME
        assert cpu_time.read() == SECOND
        stat.write_text("usage_usec 9500000\n")
        assert cpu_time.read() == 3.5 * SECOND
        stat.write_text("usage_usec 9000000\n")
        assert cpu_time.read() == 3.5 * SECOND
        stat.unlink()
        with pytest.raises(MeterError):
            cpu_time.read()

    def test_version_1(self, machine: Machine) -> None:
        machine.write("proc/self/cgroup", "0::/\n3:cpu,cpuacct:/docker/x\n1:name=systemd:/y:z")
        machine.write("sys/fs/cgroup/cpuacct/cgroup.procs", os.getpid())
        usage = machine.write("sys/fs/cgroup/cpuacct/cpuacct.usage", 2 * 10**9)
        cpu_time = open_own_cgroup(machine.root, spent=timedelta())
        assert cpu_time is not None
        usage.write_text("5000000000\n")
        assert cpu_time.read() == 3 * SECOND

    @pytest.mark.parametrize("other", [0, 1, os.getppid()])
    def test_a_shared_one_is_not_the_jobs(self, machine: Machine, other: int) -> None:
        self.v2(machine, "/", "", [other, os.getpid()])
        assert open_own_cgroup(machine.root, timedelta()) is None

    def test_members_of_groups_below_count_too(self, machine: Machine) -> None:
        self.v2(machine, "/", "", [os.getpid()])
        machine.write("sys/fs/cgroup/below/deep/cgroup.procs", os.getppid())
        assert open_own_cgroup(machine.root, timedelta()) is None

    def test_descendants_may_share_it(self, machine: Machine) -> None:
        with subprocess.Popen(["sleep", "100"]) as child:
            self.v2(machine, "/", "", [os.getpid(), child.pid])
            assert open_own_cgroup(machine.root, timedelta()) is not None
            child.kill()

    def test_another_processes_group_is_not_ours(self, machine: Machine) -> None:
        self.v2(machine, "/", "", [])
        assert open_own_cgroup(machine.root, timedelta()) is None

    def test_the_root_of_the_hierarchy_is_the_machines(self, machine: Machine) -> None:
        self.v2(machine, "/", "", [os.getpid()])
        (machine.root / "sys/fs/cgroup/cgroup.events").unlink()
        assert open_own_cgroup(machine.root, timedelta()) is None
        machine.write("proc/self/cgroup", "3:cpu,cpuacct:/")
        machine.write("sys/fs/cgroup/cpuacct/cgroup.procs", os.getpid())
        machine.write("sys/fs/cgroup/cpuacct/cpuacct.usage", 1)
        machine.write("sys/fs/cgroup/cpuacct/cgroup.sane_behavior", 0)
        assert open_own_cgroup(machine.root, timedelta()) is None

    def test_a_group_without_a_counter_is_of_no_use(self, machine: Machine) -> None:
        self.v2(machine, "/", "", [os.getpid()]).write_text("nr_periods 0\n")
        assert open_own_cgroup(machine.root, timedelta()) is None

    def test_without_cgroups_the_processes_are_asked(self, machine: Machine) -> None:
        assert open_cpu_time(machine.root).method is Method.PROCESS_CPU_TIME


class TestProcessCpuTime:
    def test_keeps_what_a_dead_child_used(self) -> None:
        cpu_time = ProcessCpuTime()
        before, used_before = cpu_time.read(), _used()
        subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
        rise, used = cpu_time.read() - before, _used() - used_before
        assert used > timedelta()
        assert abs(rise - used) <= timedelta(milliseconds=100)  # the kernel's ticks

    def test_sees_a_living_child(self) -> None:
        cpu_time = ProcessCpuTime()
        program = "while True: pass"
        with subprocess.Popen([sys.executable, "-c", program]) as child:
            before = cpu_time.read()
            while cpu_time.read() - before < timedelta(milliseconds=200):
                pass
            child.kill()
        after = cpu_time.read()
        assert after - before >= timedelta(milliseconds=200)

    def test_energy_is_time_times_power(self) -> None:
        cpu_time = FakeCpuTime()
        cpu_time.time = 3 * SECOND
        meter = CpuTimeMeter(cpu_time, Power(10))
        assert meter.read() == Energy(30)
        assert (meter.provenance, meter.method) == (
            Provenance.ESTIMATED, Method.PROCESS_CPU_TIME
        )  # fmt: skip


def _used() -> timedelta:
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return timedelta(seconds=sum(u.ru_utime + u.ru_stime for u in usages))


class TestOpenMeters:
    @staticmethod
    def read(machine: Machine, gpus: int) -> list[Counter]:
        document = TaskDocument.model_validate(
            {
                "namespace": "n", "name": "j", "folder": "j", "cores": 4, "coreWatts": 10,
                "gpuWatts": 300, "gpus": gpus, "task": {"train": {"command": ["x"]}},
            }
        )  # fmt: skip
        times = iter([0.0, 10.0] * 2) if gpus == 0 else iter([0.0, 0.0, 10.0, 10.0])
        return open_meters(document, {}, lambda: next(times), machine.root).read()

    def test_without_gpus_there_is_no_gpu_counter(self, machine: Machine) -> None:
        assert [c.component for c in self.read(machine, gpus=0)] == [Component.CPU]

    def test_rapl_comes_before_cpu_time(self, machine: Machine) -> None:
        machine.zone("0", "package-0", 1)
        machine.busy(1)
        assert [c.method for c in self.read(machine, gpus=0)] == [Method.RAPL_SHARE]

    def test_gpus_without_nvml_are_estimated_and_not_zero(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", None)
        gpu = self.read(machine, gpus=2)[0]
        assert (gpu.method, gpu.provenance) == (Method.RESERVED, Provenance.ESTIMATED)
        assert gpu.joules == 2 * 300 * 10
