"""What a replica keeps of the cluster's objects."""

from __future__ import annotations

from typing import Any

from green_api.config import OperatorConfig
from green_operator.account.power import DEFAULT_POWER
from green_operator.cluster.index import Index
from green_operator.objects.run import run_job

from tests.unit.test_objects import UID, stored

KEY = ("team-a", "shrink")


def body(**meta: Any) -> dict[str, Any]:
    named = {"namespace": "team-a", "name": "shrink", "uid": UID, "resourceVersion": "7"}
    return {"metadata": {**named, **meta}, "spec": {"suspend": False}}


def test_what_authors_hang_on_a_job_takes_no_memory() -> None:
    index = Index()
    index.put_job(body(annotations={"note": "x" * 250_000}, labels={"a": "b"}, generation=3))
    record = index.jobs[KEY]
    assert record.unpack() == body(generation=3)
    assert len(record.packed) < 500


def test_a_job_that_only_claims_our_owner_is_no_run() -> None:
    index = Index()
    run = run_job(stored(), 1, OperatorConfig(), DEFAULT_POWER)
    run["metadata"] |= {"uid": "run-uid", "resourceVersion": "7"}
    index.put_run(run)
    foreign = run_job(stored(), 2, OperatorConfig(), DEFAULT_POWER)
    foreign["metadata"] |= {"uid": "foreign", "resourceVersion": "8", "name": "something-else"}
    index.put_run(foreign)
    assert [r.uid for r in index.runs(KEY, UID)] == ["run-uid"]
