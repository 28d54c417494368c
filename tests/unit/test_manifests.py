"""Manifests: what is wrong is named with field, value and fix, here as on the API server."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import celpy
import pytest
import yaml
from celpy.adapter import json_to_cel
from green_api.base import Model, format_duration, parse_duration
from green_api.config import OperatorConfig
from green_api.errors import InvalidManifestError
from green_api.federate import Federate, Site, Strategy
from green_api.job import GreenTrainingJob, JobSpec, Pod, Schedule
from green_api.learning import Data
from green_api.task import Compress, OriginalModel, Step, Task
from green_api.zone import GridZone, Source
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.factories import manifest

ROOT = Path(__file__).resolve().parents[2]

COMPRESS: dict[str, Any] = {
    "model": {"builtin": "digits-cnn", "trainEpochs": 2},
    "data": {"builtin": "digits"},
    "steps": [{"prune": {"ratio": 0.5}}, {"quantize": {}}],
}


def compress(**changes: object) -> dict[str, Any]:
    return {"compress": {k: v for k, v in (COMPRESS | changes).items() if v is not None}}


FEDERATE: dict[str, Any] = {
    "model": {"builtin": "digits-cnn"}, "data": {"builtin": "digits"}, "rounds": 1,
    "partition": {"sites": 2},
}  # fmt: skip


def federate(**changes: object) -> dict[str, Any]:
    return {"federate": {k: v for k, v in (FEDERATE | changes).items() if v is not None}}


def problems(document: dict[str, object]) -> str:
    with pytest.raises(InvalidManifestError) as caught:
        GreenTrainingJob.parse(document, "job.yaml")
    return str(caught.value)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.name)
def test_every_example_is_valid(path: Path) -> None:
    kinds = {"GreenTrainingJob": GreenTrainingJob, "GridZone": GridZone}
    for document in yaml.safe_load_all(path.read_text()):
        kinds[document["kind"]].parse(document, path.name)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"tusk": {}}, "spec.tusk: unknown field; did you mean task?"),
        (
            {"schedule": {"whenever": True}},
            "spec.schedule.whenever: unknown field; there are completeWithin, deadline, ",
        ),
        (
            {"task": compress(steps=[{"prune": {"Ratio": 0.5}}])},
            "spec.task.compress.steps[0].prune.Ratio: unknown field; did you mean ratio?",
        ),
        ({"task": {}}, "spec.task: a task is exactly one of compress, federate and train"),
        ({"task": {"federate": {}}}, "spec.task.federate.model: is required"),
        (
            {"task": federate(strategy={"name": "FedBest"})},
            "spec.task.federate.strategy.name: 'FedBest': must be 'FedAvg', 'FedProx'",
        ),
        (
            {"task": federate(minSites=3)},
            "spec.task.federate.minSites: 3: minSites is more than there are sites",
        ),
        (
            {"task": federate(
                partition={"sites": 4}, minSites=4,
                strategy={"name": "Krum", "maliciousSites": 1},
            )},
            "spec.task.federate.minSites: 4: Krum needs minSites to be 2 * strategy.maliciousSites + 3",
        ),
        (
            {"task": federate(strategy={"name": "FedAvg", "maliciousSites": 1})},
            "spec.task.federate.strategy.maliciousSites: 1: maliciousSites belongs to Krum: set "
            "strategy.name to it or remove maliciousSites",
        ),
        (
            {"task": federate(strategy={"name": "FedTrimmedAvg"})},
            "spec.task.federate.minSites: FedTrimmedAvg would cut nothing: minSites times "
            "strategy.trimmedShare (0.2 where it is not given) must be 1 at least: raise one of them",
        ),
        (
            {"task": compress(), "resources": {"gpus": 8}},
            "spec.resources.gpus: 8: compress and federate use one GPU, more would stay idle: set "
            "resources.gpus to 1 or 0",
        ),
        (
            {"task": federate(
                partition=None,
                sites=[{"name": n, "claimName": n, "resources": {"gpus": 2}} for n in "ab"],
            )},
            "spec.task.federate.sites[0].resources.gpus: 2: a site trains on one GPU",
        ),
        (
            {"task": federate(roundTimeout="500ms")},
            "spec.task.federate.roundTimeout: '500ms': roundTimeout must be at least 1s",
        ),
        (
            {"task": federate(partition=None, sites=[{"name": n, "claimName": "c"} for n in "ab"])},
            "spec.task.federate.sites: two sites cannot share a claim",
        ),
        (
            {"task": federate(), "storage": None, "schedule": {"policy": "Immediately"}},
            "spec.storage: a federate job needs storage.claimName",
        ),
        ({"task": {"train": {"command": []}}}, "spec.task.train.command: should have at least 1 items"),
        (
            {"task": {"train": {"command": ["python", *["x" * 4000] * 8]}}},
            "spec.task: the task takes 32056 bytes as JSON, at most 30720; put long texts in a file",
        ),
        (
            {"schedule": {"completeWithin": "1d", "expectedDuration": "1h"}},
            "spec.schedule.completeWithin: '1d': is not a duration; write it like 24h",
        ),
        (
            {"schedule": {"completeWithin": "1h", "expectedDuration": "2h"}},
            "spec.schedule.completeWithin: '1h': is shorter than expectedDuration: the job cannot "
            "fit; allow more time or expect less",
        ),
        ({"schedule": {"completeWithin": "1h"}}, "spec.schedule.expectedDuration: the planner needs"),
        ({"schedule": {"expectedDuration": "1h"}}, "spec.schedule.completeWithin: without a deadline"),
        (
            {"schedule": {"completeWithin": "4h", "deadline": "2026-06-01T00:00:00Z",
                          "expectedDuration": "1h"}},
            "spec.schedule.deadline: '2026-06-01T00:00:00Z': completeWithin and deadline exclude",
        ),
        (
            {"schedule": {"deadline": "2026-06-01T00:00:00", "expectedDuration": "1h"}},
            "spec.schedule.deadline: '2026-06-01T00:00:00': must say its time zone, such as",
        ),
        ({"storage": None}, "spec.storage: an interruptible job needs storage.claimName"),
        (
            {"task": compress(), "storage": None, "schedule": {"policy": "Immediately"}},
            "spec.storage: a compress job needs storage.claimName",
        ),
        ({"resources": {"cpu": "two"}}, "spec.resources.cpu: 'two': is not a quantity above zero"),
        ({"resources": {"cpu": 0}}, "spec.resources.cpu: 0: is not a quantity above zero"),
        ({"resources": {"gpus": -1}}, "spec.resources.gpus: -1: should be greater than or equal to 0"),
        ({"resources": {"gpus": "two"}}, "spec.resources.gpus: 'two': must be a whole number"),
        ({"resources": "all"}, "spec.resources: 'all': must be an object with fields"),
        (
            {"pod": {"env": [{"name": "GREEN_X", "value": "1"}]}},
            "spec.pod.env: names that begin with GREEN_ are reserved",
        ),
        ({"task": compress(steps=[])}, "spec.task.compress.steps: should have at least 1 items"),
        (
            {"task": compress(steps=[{"prune": {"ratio": 2}}])},
            "spec.task.compress.steps[0].prune.ratio: 2: should be less than or equal to 0.95",
        ),
        (
            {"task": compress(steps=[{"quantize": {}}, {"finetune": {"epochs": 1}}])},
            "spec.task.compress.steps: quantize works on the finished model: make it the last step",
        ),
        (
            {"task": compress(exports=["Safetensors"])},
            "spec.task.compress.exports: a quantized model exists only as ONNX",
        ),
        (
            {"task": compress(model={"builtin": "digits-cnn"})},
            "spec.task.compress.model.trainEpochs: a builtin model has no weights of its own",
        ),
        (
            {"task": compress(model={"entrypoint": "no colon"})},
            "spec.task.compress.model.entrypoint: 'no colon': should match",
        ),
        (
            {"task": compress(model={"entrypoint": "a:b", "weights": "../other/model.safetensors"})},
            "spec.task.compress.model.weights: '../other/model.safetensors': should match",
        ),
        (
            {"task": compress(data={"builtin": "digits", "args": {"a": 1}})},
            "spec.task.compress.data.args: args are passed to an entrypoint",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_field_value_and_fix(spec: dict[str, object], says: str) -> None:
    text = problems(manifest(**spec))
    assert text.startswith("job.yaml: ")
    assert says in text


def test_all_problems_are_named_at_once() -> None:
    text = problems(manifest(tusk={}, retries=-1))
    assert len(text.splitlines()) == 2


def test_quantities_and_durations_are_read_as_people_write_them() -> None:
    job = GreenTrainingJob.parse(manifest(resources={"cpu": "1500m", "memory": "4Gi"}), "x")
    assert job.spec.resources.cores == 1.5
    assert parse_duration("1h30m") == timedelta(minutes=90)
    assert parse_duration("500ms") == timedelta(milliseconds=500)


@given(st.integers(1, 10**10))
def test_durations_survive_a_round_trip(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


# The same rule stands in CEL and in Python. Both are asked about the same objects here; the
# evaluator is cel-python's, the real API server's follows in the cluster tests.

_CEL = celpy.Environment()
_RULED: list[type[Model]] = [
    Schedule, Pod, JobSpec, Task, Step, Compress, Strategy, Federate, Site, OriginalModel, Data, Source,
]  # fmt: skip


def cel_says(rule: str, wire: dict[str, Any]) -> bool:
    program = _CEL.program(_CEL.compile(rule))
    return bool(program.evaluate({"self": json_to_cel(wire)}))


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


durations = st.sampled_from(["1s", "500ms", "90m", "1h30m", "24h"])
nets = optional(
    builtin=st.just("digits-cnn"),
    entrypoint=st.just("a.b:c"),
    args=st.just({"x": 1}),
    weights=st.just("w.safetensors"),
    trainEpochs=st.just(1),
)
steps = optional(
    prune=st.just({"ratio": 0.5}),
    distill=st.just({"epochs": 1}),
    finetune=st.just({"epochs": 1}),
    quantize=st.just({}),
)
one_step = st.sampled_from(
    [{"prune": {"ratio": 0.5}}, {"finetune": {"epochs": 1}}, {"quantize": {}}]
)
compresses = st.fixed_dictionaries(
    {
        "model": st.just(COMPRESS["model"]),
        "data": st.just(COMPRESS["data"]),
        "steps": st.lists(one_step, min_size=1, max_size=3),
        "exports": st.lists(st.sampled_from(["Safetensors", "Onnx"]), min_size=1, max_size=2),
    }
)
sites = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from("ab"), "claimName": st.sampled_from(["data-a", "data-b"])}
    ),
    min_size=1,
    max_size=3,
)


def _misfits(strategy: dict[str, Any]) -> bool:
    """Its own rules refuse it."""
    built = _without_rules(Strategy).model_validate(strategy)
    return not all(rule.holds(built) for rule in Strategy.rules if rule.holds is not None)


strategies = st.fixed_dictionaries(
    {"name": st.sampled_from(["FedAvg", "FedProx", "FedAdam", "FedTrimmedAvg", "Krum"])},
    optional={
        "maliciousSites": st.integers(0, 3),
        "trimmedShare": st.sampled_from([0, 0.1, 0.2, 0.25, 1 / 3, 0.45]),
        "proximalMu": st.just(0),
        "adamLearningRate": st.just(1),
    },
)
federates = st.fixed_dictionaries(
    {
        "model": st.just({"builtin": "digits-cnn"}),
        "data": st.just({"builtin": "digits"}),
        "rounds": st.just(1),
        "minSites": st.integers(1, 8),
        "roundTimeout": durations,
        "strategy": strategies.filter(lambda s: not _misfits(s)),
        "exports": st.lists(st.sampled_from(["Safetensors", "Onnx"]), min_size=1, max_size=2),
    },
    optional={"sites": sites, "partition": st.integers(2, 3).map(lambda n: {"sites": n})},
)
TASKS = [{"compress": COMPRESS}, {"federate": FEDERATE}, {"train": {"command": ["x"]}}]
OBJECTS: dict[type[Model], st.SearchStrategy[dict[str, Any]]] = {
    Schedule: optional(
        completeWithin=durations,
        deadline=st.just("2026-06-01T00:00:00Z"),
        expectedDuration=durations,
    ).flatmap(
        lambda s: st.sampled_from(["Immediately", "LowestEmissions"]).map(
            lambda policy: s | {"policy": policy}
        )
    ),
    Pod: st.lists(st.sampled_from(["GREEN_A", "PATH"]), max_size=2).map(
        lambda names: {"env": [{"name": n} for n in names]}
    ),
    JobSpec: st.tuples(
        st.sampled_from(TASKS), st.booleans(), st.booleans(), st.integers(0, 3)
    ).map(
        lambda t: {
            "task": t[0],
            "schedule": {"policy": "Immediately", "interruptible": t[1]},
            "resources": {"gpus": t[3]},
        }
        | ({"storage": {"claimName": "c"}} if t[2] else {})
    ),
    Task: optional(
        compress=st.just(COMPRESS), federate=st.just(FEDERATE), train=st.just({"command": ["x"]})
    ),
    Strategy: strategies,
    Federate: federates,
    Site: st.fixed_dictionaries(
        {"name": st.sampled_from(["a", "server"]), "claimName": st.just("c")},
        optional={"resources": st.integers(0, 3).map(lambda n: {"gpus": n})},
    ),
    Step: steps,
    Compress: compresses,
    OriginalModel: nets,
    Data: optional(
        builtin=st.just("digits"), entrypoint=st.just("a:b"), args=st.just({"x": 1})
    ),
    Source: optional(
        ukNeso=st.sampled_from([{}, {"region": 13}]),
        electricityMaps=st.just({"zone": "DE", "secretKeyRef": {"name": "a", "key": "b"}}),
        static=st.just({"gramsPerKilowattHour": 1, "signal": "AverageDirect"}),
        trace=st.just({"configMapKeyRef": {"name": "a", "key": "b"}, "signal": "AverageDirect"}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("model", _RULED, ids=lambda m: m.__name__)
@given(data=st.data())
def test_cel_and_python_agree(model: type[Model], data: st.DataObject) -> None:
    wire = data.draw(OBJECTS[model])
    built = _without_rules(model).model_validate(wire)
    for rule in model.rules:
        if rule.holds is not None:
            assert cel_says(rule.cel, wire) == rule.holds(built), rule.message


def _without_rules(model: type[Model]) -> type[Model]:
    """The same fields, whose parts keep their own rules, without this model's."""
    return type(model.__name__, (model,), {"rules": ()})


