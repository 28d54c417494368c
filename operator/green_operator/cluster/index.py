"""What is known of the cluster's objects: slim records, and the jobs as compressed text.

A job's object is kept as compressed JSON (a kilobyte instead of thirty in memory) and read again
when it is worked on; what the planner and the metrics need of all jobs at once stands beside it.
Its status is a line of its own, for the two are read by different models.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from green_operator.metrics import Standing
from green_operator.objects.names import JOB_LABEL
from green_operator.objects.observed import PodRecord, RunRecord, pod_record, run_record

Key = tuple[str, str]
"""A job's namespace and name."""

# Authors and tools write here what they like, up to a quarter of a megabyte.
_NOT_READ: Final = frozenset({"managedFields", "annotations", "labels"})


@dataclass(slots=True)
class JobRecord:
    """A GreenTrainingJob as it was last seen."""

    uid: str
    resource_version: str
    packed: bytes
    standing: Standing | None = None
    """How the metrics count it; None until it was reconciled."""

    def lines(self) -> tuple[bytes, bytes]:
        """The object without its status, and the status (empty if there is none), as JSON."""
        job, _, status = zlib.decompress(self.packed).partition(b"\n")
        return job, status

    def unpack(self) -> dict[str, Any]:
        """The object, without what nothing here depends on."""
        job, status = self.lines()
        unpacked: dict[str, Any] = json.loads(job)
        return unpacked | ({"status": json.loads(status)} if status else {})


