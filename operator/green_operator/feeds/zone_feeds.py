"""The sources of all zones: asked in their turn, remembered, and resolved from memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

import aiohttp
from green_api.errors import GreenError, InvalidTraceError, ProviderError
from green_api.zone import GridZone, Source, TraceSource

from green_operator.feeds.client import Client, HttpError
from green_operator.feeds.pace import POLL_EVERY, READ_EVERY, Pace
from green_operator.feeds.providers import Endpoints, Poll, ask_electricity_maps, ask_uk_neso
from green_operator.feeds.references import References
from green_operator.sources.history import EMPTY, History
from green_operator.sources.live import Live
from green_operator.sources.trace import Trace, read_trace
from green_operator.sources.zones import Resolution, SourceData, Unavailable, resolve

# So many sources are asked at a time, however many zones there are.
_AT_A_TIME: Final = 4
_LONGEST_REASON: Final = 200
# What a question or a reference can fail with; anything else is a mistake of the program.
_FAILURES: Final = (GreenError, OSError, UnicodeError, aiohttp.ClientError)
_UNKNOWN_ZONE: Final = Resolution(None, None, "there is no GridZone of that name")


@dataclass(frozen=True, slots=True)
class _Feed:
    """One source with what was read of it."""

    source: Source
    data: SourceData = None
    pace: Pace = field(default_factory=Pace)
    raw: bytes | None = None
    """The trace as it was read, so that an unchanged one is not parsed again."""

    def is_due(self, now: datetime) -> bool:
        """Whether to ask now; a static source is never asked."""
        return self.source.static is None and self.pace.is_due(now)


@dataclass(frozen=True, slots=True)
class _ZoneFeed:
    zone: GridZone
    feeds: tuple[_Feed, ...]
    history: History

    def is_due(self, now: datetime) -> bool:
        """Whether one of its sources is to be asked."""
        return any(feed.is_due(now) for feed in self.feeds)


class ZoneFeeds:
    """Keeps what is known of the zones.

    ``refresh`` does all input and output; everything else answers from memory. What is known of a
    zone is replaced as one value, so that another thread may read while one refreshes.

    Args:
        client: asks the providers.
        references: reads ConfigMaps and Secrets.
        endpoints: where the providers are.

    """

    def __init__(
        self, client: Client, references: References, endpoints: Endpoints | None = None
    ) -> None:
        self._client = client
        self._references = references
        self._endpoints = endpoints or Endpoints()
        self._zones: Mapping[str, _ZoneFeed] = {}

    def set_zones(
        self, zones: Iterable[GridZone], histories: Mapping[str, History] | None = None
    ) -> None:
        """Take these zones in the place of those before; what is known of a kept source stays.

        Args:
            zones: all of them.
            histories: what was observed of zones earlier; what is known here counts more.

        """
        given = histories or {}
        self._zones = {
            zone.metadata.name: _taken_over(
                zone, self._zones.get(zone.metadata.name), given.get(zone.metadata.name, EMPTY)
            )
            for zone in zones
        }

    async def refresh(self, now: datetime) -> frozenset[str]:
        """Ask each source that is due, at most a few at a time; one call after the other.

        Returns:
            The zones of which a source was asked: their resolution may be another one.

        """
        places = asyncio.Semaphore(_AT_A_TIME)
        before = self._zones
        due = {name: zone for name, zone in before.items() if zone.is_due(now)}
        refreshed = await asyncio.gather(
            *(self._refresh_zone(zone, now, places) for zone in due.values())
        )
        for zone in refreshed:
            name = zone.zone.metadata.name
            # The zones may have been set anew meanwhile.
            if self._zones.get(name) is before[name]:
                self._zones = {**self._zones, name: zone}
        return frozenset(due)

    def resolution(self, zone: str, start: datetime, now: datetime, end: datetime) -> Resolution:
        """What is known of a zone in [start, end); see ``sources.zones.resolve``."""
        known = self._zones.get(zone)
        if known is None:
            return _UNKNOWN_ZONE
        data = [feed.data for feed in known.feeds]
        return resolve(known.zone, data, start, now, end, known.history)

    def next_poll(self) -> datetime | None:
        """When a source is due next, in the past where at once; None where nothing is asked."""
        paces = (f.pace for z in self._zones.values() for f in z.feeds if f.source.static is None)
        return min((pace.next_poll for pace in paces), default=None)

    def failures(self, zone: str) -> int:
        """Polls of the zone's sources that failed, since the sources were set."""
        known = self._zones.get(zone)
        return sum(feed.pace.failures for feed in known.feeds) if known else 0

    def history(self, zone: str) -> History:
        """What the zone's live sources observed, in the last 28 days."""
        known = self._zones.get(zone)
        return known.history if known else EMPTY

    async def _refresh_zone(
        self, zone: _ZoneFeed, now: datetime, places: asyncio.Semaphore
    ) -> _ZoneFeed:
        feeds = await asyncio.gather(*(self._refresh_feed(f, now, places) for f in zone.feeds))
        return _ZoneFeed(zone.zone, tuple(feeds), _with_observed(zone.history, feeds, now))

    async def _refresh_feed(self, feed: _Feed, now: datetime, places: asyncio.Semaphore) -> _Feed:
        if not feed.is_due(now):
            return feed
        async with places:
            if feed.source.trace is not None:
                return await self._read_trace(feed, feed.source.trace, now)
            return await self._poll(feed, now)

    async def _poll(self, feed: _Feed, now: datetime) -> _Feed:
        live = feed.data if isinstance(feed.data, Live) else Live()
        try:
            poll = await self._ask(feed.source, now)
        except _FAILURES as error:
            pace = feed.pace.failed(now, _wait([error]))
            return replace(feed, data=live.failed(_reason(error)), pace=pace)
        if not poll.errors:
            pace = feed.pace.succeeded(now, POLL_EVERY)
            return replace(feed, data=live.after(poll.answer, now), pace=pace)
        data = live.after(poll.answer, now, _reason(poll.errors[0]))
        return replace(feed, data=data, pace=feed.pace.failed(now, _wait(poll.errors)))

    async def _ask(self, source: Source, now: datetime) -> Poll:
        if source.uk_neso is not None:
            region = source.uk_neso.region
            return await ask_uk_neso(self._client, self._endpoints.uk_neso, region, now)
        assert source.electricity_maps is not None  # noqa: S101 - it is live
        reference = source.electricity_maps.secret_key_ref
        key = await self._references.read_secret(reference.name, reference.key)
        if key is None:
            msg = f"there is no key {reference.key} in a Secret {reference.name}"
            raise ProviderError(msg)
        base, zone = self._endpoints.electricity_maps, source.electricity_maps.zone
        return await ask_electricity_maps(self._client, base, zone, key)

    async def _read_trace(self, feed: _Feed, source: TraceSource, now: datetime) -> _Feed:
        reference = source.config_map_key_ref
        try:
            raw = await self._references.read_config_map(reference.name, reference.key)
        except _FAILURES as error:
            # What was read before stands until the ConfigMap can be read again.
            data = feed.data if isinstance(feed.data, Trace) else Unavailable(_reason(error))
            return replace(feed, data=data, pace=feed.pace.failed(now, longest=READ_EVERY))
        if raw is not None and raw == feed.raw:
            return replace(feed, pace=feed.pace.succeeded(now, READ_EVERY))
        data = await _parsed(raw, f"{reference.name}/{reference.key}")
        if isinstance(data, Unavailable):
            pace = feed.pace.failed(now, longest=READ_EVERY)
            return replace(feed, data=data, raw=None, pace=pace)
        return replace(feed, data=data, raw=raw, pace=feed.pace.succeeded(now, READ_EVERY))


