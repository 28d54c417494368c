"""The definitions on a real API server: it takes them, and sound manifests, as Python does."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from green_api.status import JobStatus, PlanStatus, State

from tests.cluster.harness.client import CRDS, GREEN_JOBS, ApiError, Client
from tests.cluster.harness.control_plane import ControlPlane
from tests.cluster.harness.programs import ROOT
from tests.cluster.manifests import Manifest, compress, model_of, named, namespace_of, train, zone


def test_the_definitions_are_served(server: Client) -> None:
    for name in ("greentrainingjobs.greentraining.io", "gridzones.greentraining.io"):
        conditions = {c["type"]: c for c in server.get(CRDS, name)["status"]["conditions"]}
        assert conditions["Established"]["status"] == "True"
        assert conditions["NamesAccepted"]["status"] == "True"
        assert conditions.get("NonStructuralSchema") is None


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.name)
def test_every_example_applies(server: Client, path: Any) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        namespace = "default" if document["kind"] == "GreenTrainingJob" else ""
        server.apply(document, namespace, dry_run=True)


def test_defaults_are_filled_in_as_in_python(server: Client) -> None:
    for document in (train(), compress(), zone()):
        model = model_of(document)
        stored = server.create(document, namespace_of(document), dry_run=True)
        assert model.parse(stored, "stored").spec == model.parse(document, "given").spec  # type: ignore[attr-defined]
        given, filled = model.parse(document, "given").to_wire(), stored["spec"]
        assert filled == {k: v for k, v in given["spec"].items() if v is not None}


def test_a_whole_status_is_kept_as_it_is_written(
    server: Client, created: Callable[[Manifest], Manifest]
) -> None:
    name = created(train())["metadata"]["name"]
    status = JobStatus(state=State.PLANNED, message="waits").to_wire()
    stored = server.patch_status(GREEN_JOBS, name, status, "default")
    assert stored["status"] == status
    with pytest.raises(ApiError) as caught:
        server.patch_status(GREEN_JOBS, name, {"state": "Sleeping"}, "default")
    assert "status.state" in caught.value.message


def test_kubectl_shows_the_columns(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.admin.create(named(train(), "shrink"), namespace)
    status = JobStatus(
        state=State.PLANNED,
        message="waits for a cleaner hour",
        planned_start=datetime(2026, 12, 1, 3, tzinfo=UTC),
        deadline=datetime(2026, 12, 1, 8, tzinfo=UTC),
        difference="-12 g",
        plan=PlanStatus(
            reason="Cheapest",
            message="",
            zone="gb",
            windows=[],
            intensity_grams_per_kilowatt_hour=80,
        ),
    )
    control_plane.admin.patch_status(GREEN_JOBS, "shrink", status.to_wire(), namespace)
    head, row = control_plane.kubectl("get", "gtj", "-n", namespace).splitlines()
    assert head.split() == [
        "NAME",
        "STATE",
        "PLANNED-START",
        "DEADLINE",
        "DIFFERENCE",
        "ZONE",
        "AGE",
    ]
    shown = re.split(r"\s{2,}", row)[:6]
    assert shown == ["shrink", "Planned", "2026-12-01T03:00:00Z", "2026-12-01T08:00:00Z", "-12 g", "gb"]  # fmt: skip
    wide = control_plane.kubectl("get", "gtj", "-n", namespace, "-o", "wide")
    assert {"ENERGY", "INTENSITY", "MESSAGE"} <= set(wide.splitlines()[0].split())
    assert "waits for a cleaner hour" in wide
    green = control_plane.kubectl("get", "green", "-n", namespace)
    assert "greentrainingjob.greentraining.io/shrink" in green


def test_kubectl_explains_the_fields(control_plane: ControlPlane) -> None:
    text = control_plane.kubectl("explain", "gtj.spec.schedule")
    assert "FIELD: schedule <Object>" in text
    assert "completeWithin\t<string>" in text
    assert "The job must have ended so long after its creation" in text
    assert "enum: LowestEmissions, Immediately" in text
    undescribed = [
        line
        for line in control_plane.kubectl("explain", "gtj.spec", "--recursive").splitlines()
        if "<no description>" in line or "FIXME" in line
    ]
    assert undescribed == []
