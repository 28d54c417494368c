"""What a replica keeps of the cluster's objects."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from green_api.config import OperatorConfig
from green_api.units import Power
from green_operator.account.power import DEFAULT_POWER
from green_operator.cluster.index import Index
from green_operator.cluster.pods import Heard, PodAsker
from green_operator.objects.observed import pod_record
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


def pod(uid: str, owner: str | None, **spec: Any) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "namespace": "team-a", "name": uid, "uid": uid, "resourceVersion": "7",
        "labels": {"greentraining.io/job": "shrink"}, "creationTimestamp": "2026-06-01T00:00:00Z",
    }  # fmt: skip
    if owner is not None:
        meta["ownerReferences"] = [{"uid": owner, "controller": True}]
    status = {"phase": "Running", "podIP": "10.0.0.9"}
    return {"metadata": meta, "spec": spec, "status": status}


def test_a_pod_that_only_has_our_label_is_none_of_ours() -> None:
    index = Index()
    for each in (pod("ours", "run-uid"), pod("bare", None), pod("foreign", "another-run")):
        index.put_pod(each)
    assert [p.uid for p in index.pods(KEY, {"run-uid"})] == ["ours"]


def test_a_pod_on_its_hosts_network_is_not_asked() -> None:
    async def ask() -> Heard | None:
        asker = PodAsker(OperatorConfig().pod_networks, timedelta(seconds=10))
        record = pod_record(pod("ours", "run-uid", hostNetwork=True))
        await asker.ask(record, 0, Power(100), record.created)
        return asker.heard("ours")

    heard = asyncio.run(ask())
    assert heard is not None
    assert heard.problem == "the pod is on its host's network and is not asked"
    assert heard.reply is None


def test_a_job_that_only_claims_our_owner_is_no_run() -> None:
    index = Index()
    run = run_job(stored(), 1, OperatorConfig(), DEFAULT_POWER)
    run["metadata"] |= {"uid": "run-uid", "resourceVersion": "7"}
    index.put_run(run)
    foreign = run_job(stored(), 2, OperatorConfig(), DEFAULT_POWER)
    foreign["metadata"] |= {"uid": "foreign", "resourceVersion": "8", "name": "something-else"}
    index.put_run(foreign)
    assert [r.uid for r in index.runs(KEY, UID)] == ["run-uid"]
