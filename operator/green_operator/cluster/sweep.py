"""The slow resync: everything is listed, what is gone is swept, what is new is looked at.

Watches are the fast way to learn of changes, not the only one: after a re-list kopf reports no
deletions, and a watch may die in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from green_operator.cluster.api import JOBS, PODS, RUNS, ZONES, Api, Object
from green_operator.cluster.index import Index, Key
from green_operator.cluster.namespaces import EVERYWHERE, Namespaces
from green_operator.cluster.zones import Zones
from green_operator.objects.names import JOB_LABEL


class Sweeper:
    """Lists what the watches should have shown."""

    def __init__(self, api: Api, index: Index, zones: Zones, namespaces: Namespaces) -> None:
        self._api = api
        self._index = index
        self._zones = zones
        self._namespaces = namespaces

    async def sweep(self, touch: Callable[[Key], None]) -> None:
        """Bring the index in line with the server and touch the jobs that this changes.

        What is known of a namespace that is away stays.

        Raises:
            ApiError: a list could not be had; what was swept so far is right.

        """
        await self._sweep_zones()
        namespaces = await self._namespaces.look()
        # Jobs first: else a run that went with its job would be made again.
        await self._sweep_jobs(namespaces, touch)
        await self._sweep_runs(namespaces, touch)
        await self._sweep_pods(namespaces, touch)

    async def _sweep_zones(self) -> None:
        before, found = self._zones.names, set()
        async for body in self._api.list(ZONES):
            found.add(body["metadata"]["name"])
            self._zones.put(body)
        for name in before - found:
            self._zones.drop(name)

    async def _sweep_jobs(self, namespaces: Sequence[str], touch: Callable[[Key], None]) -> None:
        before, found = {key: r.uid for key, r in self._index.jobs.items()}, set()
        for namespace in namespaces:
            async for uid, body in self._api.list_news(JOBS, namespace, "", self._index.knows_job):
                found.add(uid)
                _note(self._index.put_job, body, touch)
        for key, uid in before.items():
            if uid not in found and _is_listed(key, namespaces) and self._index.drop_job(key, uid):
                touch(key)

    async def _sweep_runs(self, namespaces: Sequence[str], touch: Callable[[Key], None]) -> None:
        before, found = list(self._index.all_runs()), set()
        for namespace in namespaces:
            known = self._index.knows_run
            async for uid, body in self._api.list_news(RUNS, namespace, JOB_LABEL, known):
                found.add(uid)
                _note(self._index.put_run, body, touch)
        for key, run in before:
            if run.uid not in found and _is_listed(key, namespaces):
                self._index.drop_run(key, run.uid)
                touch(key)

    async def _sweep_pods(self, namespaces: Sequence[str], touch: Callable[[Key], None]) -> None:
        before, found = list(self._index.all_pods()), set()
        for namespace in namespaces:
            known = self._index.knows_pod
            async for uid, body in self._api.list_news(PODS, namespace, JOB_LABEL, known):
                found.add(uid)
                _note(self._index.put_pod, body, touch)
        for key, pod in before:
            if pod.uid not in found and not pod.gone and _is_listed(key, namespaces):
                self._index.pod_gone(key, pod.uid)
                touch(key)


def _is_listed(key: Key, namespaces: Sequence[str]) -> bool:
    return EVERYWHERE in namespaces or key[0] in namespaces


def _note(
    put: Callable[[Object], tuple[Key, bool]], body: Object | None, touch: Callable[[Key], None]
) -> None:
    if body is not None:
        key, is_news = put(body)
        if is_news:
            touch(key)
