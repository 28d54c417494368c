"""The joules in an attempt's journal against what its devices said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from green_api.contract import Counter, JournalEntry
from green_jobs.journal import read_journals

FAKES = Path(__file__).parent / "fakes"


def journal_of(folder: Path, **environment: str) -> list[JournalEntry]:
    """Run an attempt with two GPUs for a few journal entries."""
    document = {
        "namespace": "team-a", "name": "j", "folder": "j", "gpus": 2, "cores": 1,
        "coreWatts": 10, "gpuWatts": 300, "journalIntervalSeconds": 1,
        "task": {"train": {"command": ["x"]}},
    }  # fmt: skip
    (folder / "task.json").write_text(json.dumps(document))
    subprocess.run(
        [sys.executable, "-m", "green_jobs", "exec", "--", "sleep", "2.5"],
        env={
            **os.environ,
            "PYTHONPATH": str(FAKES),
            "FAKE_NVML_LOG": str(folder / "nvml.log"),
            "GREEN_TASK_FILE": str(folder / "task.json"),
            "GREEN_ATTEMPT_UID": "a1",
            "GREEN_CLAIM_DIR": str(folder),
            "GREEN_TERMINATION_FILE": str(folder / "termination"),
            **environment,
        },
        check=True,
    )
    return read_journals(folder / "j/journal")


def summed(log: Path) -> list[float]:
    """Joules of both GPUs after each of their common readings, from what the devices returned."""
    values = defaultdict(list)
    for line in log.read_text().splitlines():
        handle, value = map(int, line.split())
        values[handle].append(value)
    totals = [0.0]
    for i in range(1, min(map(len, values.values()))):
        rises = (v[i] - v[i - 1] if v[i] >= v[i - 1] else v[i] for v in values.values())
        totals.append(totals[-1] + sum(rises))
    return [total / 1e3 for total in totals]


def by_method(entries: list[JournalEntry], method: str) -> list[float]:
    return [c.joules for e in entries for c in e.counters if c.method == method]


@pytest.mark.parametrize("environment", [{}, {"FAKE_NVML_RESET_AT": "4"}])
def test_journalled_joules_are_what_the_devices_counted(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    entries = journal_of(tmp_path, **environment)
    journalled = by_method(entries, "nvml-counter")
    counted = summed(tmp_path / "nvml.log")
    assert len(journalled) == len(entries) >= 4
    assert set(journalled) <= set(counted)
    assert journalled == sorted(journalled)
    assert journalled[-1] == counted[-1] > 0
    assert by_method(entries, "reserved") == []
    gpu: Counter = entries[-1].counters[0]
    assert (gpu.component, gpu.provenance) == ("gpu", "Measured")


def test_a_gpu_that_is_lost_leaves_its_counter_and_is_estimated_from_there(tmp_path: Path) -> None:
    entries = journal_of(tmp_path, FAKE_NVML_FAIL_AT="5")
    journalled = by_method(entries, "nvml-counter")
    assert len(journalled) == len(entries)
    assert journalled[-1] == journalled[-2] == summed(tmp_path / "nvml.log")[-1]
    reserved = by_method(entries, "reserved")
    assert reserved == sorted(reserved)
    assert reserved[0] > 0
    assert {c.provenance for e in entries for c in e.counters if c.method == "reserved"} == {
        "Estimated"
    }