def source_problems(source: dict[str, object]) -> str:
    document = {
        "apiVersion": "greentraining.io/v1alpha1",
        "kind": "GridZone",
        "metadata": {"name": "gb"},
        "spec": {"sources": [source]},
    }
    with pytest.raises(InvalidManifestError) as caught:
        GridZone.parse(document, "zone.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({}, "spec.sources[0]: a source is exactly one of ukNeso, electricityMaps, trace and static"),
        (
            {"ukNeso": {}, "electricityMaps": {"zone": "GB", "secretKeyRef": {"name": "a", "key": "b"}}},
            "spec.sources[0]: a source is exactly one of",
        ),
        ({"ukNeso": {"region": 18}}, "spec.sources[0].ukNeso.region: 18: should be less than or equal to 17"),
        ({"ukNeso": {"url": "http://evil"}}, "spec.sources[0].ukNeso.url: unknown field"),
        (
            {"electricityMaps": {"zone": "GB&x=1", "secretKeyRef": {"name": "a", "key": "b"}}},
            "spec.sources[0].electricityMaps.zone: 'GB&x=1': should match",
        ),
        (
            {"electricityMaps": {"zone": "GB", "secretKeyRef": {"name": "../pods", "key": "b"}}},
            "secretKeyRef.name: '../pods': should match",
        ),
        (
            {
                "electricityMaps": {
                    "zone": "GB",
                    "secretKeyRef": {"name": "a", "key": "b", "namespace": "team"},
                }
            },
            "secretKeyRef.namespace: unknown field",
        ),
        ({"electricityMaps": {"zone": "GB"}}, "electricityMaps.secretKeyRef: is required"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_source_is_named(source: dict[str, object], says: str) -> None:
    assert says in source_problems(source)


@pytest.mark.parametrize(
    "deadline", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z"]
)
def test_a_time_that_cannot_be_computed_with_is_refused(deadline: str) -> None:
    schedule = {"deadline": deadline, "expectedDuration": "1h"}
    text = problems(manifest(schedule=schedule))
    assert "spec.schedule.deadline" in text
    assert "years 2000 to 2199" in text


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ("10.0.0.0/40", "'10.0.0.0/40'"),
        ("10.0.0.7/8", "has host bits set; write it like 10.0.0.0/8"),
    ],
)
def test_a_network_that_is_none_is_refused_at_the_start(network: str, says: str) -> None:
    with pytest.raises(InvalidManifestError) as caught:
        OperatorConfig.parse({"podNetworks": [network]}, "config.yaml")
    assert "podNetworks[0]" in str(caught.value)
    assert says in str(caught.value)