class Index:
    """Jobs with their runs and pods, as the watches and the sweeps bring them."""

    def __init__(self) -> None:
        self.jobs: dict[Key, JobRecord] = {}
        self._runs: dict[Key, dict[str, RunRecord]] = {}
        self._pods: dict[Key, dict[str, PodRecord]] = {}
        self.accounts = False
        """Whether this replica accounts: else pods that are deleted are forgotten at once."""

    def knows_job(self, meta: Mapping[str, Any]) -> bool:
        """Whether the job with these metadata is known in this version, or a newer one."""
        return _is_known(meta, self.jobs.get((meta["namespace"], meta["name"])))

    def knows_run(self, meta: Mapping[str, Any]) -> bool:
        """The same of a run's Job."""
        return _is_known(meta, self._runs.get(_job_of(meta), {}).get(meta["name"]))

    def knows_pod(self, meta: Mapping[str, Any]) -> bool:
        """The same of a pod."""
        return _is_known(meta, self._pods.get(_job_of(meta), {}).get(meta["uid"]))

    def put_job(self, body: Mapping[str, Any]) -> tuple[Key, bool]:
        """A job as a watch, a list or an answer shows it; whether that is news.

        What this process has just written comes back by the watch, and is none.
        """
        meta = body["metadata"]
        key = (meta["namespace"], meta["name"])
        if self.knows_job(meta):
            return key, False
        known = self.jobs.get(key)
        slim = {k: v for k, v in body.items() if k != "status"}
        slim["metadata"] = {k: v for k, v in meta.items() if k not in _NOT_READ}
        status = body.get("status")
        lines = f"{_json(slim)}\n{_json(status) if status else ''}"
        packed = zlib.compress(lines.encode(), 1)
        is_same = known is not None and known.uid == meta["uid"]
        standing = known.standing if known is not None and is_same else None
        self.jobs[key] = JobRecord(meta["uid"], meta["resourceVersion"], packed, standing)
        return key, True

    def put_run(self, body: Mapping[str, Any]) -> tuple[Key, bool]:
        """A run's Job; whether that is news."""
        key = _job_of(body["metadata"])
        if self.knows_run(body["metadata"]):
            return key, False
        record = run_record(body)
        self._runs.setdefault(key, {})[record.name] = record
        return key, True

    def put_pod(self, body: Mapping[str, Any]) -> tuple[Key, bool]:
        """A pod of a run; whether that is news."""
        key = _job_of(body["metadata"])
        if self.knows_pod(body["metadata"]):
            return key, False
        record = pod_record(body)
        pods = self._pods.setdefault(key, {})
        known = pods.get(record.uid)
        pods[record.uid] = replace(record, gone=known.gone) if known is not None else record
        return key, True

    def drop_job(self, key: Key, uid: str) -> bool:
        """The job is gone; whether it was known."""
        known = self.jobs.get(key)
        if known is None or known.uid != uid:
            return False
        del self.jobs[key]
        return True

    def drop_run(self, key: Key, uid: str) -> None:
        """A run's Job is gone."""
        self._drop(self._runs, key, uid)

    def pod_gone(self, key: Key, uid: str) -> None:
        """A pod is deleted; its record stays until it is accounted for (``drop_pod``)."""
        pod = self._pods.get(key, {}).get(uid)
        if pod is None:
            return
        is_ours = any(run.uid == pod.owner_uid for run in self._runs.get(key, {}).values())
        if self.accounts and is_ours and pod.started is not None:
            self._pods[key][uid] = replace(pod, gone=True)
        else:
            self.drop_pod(key, uid)

    def drop_pod(self, key: Key, uid: str) -> None:
        """A pod that is gone is accounted for."""
        self._drop(self._pods, key, uid)

    def drop_children(self, key: Key) -> list[str]:
        """The job is gone, and what it owned goes; the UIDs of its pods."""
        self._runs.pop(key, None)
        return list(self._pods.pop(key, {}))

    @staticmethod
    def _drop(store: dict[Key, dict[str, Any]], key: Key, uid: str) -> None:
        kept = {name: r for name, r in store.get(key, {}).items() if r.uid != uid}
        if kept:
            store[key] = kept
        else:
            store.pop(key, None)

    def runs(self, key: Key, owner_uid: str) -> list[RunRecord]:
        """The runs that the job with this UID controls, oldest first; ours by name, too."""
        found = [r for r in self._runs.get(key, {}).values() if r.is_run_of(key[1], owner_uid)]
        return sorted(found, key=lambda run: run.number)

    def pods(
        self, key: Key, owner_uids: Container[str], uids: Container[str] = ()
    ) -> list[PodRecord]:
        """The pods that these Jobs control, oldest first; a label alone makes no pod ours.

        Args:
            key: the job's.
            owner_uids: of the Jobs.
            uids: of pods that are known to be ours, although their Job may be gone.

        """
        found = [
            p
            for p in self._pods.get(key, {}).values()
            if p.owner_uid in owner_uids or p.uid in uids
        ]
        return sorted(found, key=lambda pod: (pod.created, pod.uid))

    def all_runs(self) -> Iterator[tuple[Key, RunRecord]]:
        """Every run's Job that is known."""
        return ((key, run) for key, runs in self._runs.items() for run in list(runs.values()))

    def all_pods(self) -> Iterator[tuple[Key, PodRecord]]:
        """Every pod that is known."""
        return ((key, pod) for key, pods in self._pods.items() for pod in list(pods.values()))

    def standings(self) -> Iterator[Standing]:
        """How the metrics count the jobs."""
        return (r.standing for r in self.jobs.values() if r.standing is not None)


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _job_of(meta: Mapping[str, Any]) -> Key:
    return meta["namespace"], (meta.get("labels") or {}).get(JOB_LABEL, "")


def _is_known(meta: Mapping[str, Any], known: JobRecord | RunRecord | PodRecord | None) -> bool:
    return (
        known is not None
        and known.uid == meta["uid"]
        and not _is_newer(meta["resourceVersion"], known.resource_version)
    )


def _is_newer(version: str, known: str) -> bool:
    """Whether an object is newer than the one that is known.

    Resource versions are opaque by contract but compare as numbers in every etcd-backed server
    (declared so since Kubernetes 1.35); any other that differs is taken as newer.
    """
    if version.isdigit() and known.isdigit():
        return int(version) > int(known)
    return version != known