def _taken_over(zone: GridZone, before: _ZoneFeed | None, history: History) -> _ZoneFeed:
    if before is None:
        return _ZoneFeed(zone, tuple(_Feed(source) for source in zone.spec.sources), history)
    if zone == before.zone and not history.series:
        # The same value, so that a refresh that is under way still counts.
        return before
    known = {feed.source: feed for feed in before.feeds}
    feeds = tuple(known.get(source, _Feed(source)) for source in zone.spec.sources)
    return _ZoneFeed(zone, feeds, before.history.over(history))


def _with_observed(history: History, feeds: Sequence[_Feed], now: datetime) -> History:
    # The first source is entered last, so that its values count.
    for feed in reversed(feeds):
        if isinstance(feed.data, Live) and feed.data.observed is not None:
            history = history.with_observed(feed.source.signal, feed.data.observed.slots, now)
    return history


async def _parsed(raw: bytes | None, name: str) -> Trace | Unavailable:
    if raw is None:
        return Unavailable("its ConfigMap, or the key in it, does not exist")
    try:
        # A year at 5 minutes takes a second: too long for the loop that others share.
        return await asyncio.to_thread(read_trace, raw, name)
    except InvalidTraceError as error:
        return Unavailable(_reason(error))


def _wait(errors: Iterable[Exception]) -> timedelta:
    """How long the provider asks to be left alone."""
    seconds = (e.retry_after or 0.0 for e in errors if isinstance(e, HttpError))
    return timedelta(seconds=max(seconds, default=0.0))


def _reason(error: Exception) -> str:
    """What to say of a failure; of others' errors the kind alone, for their text may hold a key."""
    if isinstance(error, GreenError):
        return str(error)[:_LONGEST_REASON]
    return f"it cannot be read ({type(error).__name__})"
