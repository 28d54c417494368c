"""Sound manifests, and short ways to change them."""

from __future__ import annotations

import copy
from typing import Any

from green_api.base import Resource
from green_api.job import GreenTrainingJob
from green_api.zone import GridZone

Manifest = dict[str, Any]
GONE: Any = object()
"""In a change: take the field away."""

COMPRESS: Manifest = {
    "compress": {
        "model": {"builtin": "digits-cnn", "trainEpochs": 2},
        "data": {"builtin": "digits"},
        "steps": [{"prune": {"ratio": 0.5}}, {"quantize": {}}],
    }
}
FEDERATE: Manifest = {
    "federate": {
        "model": {"builtin": "digits-cnn"},
        "data": {"builtin": "digits"},
        "rounds": 3,
        "sites": [{"name": "a", "claimName": "data-a"}, {"name": "b", "claimName": "data-b"}],
    }
}
JOB: Manifest = {
    "apiVersion": "greentraining.io/v1alpha1",
    "kind": "GreenTrainingJob",
    "metadata": {"name": "a"},
    "spec": {
        "task": {"train": {"command": ["python", "train.py"]}},
        "schedule": {"completeWithin": "24h", "expectedDuration": "2h", "interruptible": True},
        "storage": {"claimName": "models"},
    },
}
ZONE: Manifest = {
    "apiVersion": "greentraining.io/v1alpha1",
    "kind": "GridZone",
    "metadata": {"name": "gb"},
    "spec": {"sources": [{"static": {"gramsPerKilowattHour": 210, "signal": "AverageDirect"}}]},
}


def changed(base: Manifest, changes: Manifest) -> Manifest:
    """The manifest with fields set by their dotted paths below ``spec``; a number is an index."""
    document = copy.deepcopy(base)
    for path, value in changes.items():
        *parents, last = [int(key) if key.isdigit() else key for key in ("spec." + path).split(".")]
        place: Any = document
        for key in parents:
            place = place[key] if isinstance(key, int) else place.setdefault(key, {})
        if value is GONE:
            del place[last]
        else:
            place[last] = copy.deepcopy(value)
    return document


def train(**changes: Any) -> Manifest:
    return changed(JOB, {path.replace("__", "."): value for path, value in changes.items()})


def compress(**changes: Any) -> Manifest:
    paths = {f"task.compress.{key.replace('__', '.')}": value for key, value in changes.items()}
    return changed(JOB, {"task": COMPRESS} | paths)


def federate(**changes: Any) -> Manifest:
    paths = {f"task.federate.{key.replace('__', '.')}": value for key, value in changes.items()}
    return changed(JOB, {"task": FEDERATE} | paths)


def zone(**changes: Any) -> Manifest:
    return changed(ZONE, {path.replace("__", "."): value for path, value in changes.items()})


def named(base: Manifest, name: str) -> Manifest:
    return copy.deepcopy(base) | {"metadata": {"name": name}}


def model_of(document: Manifest) -> type[Resource]:
    """What it is read as."""
    return GreenTrainingJob if document["kind"] == "GreenTrainingJob" else GridZone


def namespace_of(document: Manifest) -> str:
    """Where it is applied; a zone is nowhere."""
    return "default" if document["kind"] == "GreenTrainingJob" else ""
