"""The grid zones of the cluster: their sources polled once for all jobs, their history kept."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any, Final

from green_api import API_VERSION
from green_api.base import Signal
from green_api.job import GreenTrainingJob
from green_api.problems import describe_problems
from green_api.units import Intensity
from green_api.zone import GridZone, ZoneStatus
from pydantic import ValidationError

from green_operator.cluster.api import CONFIG_MAPS, NODES, SECRETS, ZONES, Api, ApiError
from green_operator.feeds.client import Client
from green_operator.feeds.providers import Endpoints
from green_operator.feeds.zone_feeds import ZoneFeeds
from green_operator.metrics import Metrics, OperatorMetrics
from green_operator.objects.names import MANAGED_BY
from green_operator.objects.zone_status import zone_status
from green_operator.plan.types import Outlook
from green_operator.sources.history import EMPTY, History, pack, read_history
from green_operator.sources.zones import Resolution

_logger = logging.getLogger(__name__)

_PAST: Final = timedelta(days=28)
_AHEAD: Final = timedelta(days=9)
_SHORTEST_SLEEP: Final = timedelta(seconds=1)
_LONGEST_SLEEP: Final = timedelta(seconds=60)
_HISTORY_EVERY: Final = timedelta(hours=1)
_NODE_FRESH: Final = timedelta(minutes=10)
_HISTORY_KEY: Final = "history"
_NOTHING: Final = Resolution(None, None, "there is no GridZone of that name")
_NO_ZONE: Final = Resolution(None, None, "no GridZone is the default one, and the job names none")


def history_name(zone: str) -> str:
    """The ConfigMap that keeps what was observed of a zone."""
    return f"green-training-history-{zone}"


class News(IntEnum):
    """What a refresh of the zones has changed, the more the higher."""

    NONE = 0
    OUTLOOKS = 1
    """What is known ahead of some zone."""
    PLACES = 2
    """Which zones there are, or which is the default one: where jobs may run."""


class OperatorReferences:
    """ConfigMaps and Secrets that zones refer to: in the operator's namespace, nowhere else."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace

    async def read_config_map(self, name: str, key: str) -> bytes | None:
        """One key's text or bytes."""
        body = await self._get(CONFIG_MAPS, name)
        if key in (body.get("data") or {}):
            return str(body["data"][key]).encode()
        packed = (body.get("binaryData") or {}).get(key)
        return None if packed is None else base64.b64decode(packed)

    async def read_secret(self, name: str, key: str) -> str | None:
        """One key's text."""
        packed = ((await self._get(SECRETS, name)).get("data") or {}).get(key)
        return None if packed is None else base64.b64decode(packed).decode().strip()

    async def _get(self, resource: Any, name: str) -> dict[str, Any]:  # noqa: ANN401
        try:
            return await self._api.get(resource, self._namespace, name) or {}
        except ApiError as error:
            raise OSError(f"the API server does not give it: {error.status}") from None


