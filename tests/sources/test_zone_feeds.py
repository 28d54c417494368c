"""The sources of zones over time: asked in their turn, degraded with a reason, remembered."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from green_api.base import Signal
from green_api.errors import GreenError
from green_api.zone import GridZone
from green_operator.feeds.client import Client, Limits, open_session
from green_operator.feeds.providers import Endpoints
from green_operator.feeds.zone_feeds import ZoneFeeds
from green_operator.sources.history import EMPTY
from green_operator.sources.zones import Resolution

from tests.sources.provider import (
    HALF_HOUR,
    HOUR,
    Provider,
    Reply,
    maps_latest,
    maps_series,
    neso,
)
from tests.unit.test_sources import MAPS, STATIC, TRACE, grams, slots, zone
from tests.unit.test_trace import GOOD

T0 = datetime(2026, 6, 1, tzinfo=UTC)
NESO = {"ukNeso": {}}
MINUTE = timedelta(minutes=1)


@dataclass
class Namespace:
    """The operator's namespace: ConfigMaps and Secrets as they are at the moment."""

    config_maps: dict[tuple[str, str], bytes | Exception] = field(default_factory=dict)
    secrets: dict[tuple[str, str], str | Exception] = field(default_factory=dict)

    async def read_config_map(self, name: str, key: str) -> bytes | None:
        value = self.config_maps.get((name, key))
        if isinstance(value, Exception):
            raise value
        return value

    async def read_secret(self, name: str, key: str) -> str | None:
        value = self.secrets.get((name, key))
        if isinstance(value, Exception):
            raise value
        return value


@pytest.fixture
def namespace() -> Namespace:
    return Namespace(
        {("a", "b"): GOOD.encode()}, {("maps", "token"): "key"}
    )  # fmt: skip


def with_feeds(
    provider: Provider,
    namespace: Namespace,
    body: Callable[[ZoneFeeds], Awaitable[None]],
    *zones: GridZone,
) -> None:
    @asynccontextmanager
    async def feeds() -> AsyncIterator[ZoneFeeds]:
        async with open_session() as session:
            client = Client(session, Limits(timeout_seconds=5, first_wait_seconds=0.01))
            opened = ZoneFeeds(client, namespace, Endpoints(provider.url, provider.url))
            opened.set_zones(zones)
            yield opened

    async def run() -> None:
        async with feeds() as opened:
            await body(opened)

    asyncio.run(run())


def known(feeds: ZoneFeeds, now: datetime) -> Resolution:
    return feeds.resolution("gb", now - timedelta(days=28), now, now + timedelta(days=2))


def neso_works(provider: Provider, now: datetime, value: float = 200) -> None:
    provider.script("pt24h", Reply(neso(now - 24 * HOUR, 48, lambda _: value)))
    provider.script("fw48h", Reply(neso(now, 96, lambda _: value)))


def test_a_source_is_asked_every_half_hour(provider: Provider, namespace: Namespace) -> None:
    neso_works(provider, T0)

    async def body(feeds: ZoneFeeds) -> None:
        assert feeds.resolution("gb", T0, T0, T0 + HOUR).description == (
            "no source is usable: ukNeso: it has not answered yet"
        )
        assert feeds.next_poll() is not None
        assert await feeds.refresh(T0) == {"gb"}
        assert feeds.next_poll() == T0 + HALF_HOUR
        assert await feeds.refresh(T0 + 29 * MINUTE) == frozenset()
        assert len(provider.asked("fw48h")) == 1
        assert await feeds.refresh(T0 + HALF_HOUR) == {"gb"}
        assert len(provider.asked("fw48h")) == 2
        assert known(feeds, T0 + 40 * MINUTE).fetched == T0 + HALF_HOUR
        assert feeds.failures("gb") == 0

    with_feeds(provider, namespace, body, zone(NESO))


