"""The definitions on a real API server: it takes them, and refuses in the words of the Python twin."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import yaml
from green_api import federate as federate_types
from green_api import job as job_types
from green_api import learning as learning_types
from green_api import task as task_types
from green_api import zone as zone_types
from green_api.base import Model, Resource
from green_api.errors import InvalidManifestError
from green_api.job import GreenTrainingJob
from green_api.status import JobStatus, PlanStatus, State
from green_api.zone import GridZone

from tests.cluster.harness.client import CRDS, GREEN_JOBS, ApiError, Client
from tests.cluster.harness.control_plane import ControlPlane
from tests.cluster.harness.programs import ROOT

Manifest = dict[str, Any]
GONE: Any = object()
"""In a change: take the field away."""


@pytest.fixture
def server(supported: ControlPlane) -> Client:
    """An administrator's client of each version that is asked for."""
    return supported.admin


@pytest.fixture
def created(server: Client) -> Iterator[Callable[[Manifest], Manifest]]:
    """Creates jobs that are deleted after the test."""
    names: list[str] = []

    def create(document: Manifest) -> Manifest:
        document["metadata"]["name"] = f"job-{uuid4().hex[:8]}"
        made = server.create(document, "default")
        names.append(made["metadata"]["name"])
        return made

    yield create
    for name in names:
        server.delete(GREEN_JOBS, name, "default")


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


NO_DURATION = "is not a duration; write it like 24h, 90m or 1h30m"
NO_QUANTITY = "is not a quantity above zero; write it like 4, 500m or 16Gi"
GREEN_ENV = [{"name": "GREEN_X", "value": "1"}]
TWO_SOURCES = [{"static": ZONE["spec"]["sources"][0]["static"], "ukNeso": {}}]

