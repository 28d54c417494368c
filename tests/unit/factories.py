"""Short ways to the values that the pure core works on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from green_api.base import Provenance, Signal
from green_api.contract import Component, Counter, Mark, Method
from green_api.job import GreenTrainingJob
from green_api.units import Intensity, Power
from green_operator.account.readings import AttemptRecord, Sample
from green_operator.plan.types import JobRequest, Outlook, Slot

T0 = datetime(2026, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def hours(count: float) -> datetime:
    """So many hours after the beginning of all tests."""
    return T0 + count * HOUR


def outlook(grams: list[float], step: timedelta = HOUR, start: datetime = T0) -> Outlook:
    slots = tuple(
        Slot(start + i * step, start + (i + 1) * step, Intensity(g)) for i, g in enumerate(grams)
    )
    return Outlook("gb", Signal.AVERAGE_LIFECYCLE, slots)


def request(**changes: object) -> JobRequest:
    fields: dict[str, object] = {
        "key": "job",
        "zones": ("gb",),
        "remaining": 2 * HOUR,
        "power": Power(100.0),
        "deadline": hours(24),
        "interruptible": True,
        "immediately": False,
    }
    return JobRequest(**(fields | changes))  # type: ignore[arg-type]


def sample(at: float, joules: float, mark: Mark = Mark.BOUNDARY, **gpu: float) -> Sample:
    counters = [
        Counter(
            component=Component.CPU,
            provenance=Provenance.ESTIMATED,
            method=Method.PROCESS_CPU_TIME,
            joules=joules,
        )
    ]
    if "gpu" in gpu:
        counters.append(
            Counter(
                component=Component.GPU,
                provenance=Provenance.MEASURED,
                method=Method.NVML_COUNTER,
                joules=gpu["gpu"],
            )
        )
    return Sample(hours(at), mark, tuple(counters))


def attempt(
    start: float, end: float | None, samples: list[Sample], *, ok: bool = False, uid: str = "a"
) -> AttemptRecord:
    return AttemptRecord(uid, hours(start), None if end is None else hours(end), ok, tuple(samples))


def manifest(**spec: object) -> dict[str, object]:
    """A sound manifest as a person would write it, with parts of the spec replaced."""
    sound: dict[str, object] = {
        "task": {"train": {"command": ["python", "train.py"]}},
        "schedule": {"completeWithin": "24h", "expectedDuration": "2h", "interruptible": True},
        "resources": {"cpu": 2, "memory": "4Gi"},
        "storage": {"claimName": "models"},
    }
    return {
        "apiVersion": "greentraining.io/v1alpha1",
        "kind": "GreenTrainingJob",
        "metadata": {"name": "shrink"},
        "spec": {k: v for k, v in (sound | spec).items() if v is not None},
    }


def job(**spec: object) -> GreenTrainingJob:
    return GreenTrainingJob.parse(manifest(**spec), "test")