class Zones:
    """What is known of the zones, for planning and accounting."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        client: Client,
        endpoints: Endpoints,
        metrics: tuple[Metrics, OperatorMetrics],
        clock: Callable[[], datetime],
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._feeds = ZoneFeeds(client, OperatorReferences(api, namespace), endpoints)
        self._metrics, self._operator_metrics = metrics
        self._clock = clock
        self._zones: dict[str, GridZone] = {}
        self._unreadable: dict[str, str] = {}
        self._generations: dict[str, int] = {}
        self._resolutions: dict[str, Resolution] = {}
        self._outlooks: dict[str, Outlook] = {}
        self._failures: dict[str, int] = {}
        self._stored: dict[str, tuple[datetime, bytes]] = {}
        self._nodes: dict[str, tuple[datetime, Mapping[str, str] | None]] = {}
        self._places: tuple[frozenset[str], list[str]] = (frozenset(), [])
        self._shown: dict[str, ZoneStatus | None] = {}
        self._written: dict[str, ZoneStatus] = {}
        self._changed = asyncio.Event()

    def put(self, body: Mapping[str, Any]) -> None:
        """A zone as a watch or a list shows it.

        One that this version cannot read is told; what was read of it before goes on to count, for
        without it all its jobs would start.
        """
        name = body["metadata"]["name"]
        slim = {k: v for k, v in body.items() if k != "status"}
        self._shown[name] = _status_of(body)
        self._generations[name] = body["metadata"].get("generation", 0)
        try:
            zone = GridZone.model_validate(slim)
        except ValidationError as error:
            problem = "cannot be read by this version: "
            problem += "; ".join(describe_problems(error, GridZone))
            if self._unreadable.get(name) != problem:
                _logger.error("zone %s %s", name, problem)
                self._unreadable[name] = problem
                self._changed.set()
            return
        if self._unreadable.pop(name, None) is not None:
            self._changed.set()
        known = self._zones.get(name)
        if known is None or known.spec != zone.spec:
            self._zones[name] = zone
            self._changed.set()

    def drop(self, name: str) -> None:
        """A zone is gone."""
        if name in self.names:
            for known in (
                self._zones, self._unreadable, self._generations, self._stored, self._shown,
                self._written,
            ):  # fmt: skip
                known.pop(name, None)
            self._changed.set()

    @property
    def names(self) -> frozenset[str]:
        """All zones that are known."""
        return frozenset(self._zones) | self._unreadable.keys()

    async def run(self, on_change: Callable[[News], Awaitable[None]]) -> None:
        """Poll the sources when they are due; tell when what is planned by has changed."""
        while True:
            if news := await self.refresh():
                await on_change(news)
            await self._tell()
            await self._keep_history()
            due = self._feeds.next_poll()
            now = self._clock()
            sleep = min(max((due or now + _LONGEST_SLEEP) - now, _SHORTEST_SLEEP), _LONGEST_SLEEP)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), sleep.total_seconds())

    async def refresh(self) -> News:
        """Bring everything up to now; what of it jobs are planned by."""
        if self._changed.is_set():
            self._changed.clear()
            self._feeds.set_zones(self._zones.values())
        await self._load_histories()
        now = self._clock()
        polled = await self._feeds.refresh(now)
        day = now.replace(hour=0, minute=0, second=0, microsecond=0)
        before, resolved = self._outlooks, self._resolutions
        self._resolutions = {
            name: self._feeds.resolution(name, day - _PAST, now, day + _AHEAD)
            if name in self._zones
            else Resolution(None, None, self._unreadable[name])
            for name in self.names
        }
        self._outlooks = {
            name: _kept(self._outlooks.get(name), r.outlook, now)
            for name, r in self._resolutions.items()
            if r.outlook is not None
        }
        for name, resolution in self._resolutions.items():
            _log(name, resolved.get(name), resolution)
        self._measure(polled, now)
        places, self._places = self._places, (self.names, self._defaults())
        if places != self._places:
            if len(self._places[1]) > 1:
                defaults = self._places[1]
                _logger.warning(
                    "spec.default is true in several zones (%s): %s counts; unset it elsewhere",
                    ", ".join(defaults), defaults[0],
                )  # fmt: skip
            return News.PLACES
        if any(self._outlooks.get(n) is not before.get(n) for n in before | self._outlooks):
            return News.OUTLOOKS
        return News.NONE

    def outlooks(self) -> Mapping[str, Outlook]:
        """By zone, what is planned by; the same object as long as nothing ahead has changed."""
        return self._outlooks

    def recorded(self, zone: str | None) -> Outlook | None:
        """What a zone's intensity was."""
        return self._resolutions.get(zone, _NOTHING).recorded if zone is not None else None

    def candidates(self, job: GreenTrainingJob) -> tuple[str, ...]:
        """The zones that the job may run in, by preference."""
        if job.spec.placement is not None:
            return tuple(job.spec.placement.zones)
        return (default,) if (default := self._default()) is not None else ()

    def is_known(self, zone: str | None) -> bool:
        """Whether the zone's intensity is known now."""
        return zone is not None and zone in self._outlooks

    def describe(self, zone: str | None) -> str:
        """The zone's source in use, or why there is none."""
        if zone is None:
            return _NO_ZONE.description
        return f"zone {zone}: {self._resolutions.get(zone, _NOTHING).description}"

    def selector(self, zone: str | None) -> Mapping[str, str]:
        """Labels of the nodes that draw from the zone."""
        return self._zones[zone].spec.node_selector if zone in self._zones else {}

    async def of_node(self, node: str, run_zone: str | None) -> str | None:
        """The zone that a node draws from: the most particular one that selects it.

        Args:
            node: its name.
            run_zone: the zone that the pod's run was started in: a node that is gone drew from it.

        """
        labels = await self._labels(node) if node else None
        if labels is None:
            return run_zone or self._default()
        fitting = [
            (len(zone.spec.node_selector), name)
            for name, zone in self._zones.items()
            if zone.spec.node_selector and zone.spec.node_selector.items() <= labels.items()
        ]
        return max(fitting)[1] if fitting else self._default()

    def _default(self) -> str | None:
        return next(iter(self._defaults()), None)

    def _defaults(self) -> list[str]:
        return sorted(name for name, zone in self._zones.items() if zone.spec.default)

    async def _labels(self, node: str) -> Mapping[str, str] | None:
        """A node's labels; None where there is no such node any more."""
        now = self._clock()
        known = self._nodes.get(node)
        if known is not None and now < known[0] + _NODE_FRESH:
            return known[1]
        body = await self._api.get(NODES, "", node)
        labels = None if body is None else body["metadata"].get("labels") or {}
        self._nodes = {n: k for n, k in self._nodes.items() if now < k[0] + _NODE_FRESH}
        self._nodes[node] = (now, labels)
        return labels

    def _measure(self, polled: frozenset[str], now: datetime) -> None:
        ages: dict[tuple[str, ...], float] = {}
        positions: dict[tuple[str, ...], float] = {}
        intensities: dict[str, tuple[Signal, Intensity]] = {}
        for name, resolution in self._resolutions.items():
            failures = self._feeds.failures(name)
            failed = failures - self._failures.get(name, 0)
            self._failures[name] = failures
            if name in polled:
                result = "failed" if failed > 0 else "succeeded"
                self._operator_metrics.zone_polls.labels(name, result).inc(max(failed, 1))
            if resolution.fetched is not None:
                ages[(name,)] = (now - resolution.fetched).total_seconds()
            positions[(name,)] = -1 if resolution.position is None else resolution.position
            slot = resolution.outlook.at(now) if resolution.outlook is not None else None
            if slot is not None and resolution.outlook is not None:
                intensities[name] = (resolution.outlook.signal, slot.intensity)
        self._operator_metrics.zone_data_age.show(ages)
        self._operator_metrics.zone_source.show(positions)
        self._metrics.show_intensities(intensities)

    async def _tell(self) -> None:
        """Write the status of each zone of which there is something new to say.

        Compared is with what this process wrote last: another release that serves the same zones
        may see their sources otherwise, and the two must not answer each other for ever.
        """
        now = self._clock()
        for name, resolution in self._resolutions.items():
            if name not in self.names:
                continue
            # One that was deleted and made anew has no status, whatever was written before.
            shown = self._shown.get(name)
            known = None if shown is None else self._written.get(name, shown)
            problem = self._unreadable.get(name, "")
            status = zone_status(resolution, problem, known, self._generations[name], now)
            if status == known:
                continue
            body = {
                "apiVersion": API_VERSION,
                "kind": "GridZone",
                "metadata": {"name": name},
                "status": status.to_wire(),
            }
            try:
                await self._api.apply_status(ZONES, "", name, body)
            except ApiError as error:
                _logger.info("the status of zone %s cannot be written: %s", name, error)
            else:
                self._written[name] = self._shown[name] = status

    async def _load_histories(self) -> None:
        """Take over what an earlier process has stored; tried again until it could be read."""
        loaded: dict[str, History] = {}
        for zone in self._zones.keys() - self._stored.keys():
            try:
                body = await self._api.get(CONFIG_MAPS, self._namespace, history_name(zone))
            except ApiError as error:
                _logger.warning("the history of zone %s cannot be read: %s", zone, error)
                continue
            packed = ((body or {}).get("binaryData") or {}).get(_HISTORY_KEY, "")
            data = base64.b64decode(packed)
            loaded[zone], problem = read_history(data) if data else (EMPTY, "")
            if problem:
                _logger.warning("zone %s: %s", zone, problem)
            # What has just been observed is stored soon, and then once an hour.
            self._stored[zone] = (datetime.min.replace(tzinfo=UTC), data)
        if loaded:
            self._feeds.set_zones(self._zones.values(), loaded)

    async def _keep_history(self) -> None:
        """Store what was observed, at most once an hour and only if it is something new."""
        now = self._clock()
        for zone in self._zones:
            history = self._feeds.history(zone)
            stored = self._stored.get(zone)
            # One that could not be read yet must not be overwritten.
            if stored is None or not history.series or now < stored[0] + _HISTORY_EVERY:
                continue
            data = pack(history)
            if stored[1] == data:
                continue
            try:
                await self._store(zone, data)
            except ApiError as error:
                _logger.warning("the history of zone %s cannot be stored: %s", zone, error)
                continue
            self._stored[zone] = (now, data)

    async def _store(self, zone: str, data: bytes) -> None:
        content = {_HISTORY_KEY: base64.b64encode(data).decode()}
        name = history_name(zone)
        if await self._api.get(CONFIG_MAPS, self._namespace, name) is not None:
            await self._api.patch(CONFIG_MAPS, self._namespace, name, {"binaryData": content})
            return
        labels = {"app.kubernetes.io/managed-by": MANAGED_BY}
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": self._namespace, "labels": labels},
            "binaryData": content,
        }
        await self._api.create(CONFIG_MAPS, body)


def _status_of(body: Mapping[str, Any]) -> ZoneStatus | None:
    """The stored status; None where there is none, or another version's."""
    try:
        return ZoneStatus.model_validate(body["status"]) if body.get("status") else None
    except ValidationError:
        return None


def _log(zone: str, before: Resolution | None, now: Resolution) -> None:
    """Tell where another source than the first is used, or none, and for another reason."""
    if before is not None and before.description == now.description:
        return
    if now.position != 0:
        _logger.warning("zone %s: %s", zone, now.description)
    elif before is not None and before.position != 0:
        _logger.info("zone %s: its first source is in use again", zone)


def _kept(known: Outlook | None, new: Outlook, now: datetime) -> Outlook:
    """The known outlook where the new one says the same of what lies ahead."""
    if known is None or known.signal is not new.signal:
        return new
    return known if _ahead(known, now) == _ahead(new, now) else new


def _ahead(outlook: Outlook, now: datetime) -> list[tuple[datetime, datetime, float, float | None]]:
    return [
        (max(s.start, now), s.end, s.intensity.grams_per_kilowatt_hour, s.renewable_share)
        for s in outlook.slots
        if s.end > now
    ]
