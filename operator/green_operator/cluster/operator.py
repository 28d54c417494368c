"""The operator: what every replica does, and what only the leader does.

Every replica watches, so that a new leader knows the cluster at once; the leader plans,
reconciles and writes. A task that ends, ends the process: a part that died in silence is worse
than a restart.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from green_api.config import OperatorConfig
from kubernetes.aio.client import Configuration

from green_operator.cluster.api import ZONES, Api, ApiError
from green_operator.cluster.claims import Claims
from green_operator.cluster.elector import Elector, Fence
from green_operator.cluster.fleet import FleetPlanner
from green_operator.cluster.index import Index, Key
from green_operator.cluster.namespaces import Namespaces
from green_operator.cluster.pods import PodAsker
from green_operator.cluster.queue import WorkQueue
from green_operator.cluster.reconciler import Reconciler, utc_now
from green_operator.cluster.recorder import Recorder
from green_operator.cluster.sweep import Sweeper
from green_operator.cluster.zones import News, Zones
from green_operator.feeds.client import Client, open_session
from green_operator.feeds.providers import Endpoints
from green_operator.metrics import Metrics, OperatorMetrics

_logger = logging.getLogger(__name__)

_WEDGED_SECONDS: Final = 300.0
"""With work that is due or begun, some worker finishes some job within this time."""
_CRD_WAIT_SECONDS: Final = 2.0
_SWEEP_RETRY_SECONDS: Final = 5.0
_HEARING_SECONDS: Final = 1.0
_FIRST_REFRESH_SECONDS: Final = 10.0
# So many requests of a renewal fit before its deadline.
_LEASE_TIMEOUT_SHARE: Final = 3.0


class Operator:
    """One replica.

    Args:
        configuration: the API server and the credentials.
        config: the administrator's configuration.
        namespace: the operator's own.
        identity: names this replica; unique.

    """

    def __init__(
        self, configuration: Configuration, config: OperatorConfig, namespace: str, identity: str
    ) -> None:
        election = config.leader_election
        self._config = config
        self._fence = Fence(election.renew_deadline.total_seconds())
        self.metrics = Metrics(config.jobs_with_metrics)
        self.own_metrics = OperatorMetrics(self.metrics.registry)
        self._lease_api = Api(
            configuration, self.own_metrics, None, lambda: None,
            timeout=election.renew_deadline.total_seconds() / _LEASE_TIMEOUT_SHARE, attempts=1,
        )  # fmt: skip
        self._api = Api(configuration, self.own_metrics, config.requests, self._fence.check)
        self._elector = Elector(self._lease_api, self._fence, namespace, identity, election)
        self._elected = asyncio.Event()
        urls = config.source_urls
        defaults = Endpoints()
        endpoints = Endpoints(
            urls.uk_neso or defaults.uk_neso, urls.electricity_maps or defaults.electricity_maps
        )
        self._session = open_session(endpoints.public_hosts)
        self.index = Index()
        self.queue: WorkQueue[Key] = WorkQueue()
        self.zones = Zones(
            self._api, namespace, Client(self._session), endpoints,
            (self.metrics, self.own_metrics), utc_now,
        )  # fmt: skip
        planner = FleetPlanner(config.outage_margin, self.zones.outlooks, utc_now, self.own_metrics)
        self._planner = planner
        self._asker = PodAsker(config.pod_networks, 2 * config.progress_interval)
        self._reconciler = Reconciler(
            api=self._api, config=config, index=self.index, queue=self.queue, planner=planner,
            zones=self.zones, asker=self._asker, claims=Claims(self._api),
            recorder=Recorder(self._api, identity), metrics=self.metrics,
        )  # fmt: skip
        self.namespaces = Namespaces(self._api, config.watch_namespaces, self.own_metrics)
        self._sweeper = Sweeper(self._api, self.index, self.zones, self.namespaces)
        self._defined = False
        self._swept = False
        self._finished = time.monotonic()

    async def run(
        self, watch: Callable[[], Awaitable[None]], serve: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Run until the watch ends (on SIGTERM) or a part fails.

        Args:
            watch: fills the index and touches keys; it returns when the process is to end.
            serve: answers probes and scrapes.

        """
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(serve(), name="http")]
                await self._wait_for_definitions()
                tasks += [
                    group.create_task(self._elector.run(self._elected.set), name="elector"),
                    group.create_task(self._lead(), name="leader"),
                    group.create_task(self._look_at_namespaces(), name="namespaces"),
                ]
                await watch()
                for task in tasks:
                    task.cancel()
        finally:
            await self._close()

    def touch(self, key: Key) -> None:
        """Something about the job may be different; a standby only remembers it."""
        if self._swept:
            self.queue.add(key)

    def is_alive(self) -> bool:
        """The process does what it is for, as far as that is up to it."""
        now = time.monotonic()
        if self.queue.is_idle:
            self._finished = now
        return now - self._finished < _WEDGED_SECONDS

    def is_ready(self) -> bool:
        """A standby could take over; a leader has seen the whole cluster."""
        is_able = self._swept or not self._elected.is_set()
        return self._defined and self._elector.hears and is_able

    def collect(self) -> None:
        """Bring the metrics that are counted when asked for up to now."""
        self.metrics.count_jobs(self.index.standings())
        self.own_metrics.queue_oldest.set(self.queue.oldest_seconds())
        self.own_metrics.queue_depth.set(len(self.queue))
        self.own_metrics.leader.set(1 if self._fence.leads else 0)

    async def _wait_for_definitions(self) -> None:
        """Wait until the CRDs are served and some namespace is there; nothing is to do before."""
        while True:
            try:
                await self._api.probe(ZONES)
                if await self.namespaces.look():
                    self._defined = True
                    return
                _logger.warning("waiting for any of the namespaces of watchNamespaces")
            except ApiError as error:
                _logger.warning("waiting for the API server and the CRDs: %s", error)
            await asyncio.sleep(_CRD_WAIT_SECONDS)

    async def _look_at_namespaces(self) -> None:
        """On a standby, whose watches too have to end where one is away; a leader sweeps."""
        while not self._elected.is_set():
            await asyncio.sleep(self._config.resync_interval.total_seconds())
            with suppress(ApiError):
                await self.namespaces.look()

    async def _lead(self) -> None:
        await self._hear()
        await self._elected.wait()
        self.index.accounts = True
        await self._sweep()
        refreshed = asyncio.ensure_future(self.zones.refresh())
        # Providers that do not answer must not keep jobs from their start.
        await asyncio.wait([refreshed], timeout=_FIRST_REFRESH_SECONDS)
        if not refreshed.done():
            refreshed.cancel()
        self._swept = True
        for key in list(self.index.jobs):
            self.queue.add(key)
        work: list[Coroutine[Any, Any, None]] = [
            self.zones.run(self._replan),
            self._planner.run(),
            self._resync(),
            *(self._work() for _ in range(self._config.requests.concurrency)),
        ]
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)

    async def _replan(self, news: News) -> None:
        """The zones have changed: jobs whose plan that changes are looked at."""
        if news is News.OUTLOOKS:
            for key in await self._planner.replan():
                self.queue.add(key)
            return
        for key, record in self.index.jobs.items():
            if record.standing is None or not record.standing.state.is_final:
                self.queue.add(key)

    async def _hear(self) -> None:
        """Wait while watches bring their first lists: what is known need not be asked for twice."""
        known = -1
        while known != len(self.index.jobs):
            known = len(self.index.jobs)
            await asyncio.sleep(_HEARING_SECONDS)

    async def _sweep(self) -> None:
        while True:
            try:
                await self._sweeper.sweep(self.touch)
            except ApiError as error:
                _logger.warning("the cluster could not be listed: %s", error)
                await asyncio.sleep(_SWEEP_RETRY_SECONDS)
            else:
                return

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(self._config.resync_interval.total_seconds())
            await self._sweep()
            self._asker.keep_only(pod.uid for _, pod in self.index.all_pods())

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            try:
                await self._work_on(key)
            finally:
                self.queue.done(key)
                self._finished = time.monotonic()

    async def _work_on(self, key: Key) -> None:
        try:
            with self.own_metrics.reconcile_seconds.time():
                await self._reconciler.reconcile(key)
        except ApiError as error:
            # Somebody was faster (409), or it is gone (404): the next look sees it.
            reason = {409: "Conflict", 404: "NotFound", 0: "NoAnswer"}.get(error.status, "Refused")
            self.own_metrics.reconcile_errors.labels(reason).inc()
            _logger.info("%s/%s: %s; it is tried again", *key, error)
            self.queue.failed(key)
        except Exception:
            self.own_metrics.reconcile_errors.labels("Defect").inc()
            _logger.exception("%s/%s: a defect of the operator; it is tried again", *key)
            self.queue.failed(key)
        else:
            self.queue.succeeded(key)
            self.own_metrics.last_reconcile.set_to_current_time()

    async def _close(self) -> None:
        try:
            if self._fence.leads:
                await self._elector.release()
        except ApiError as error:
            _logger.info("the lease is left to run out: %s", error)
        for closing in (self._asker, self._api, self._lease_api, self._session):
            await closing.close()