def test_after_a_failure_it_is_asked_sooner_and_then_less_often(
    provider: Provider, namespace: Namespace
) -> None:
    provider.script("intensity", Reply(b"", 404))

    async def body(feeds: ZoneFeeds) -> None:
        now, waits = T0, []
        for _ in range(6):
            await feeds.refresh(now)
            due = feeds.next_poll()
            assert due is not None
            waits.append((due - now) // MINUTE)
            now = due
        assert waits == [1, 2, 4, 8, 15, 15]
        assert feeds.failures("gb") == 6
        neso_works(provider, T0)
        await feeds.refresh(now)
        assert feeds.next_poll() == now + HALF_HOUR

    with_feeds(provider, namespace, body, zone(NESO))


def test_a_provider_that_asks_to_be_left_alone_is(provider: Provider, namespace: Namespace) -> None:
    provider.script("intensity", Reply(b"", 429, {"Retry-After": "2400"}))

    async def body(feeds: ZoneFeeds) -> None:
        await feeds.refresh(T0)
        assert feeds.next_poll() == T0 + 40 * MINUTE
        assert len(provider.questions) == 2

    with_feeds(provider, namespace, body, zone(NESO))


def test_an_outage_degrades_along_the_chain_and_back(
    provider: Provider, namespace: Namespace
) -> None:
    neso_works(provider, T0)
    chain = zone(NESO, STATIC)

    async def body(feeds: ZoneFeeds) -> None:
        await feeds.refresh(T0)
        provider.script("intensity", Reply(b"", 404))
        said = []
        for minutes in range(0, 9 * 60, 15):
            now = T0 + minutes * MINUTE
            await feeds.refresh(now)
            outlook = known(feeds, now).outlook
            assert outlook is not None
            said.append(known(feeds, now).description)
        assert list(dict.fromkeys(said)) == [
            "ukNeso",
            "ukNeso (not fresh for more than 1 h: HTTP 404)",
            "static 210 g/kWh; passed over: ukNeso: its last answer is more than 6 h old (HTTP 404)",
        ]
        # The signal is the same, so what was observed before stays.
        recorded = known(feeds, T0 + 9 * HOUR).recorded
        assert recorded is not None
        assert grams(recorded.slots)[-2:] == [200, 210]
        neso_works(provider, T0 + 9 * HOUR)
        await feeds.refresh(T0 + 9 * HOUR)
        assert known(feeds, T0 + 9 * HOUR).description == "ukNeso"

    with_feeds(provider, namespace, body, chain)


def test_the_last_good_forecast_stays_where_only_the_past_comes(
    provider: Provider, namespace: Namespace
) -> None:
    neso_works(provider, T0)

    async def body(feeds: ZoneFeeds) -> None:
        await feeds.refresh(T0)
        provider.script("fw48h", Reply({}))
        provider.script("pt24h", Reply(neso(T0 - 23 * HOUR, 48, lambda _: 150)))
        await feeds.refresh(T0 + HOUR)
        resolution = known(feeds, T0 + HOUR)
        assert resolution.outlook is not None
        assert grams(resolution.outlook.slots)[-1] == 200
        assert 150 in grams(resolution.outlook.slots)
        assert feeds.failures("gb") == 1

    with_feeds(provider, namespace, body, zone(NESO))


def test_the_past_is_remembered_for_28_days(provider: Provider, namespace: Namespace) -> None:
    async def body(feeds: ZoneFeeds) -> None:
        for day in range(31):
            now = T0 + timedelta(days=day)
            neso_works(provider, now, 100 + day)
            await feeds.refresh(now)
        recorded = known(feeds, now).recorded
        assert recorded is not None
        past = [slot for slot in recorded.slots if slot.end <= now]
        assert len(past) == 28 * 48
        assert grams(past)[::48] == [100 + day for day in range(3, 31)]
        assert grams(feeds.history("gb").of(Signal.AVERAGE_DIRECT)) == grams(past)

    with_feeds(provider, namespace, body, zone(NESO))


@pytest.mark.parametrize("is_late", [False, True])
def test_an_earlier_history_is_taken_up(
    provider: Provider, namespace: Namespace, is_late: bool
) -> None:
    earlier = EMPTY.with_observed(Signal.AVERAGE_DIRECT, slots(0, 90, 91), T0 + 2 * HOUR)
    now = T0 + 72 * HOUR
    neso_works(provider, now)

    async def body(feeds: ZoneFeeds) -> None:
        if is_late:
            feeds.set_zones([zone(NESO)])
            await feeds.refresh(now)
        feeds.set_zones([zone(NESO)], {"gb": earlier})
        await feeds.refresh(now)
        recorded = known(feeds, now).recorded
        assert recorded is not None
        assert grams(recorded.slots)[:3] == [90, 91, 200]

    with_feeds(provider, namespace, body)


def test_a_key_is_read_for_each_poll(provider: Provider, namespace: Namespace) -> None:
    provider.script("history", Reply(maps_series("history", T0 - 24 * HOUR, 24)))
    provider.script("latest", Reply(maps_latest(T0, 280)))
    provider.script("forecast", Reply(b"", 403))
    namespace.secrets = {}

    async def body(feeds: ZoneFeeds) -> None:
        await feeds.refresh(T0)
        assert known(feeds, T0).description == (
            "no source is usable: electricityMaps DE: there is no key token in a Secret maps"
        )
        assert provider.questions == []
        namespace.secrets["maps", "token"] = "first"
        await feeds.refresh(T0 + MINUTE)
        resolution = known(feeds, T0 + MINUTE)
        assert resolution.description == (
            "electricityMaps DE (without a forecast, which its key does not give)"
        )
        assert resolution.outlook is not None
        assert resolution.outlook.signal is Signal.AVERAGE_LIFECYCLE
        namespace.secrets["maps", "token"] = "second"
        await feeds.refresh(T0 + HOUR)
        assert {q.headers["auth-token"] for q in provider.questions} == {"first", "second"}

    with_feeds(provider, namespace, body, zone(_in_germany()))


def _in_germany() -> dict[str, object]:
    return {"electricityMaps": MAPS["electricityMaps"] | {"zone": "DE"}}


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError("token=abc"), "it cannot be read (OSError)"),
        (UnicodeDecodeError("utf-8", b"abc", 0, 1, "x"), "it cannot be read (UnicodeDecodeError)"),
        (TimeoutError(), "it cannot be read (TimeoutError)"),
        (aiohttp.ClientError("auth-token: abc"), "it cannot be read (ClientError)"),
        (GreenError("the API server is away"), "the API server is away"),
    ],
)
def test_a_reference_that_cannot_be_read_is_a_failure_of_its_source(
    provider: Provider, namespace: Namespace, error: Exception, says: str
) -> None:
    namespace.config_maps["a", "b"] = error
    namespace.secrets["maps", "token"] = error

    async def body(feeds: ZoneFeeds) -> None:
        await feeds.refresh(T0)
        assert known(feeds, T0).description == (
            f"no source is usable: trace a/b: {says}; electricityMaps GB: {says}"
        )
        assert feeds.failures("gb") == 2

    with_feeds(provider, namespace, body, zone(TRACE, MAPS))