# What is wrong, and what both sides say of it: the field, its value where it is short, the fix.
BAD: list[tuple[Manifest, str, str, str]] = [
    (train(tusk={}), "spec.tusk", "", "unknown field"),
    (train(schedule__competeWithin="1h"), "spec.schedule.competeWithin", "", "unknown field"),
    (train(pod__hostNetwork=True), "spec.pod.hostNetwork", "", "unknown field"),
    (train(task=GONE), "spec.task", "", "required"),
    (train(schedule=GONE), "spec.schedule", "", "required"),
    (train(storage={}), "spec.storage.claimName", "", "required"),
    (compress(data=GONE), "spec.task.compress.data", "", "required"),
    (train(task={}), "spec.task", "", "a task is exactly one of compress, federate and train"),
    (
        train(task=COMPRESS | JOB["spec"]["task"]),
        "spec.task",
        "",
        "a task is exactly one of compress, federate and train",
    ),
    (train(task__train__command=[]), "spec.task.train.command", "", "should have at least 1 item"),
    (train(retries=-1), "spec.retries", "-1", "should be greater than or equal to 0"),
    (train(retries=101), "spec.retries", "101", "should be less than or equal to 100"),
    (train(resources__gpus=65), "spec.resources.gpus", "65", "should be less than or equal to 64"),
    (train(ttlSecondsAfterFinished=-1), "spec.ttlSecondsAfterFinished", "-1", "greater than or equal to 0"),
    (
        train(pod__terminationGracePeriodSeconds=0),
        "spec.pod.terminationGracePeriodSeconds",
        "0",
        "should be greater than or equal to 1",
    ),
    (train(schedule__completeWithin="1d"), "spec.schedule.completeWithin", "1d", NO_DURATION),
    (train(schedule__completeWithin="24"), "spec.schedule.completeWithin", "24", NO_DURATION),
    (train(schedule__completeWithin="-1h"), "spec.schedule.completeWithin", "-1h", NO_DURATION),
    (train(schedule__completeWithin=""), "spec.schedule.completeWithin", "", NO_DURATION),
    (train(schedule__expectedDuration="2 h"), "spec.schedule.expectedDuration", "2 h", NO_DURATION),
    (train(schedule__expectedDuration="0.1s"), "spec.schedule.expectedDuration", "", "must be at least 1s"),
    (train(schedule__policy="Now"), "spec.schedule.policy", "Now", "LowestEmissions"),
    (
        train(schedule__deadline="2026-12-01T08:00:00Z"),
        "spec.schedule.deadline",
        "",
        "completeWithin and deadline exclude each other: remove one",
    ),
    (
        train(schedule__completeWithin=GONE),
        "spec.schedule.completeWithin",
        "",
        "without a deadline nothing can be planned: give completeWithin or deadline, or set policy: Immediately",
    ),
    (
        train(schedule__expectedDuration=GONE),
        "spec.schedule.expectedDuration",
        "",
        "the planner needs an estimate of the run time: give expectedDuration, or set policy: Immediately",
    ),
    (
        train(schedule__completeWithin="1h"),
        "spec.schedule.completeWithin",
        "",
        "is shorter than expectedDuration: the job cannot fit; allow more time or expect less",
    ),
    (
        train(storage=GONE),
        "spec.storage",
        "",
        "an interruptible job needs storage.claimName for its checkpoints",
    ),
    (
        changed(compress(), {"storage": GONE, "schedule.interruptible": False}),
        "spec.storage",
        "",
        "a compress job needs storage.claimName for its models",
    ),
    (train(resources__cpu="two"), "spec.resources.cpu", "two", NO_QUANTITY),
    (train(resources__cpu=0), "spec.resources.cpu", "0", NO_QUANTITY),
    (train(resources__memory="-1Gi"), "spec.resources.memory", "-1Gi", NO_QUANTITY),
    (train(resources__memory="0"), "spec.resources.memory", "0", NO_QUANTITY),
    (train(pod__env=GREEN_ENV), "spec.pod.env", "", "names that begin with GREEN_ are reserved: choose another"),
    (train(pod__env=[{"name": "A B"}]), "spec.pod.env[0].name", "A B", "should match"),
    (train(placement__zones=[]), "spec.placement.zones", "", "should have at least 1 item"),
    (train(placement__zones=["GB"]), "spec.placement.zones[0]", "GB", "should match"),
    (train(storage__claimName="My_Claim"), "spec.storage.claimName", "My_Claim", "should match"),
    (
        named(JOB, "a" * 51),
        "metadata",
        "",
        "metadata.name may have 50 characters, for names are derived from it",
    ),
    (
        compress(model={"trainEpochs": 1}),
        "spec.task.compress.model",
        "",
        "exactly one of builtin and entrypoint must be given",
    ),
    (
        compress(data={"builtin": "digits", "entrypoint": "a:b"}),
        "spec.task.compress.data",
        "",
        "exactly one of builtin and entrypoint must be given",
    ),
    (
        compress(data__args={"a": 1}),
        "spec.task.compress.data.args",
        "",
        "args are passed to an entrypoint; a builtin takes none, leave args out",
    ),
    (
        compress(model__weights="w.safetensors"),
        "spec.task.compress.model.weights",
        "",
        "weights and trainEpochs exclude each other: take given weights or train anew",
    ),
    (
        compress(model__trainEpochs=GONE),
        "spec.task.compress.model.trainEpochs",
        "",
        "a builtin model has no weights of its own: give trainEpochs or weights",
    ),
    (compress(model__builtin="resnet"), "spec.task.compress.model.builtin", "resnet", "digits-cnn"),
    (
        compress(model={"entrypoint": "no colon"}),
        "spec.task.compress.model.entrypoint",
        "no colon",
        "should match",
    ),
    (
        compress(model={"entrypoint": "a:b", "weights": "../x"}),
        "spec.task.compress.model.weights",
        "../x",
        "should match",
    ),
    (compress(steps=[]), "spec.task.compress.steps", "", "should have at least 1 item"),
    (
        compress(steps=[{"prune": {"ratio": 0.5}, "quantize": {}}]),
        "spec.task.compress.steps[0]",
        "",
        "a step is exactly one of prune, distill, finetune and quantize",
    ),
    (
        compress(steps=[{"prune": {"ratio": 2}}]),
        "spec.task.compress.steps[0].prune.ratio",
        "2",
        "should be less than or equal to 0.95",
    ),
    (
        compress(steps=[{"finetune": {"epochs": 1, "learningRate": 0}}]),
        "spec.task.compress.steps[0].finetune.learningRate",
        "0",
        "should be greater than 0",
    ),
    (
        compress(steps=[{"quantize": {}}, {"finetune": {"epochs": 1}}]),
        "spec.task.compress.steps",
        "",
        "quantize works on the finished model: make it the last step, once",
    ),
    (
        compress(exports=["Safetensors"]),
        "spec.task.compress.exports",
        "",
        "a quantized model exists only as ONNX: add Onnx to exports",
    ),
    (
        compress(exports=["Onnx", "Onnx"]),
        "spec.task.compress.exports",
        "",
        "each export format is named once",
    ),
    (
        changed(federate(), {"storage": GONE, "schedule.interruptible": False}),
        "spec.storage",
        "",
        "a federate job needs storage.claimName for its server's checkpoints and model",
    ),
    (federate(strategy={"name": "FedBest"}), "spec.task.federate.strategy.name", "FedBest", "FedTrimmedAvg"),
    (federate(rounds=0), "spec.task.federate.rounds", "0", "greater than or equal to 1"),
    (
        federate(partition={"sites": 2}),
        "spec.task.federate",
        "",
        "exactly one of sites and partition must be given",
    ),
    (
        federate(sites__1__claimName="data-a"),
        "spec.task.federate.sites",
        "",
        "two sites cannot share a claim: each site's data is its own",
    ),
    (
        federate(sites__1__name="a"),
        "spec.task.federate.sites",
        "",
        "each site's name must be unique",
    ),
    (
        federate(sites__1__name="server"),
        "spec.task.federate.sites[1].name",
        "",
        "server is the name of the federation's own server: choose another",
    ),
    (
        federate(minSites=3),
        "spec.task.federate.minSites",
        "",
        "minSites is more than there are sites; lower it or add sites",
    ),
    (
        changed(compress(), {"resources": {"gpus": 2}}),
        "spec.resources.gpus",
        "",
        "compress and federate use one GPU, more would stay idle: set resources.gpus to 1 or 0; a "
        "train task may have more",
    ),
    (
        federate(sites__1__resources={"gpus": 2}),
        "spec.task.federate.sites[1].resources.gpus",
        "",
        "a site trains on one GPU, more would stay idle: set its resources.gpus to 1 or 0",
    ),
    (
        federate(roundTimeout="500ms"),
        "spec.task.federate.roundTimeout",
        "",
        "roundTimeout must be at least 1s: no site answers sooner",
    ),
    (
        federate(strategy={"name": "Krum"}),
        "spec.task.federate.minSites",
        "",
        "Krum needs minSites to be 2 * strategy.maliciousSites + 3 at least, else the malicious ones "
        "can win: raise minSites (there must be as many sites), lower strategy.maliciousSites or choose "
        "another strategy",
    ),
    *(
        (
            federate(strategy={"name": "FedAvg", field: value}),
            f"spec.task.federate.strategy.{field}",
            "",
            f"{field} belongs to {owner}: set strategy.name to it or remove {field}",
        )
        for field, owner, value in (
            ("proximalMu", "FedProx", 0.1),
            ("adamLearningRate", "FedAdam", 0.1),
            ("trimmedShare", "FedTrimmedAvg", 0.1),
            ("maliciousSites", "Krum", 1),
        )
    ),
    (
        federate(strategy={"name": "FedTrimmedAvg", "trimmedShare": 0.45}),
        "spec.task.federate.minSites",
        "",
        "FedTrimmedAvg would cut nothing: minSites times strategy.trimmedShare (0.2 where it is not "
        "given) must be 1 at least: raise one of them",
    ),
    (
        federate(exports=["Onnx", "Onnx"]),
        "spec.task.federate.exports",
        "",
        "each export format is named once",
    ),
    (
        named(federate(), "w" * 46),
        "metadata",
        "",
        "metadata.name of a federate job names a Service too: a letter, then letters, digits and '-', 45 characters at most",
    ),
    (
        named(federate(), "2.wards"),
        "metadata",
        "",
        "metadata.name of a federate job names a Service too: a letter, then letters, digits and '-', 45 characters at most",
    ),
    (
        named(federate(sites__1__name="s" * 32), "w" * 21),
        "metadata",
        "",
        "metadata.name and a site's name may have 52 characters together, for the names of pods are made of both",
    ),
    (zone(sauces=[]), "spec.sauces", "", "unknown field"),
    (
        named(ZONE, "a" * 64),
        "metadata",
        "",
        "metadata.name may have 63 characters, for it is a label's value",
    ),
    (zone(sources=[]), "spec.sources", "", "should have at least 1 item"),
    (
        zone(sources=TWO_SOURCES),
        "spec.sources[0]",
        "",
        "a source is exactly one of ukNeso, electricityMaps, trace and static",
    ),
    (
        zone(sources__0__static__gramsPerKilowattHour=-1),
        "spec.sources[0].static.gramsPerKilowattHour",
        "-1",
        "should be greater than or equal to 0",
    ),
    (zone(sources__0__static__signal="Mean"), "spec.sources[0].static.signal", "Mean", "AverageDirect"),
    (zone(sources__0__static__signal=GONE), "spec.sources[0].static.signal", "", "required"),
    (zone(sources=[{"ukNeso": {"region": 18}}]), "spec.sources[0].ukNeso.region", "18", "less than or equal to 17"),
]  # fmt: skip


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
        model = _model(document)
        stored = server.create(document, _namespace(document), dry_run=True)
        assert model.parse(stored, "stored").spec == model.parse(document, "given").spec  # type: ignore[attr-defined]
        given, filled = model.parse(document, "given").to_wire(), stored["spec"]
        assert filled == {k: v for k, v in given["spec"].items() if v is not None}