def test_a_trace_is_read_again_every_five_minutes(provider: Provider, namespace: Namespace) -> None:
    async def body(feeds: ZoneFeeds) -> None:
        await feeds.refresh(T0)
        assert known(feeds, T0).description == "trace a/b"
        assert feeds.next_poll() == T0 + 5 * MINUTE
        assert known(feeds, T0).fetched is None
        namespace.config_maps["a", "b"] = gzip.compress(GOOD.replace("300", "77").encode())
        await feeds.refresh(T0 + 5 * MINUTE)
        outlook = known(feeds, T0).outlook
        assert outlook is not None
        assert grams(outlook.slots)[0] == 77
        # The API server is away: the trace stands.
        namespace.config_maps["a", "b"] = TimeoutError()
        await feeds.refresh(T0 + 10 * MINUTE)
        assert known(feeds, T0).outlook == outlook
        namespace.config_maps["a", "b"] = b"time\n"
        await feeds.refresh(T0 + 20 * MINUTE)
        assert known(feeds, T0).description.startswith(
            "no source is usable: trace a/b: a/b: line 1: the columns are time; they must be"
        )
        del namespace.config_maps["a", "b"]
        await feeds.refresh(T0 + 30 * MINUTE)
        assert known(feeds, T0).description == (
            "no source is usable: trace a/b: its ConfigMap, or the key in it, does not exist"
        )

    with_feeds(provider, namespace, body, zone(TRACE))


def test_a_zip_bomb_is_no_trace(provider: Provider, namespace: Namespace) -> None:
    namespace.config_maps["a", "b"] = gzip.compress(b"0" * 2**27)

    async def body(feeds: ZoneFeeds) -> None:
        await feeds.refresh(T0)
        assert "it holds more than 16 MiB" in known(feeds, T0).description

    with_feeds(provider, namespace, body, zone(TRACE))


def test_what_is_known_of_a_source_outlives_a_change_of_its_zone(
    provider: Provider, namespace: Namespace
) -> None:
    neso_works(provider, T0)

    async def body(feeds: ZoneFeeds) -> None:
        await feeds.refresh(T0)
        feeds.set_zones([zone(STATIC, NESO)])
        assert await feeds.refresh(T0 + MINUTE) == frozenset()
        feeds.set_zones([zone(NESO)])
        assert known(feeds, T0 + MINUTE).outlook is not None
        feeds.set_zones([])
        assert feeds.next_poll() is None
        assert known(feeds, T0).description == "there is no GridZone of that name"
        assert (known(feeds, T0).fetched, feeds.failures("gb")) == (None, 0)
        assert feeds.history("gb") == EMPTY

    with_feeds(provider, namespace, body, zone(NESO))


def test_zones_that_are_set_during_a_refresh_win(provider: Provider, namespace: Namespace) -> None:
    provider.script("intensity", Reply(neso(T0, 96), delay=0.3))

    async def body(feeds: ZoneFeeds) -> None:
        running = asyncio.create_task(feeds.refresh(T0))
        while not provider.questions:
            await asyncio.sleep(0.01)
        feeds.set_zones([zone(STATIC)])
        await running
        assert known(feeds, T0).description == "static 210 g/kWh"

    with_feeds(provider, namespace, body, zone(NESO))


def test_a_static_zone_is_never_asked(provider: Provider, namespace: Namespace) -> None:
    async def body(feeds: ZoneFeeds) -> None:
        assert feeds.next_poll() is None
        assert await feeds.refresh(T0) == frozenset()
        assert known(feeds, T0).description == "static 210 g/kWh"

    with_feeds(provider, namespace, body, zone(STATIC))


def test_the_same_zones_set_during_a_refresh_keep_its_answer(
    provider: Provider, namespace: Namespace
) -> None:
    provider.script("intensity", Reply(neso(T0, 96), delay=0.3))

    async def body(feeds: ZoneFeeds) -> None:
        running = asyncio.create_task(feeds.refresh(T0))
        while not provider.questions:
            await asyncio.sleep(0.01)
        feeds.set_zones([zone(NESO)])
        await running
        assert known(feeds, T0).description == "ukNeso"

    with_feeds(provider, namespace, body, zone(NESO))