@pytest.mark.parametrize(
    ("document", "field", "value", "fix"),
    [pytest.param(*bad, id=f"{bad[1]}-{bad[3][:30]}-{n}") for n, bad in enumerate(BAD)],
)
def test_a_bad_manifest_is_refused_with_field_value_and_fix(
    server: Client, document: Manifest, field: str, value: str, fix: str
) -> None:
    with pytest.raises(ApiError) as caught:
        server.create(document, _namespace(document), dry_run=True)
    assert caught.value.status in (400, 422)
    says = caught.value.message
    assert re.search(rf"{re.escape(field)}(?!\w)", says), says
    assert value in says
    assert fix.casefold() in says.casefold()
    with pytest.raises(InvalidManifestError) as refused:
        _model(document).parse(document, "file")
    ours = next(line for line in refused.value.problems if line.startswith(f"{field}:"))
    assert value in ours
    assert fix.casefold() in ours.casefold()


def test_every_rule_has_a_bad_manifest() -> None:
    fixes = {fix for *_, fix in BAD} | set(TRANSITIONS)
    models = [
        model
        for module in (job_types, task_types, federate_types, learning_types, zone_types)
        for model in vars(module).values()
        if isinstance(model, type) and issubclass(model, Model)
    ]
    unmet = {r.message for model in models for r in model.rules if r.message not in fixes}
    assert unmet == set()


NEW_JOB = "cannot be changed: create a new job"
FIRST_START = "can be changed before the first start only: create a new job"
TRANSITIONS: dict[str, tuple[str, list[Manifest]]] = {
    f"task {NEW_JOB}": (
        "spec.task",
        [
            {"task": {"compress": {"seed": 1}}},
            {"task": {"compress": {"model": {"args": {"depth": 3}}}}},
            {"task": {"compress": None, "train": {"command": ["x"]}}},
        ],
    ),
    f"storage {NEW_JOB}": ("spec.storage", [{"storage": {"claimName": "other"}}]),
    f"spec.resources {FIRST_START}": ("spec", [{"resources": {"gpus": 1}}]),
    f"spec.placement {FIRST_START}": (
        "spec",
        [{"placement": {"zones": ["fr"]}}, {"placement": None}],
    ),
}


@pytest.mark.parametrize(
    ("message", "field", "patch"),
    [
        pytest.param(message, field, patch, id=f"{field}-{n}")
        for message, (field, patches) in TRANSITIONS.items()
        for n, patch in enumerate(patches)
    ],
)
def test_what_is_fixed_stays(
    server: Client,
    created: Callable[[Manifest], Manifest],
    message: str,
    field: str,
    patch: Manifest,
) -> None:
    model = {"entrypoint": "a:b", "args": {"depth": 2}}
    document = changed(compress(model=model), {"placement.zones": ["gb"]})
    name = created(document)["metadata"]["name"]
    if message.endswith(FIRST_START):
        server.patch(GREEN_JOBS, name, {"spec": patch}, "default")
        original = {"spec": {"resources": {"gpus": 0}, "placement": {"zones": ["gb"]}}}
        server.patch(GREEN_JOBS, name, original, "default")
        status = {"state": "Running", "startTime": "2026-11-24T12:00:00Z"}
        server.patch_status(GREEN_JOBS, name, status, "default")
    with pytest.raises(ApiError) as caught:
        server.patch(GREEN_JOBS, name, {"spec": patch}, "default")
    assert f"{field}: Invalid value" in caught.value.message
    assert message in caught.value.message


def test_a_schedule_may_change_at_any_time(
    server: Client, created: Callable[[Manifest], Manifest]
) -> None:
    name = created(train())["metadata"]["name"]
    status = {"state": "Running", "startTime": "2026-11-24T12:00:00Z"}
    server.patch_status(GREEN_JOBS, name, status, "default")
    patch = {"spec": {"schedule": {"completeWithin": "48h"}, "suspend": True, "retries": 5}}
    server.patch(GREEN_JOBS, name, patch, "default")


def test_several_mistakes_are_told_at_once(server: Client) -> None:
    with pytest.raises(ApiError) as caught:
        server.create(train(retries=-1, resources__gpus=-1), "default", dry_run=True)
    assert "spec.retries" in caught.value.message
    assert "spec.resources.gpus" in caught.value.message


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


def test_kubectl_shows_a_refusal_as_it_is(control_plane: ControlPlane, namespace: str) -> None:
    document = yaml.safe_dump(train(schedule__completeWithin="1h"))
    arguments = ("apply", "-n", namespace, "-f", "-")
    said = control_plane.kubectl(*arguments, stdin=document, check=False)
    assert "spec.schedule.completeWithin" in said
    assert "allow more time or expect less" in said


def _model(document: Manifest) -> type[Resource]:
    return GreenTrainingJob if document["kind"] == "GreenTrainingJob" else GridZone


def _namespace(document: Manifest) -> str:
    return "default" if document["kind"] == "GreenTrainingJob" else ""
