"""HTTP to providers: bounded, tried again, never led elsewhere, and silent about keys."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from green_operator.feeds.client import Client, HttpError, Limits, open_session
from green_operator.feeds.providers import ELECTRICITY_MAPS, UK_NESO, Endpoints

from tests.sources.provider import Provider, Reply

QUICK = Limits(timeout_seconds=5, first_wait_seconds=0.01)
KEY = "s3cr3t-key"


def get(url: str, limits: Limits = QUICK, headers: Mapping[str, str] | None = None) -> bytes:
    async def ask() -> bytes:
        async with open_session() as session:
            return await Client(session, limits).get(f"{url}/x", headers=headers)

    return asyncio.run(ask())


def refused(url: str, limits: Limits = QUICK) -> HttpError:
    with pytest.raises(HttpError) as caught:
        get(url, limits, {"auth-token": KEY})
    return caught.value


def test_an_answer_is_its_body(provider: Provider) -> None:
    provider.script("x", Reply({"a": 1}))
    assert get(provider.url) == b'{"a": 1}'


def test_a_provider_gets_its_key_and_nothing_else(provider: Provider) -> None:
    provider.script("x", Reply({}))
    get(provider.url, headers={"auth-token": KEY})
    (question,) = provider.questions
    sent = {name.lower() for name in question.headers}
    assert sent <= {"host", "accept", "accept-encoding", "user-agent", "auth-token"}


def test_a_slow_provider_is_left_after_the_time_out(provider: Provider) -> None:
    provider.script("x", Reply({}, delay=30))
    error = refused(provider.url, Limits(timeout_seconds=0.2, attempts=2, first_wait_seconds=0.01))
    assert str(error) == "no answer within 0.2 s"
    assert len(provider.questions) == 2


def test_a_body_of_5_mb_is_refused(provider: Provider) -> None:
    provider.script("x", Reply(b" " * 5_000_000))
    assert str(refused(provider.url)) == "the answer is larger than 2 MiB"
    assert len(provider.questions) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(provider: Provider, status: int) -> None:
    provider.script("x", Reply(b"", status, {"Location": f"{provider.url}/elsewhere"}))
    assert str(refused(provider.url)) == f"HTTP {status}: redirects are not followed"
    assert not provider.asked("elsewhere")


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_passing_failure_is_tried_again(provider: Provider, status: int) -> None:
    provider.script("x", Reply(b"", status), Reply({}))
    assert get(provider.url) == b"{}"
    assert len(provider.questions) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_is_not_tried_again(provider: Provider, status: int) -> None:
    provider.script("x", Reply(b"", status))
    error = refused(provider.url)
    assert (str(error), error.status) == (f"HTTP {status}", status)
    assert len(provider.questions) == 1


def test_attempts_are_bounded(provider: Provider) -> None:
    provider.script("x", Reply(b"", 503))
    assert str(refused(provider.url)) == "HTTP 503"
    assert len(provider.questions) == 3


def test_a_short_wait_that_is_asked_for_is_kept(provider: Provider) -> None:
    provider.script("x", Reply(b"", 429, {"Retry-After": "1"}), Reply({}))
    get(provider.url)
    first, second = provider.questions
    assert second.time - first.time >= 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("600", 600), ("999999999", 3600), ("soon", None), ("-5", None)],
)
def test_a_long_wait_is_left_to_the_next_poll(
    provider: Provider, header: str, seconds: float | None
) -> None:
    provider.script("x", Reply(b"", 429, {"Retry-After": header}))
    assert refused(provider.url).retry_after == seconds
    assert len(provider.questions) == (1 if seconds else 3)


def test_a_date_to_wait_for_is_understood(provider: Provider) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=30), usegmt=True)
    provider.script("x", Reply(b"", 503, {"Retry-After": date}))
    seconds = refused(provider.url).retry_after
    assert seconds is not None
    assert 0 < seconds <= 1800


def test_nobody_there(unused_port: int) -> None:
    error = refused(f"http://127.0.0.1:{unused_port}")
    assert str(error) == "no connection (ClientConnectorError)"


def test_a_proxy_of_the_environment_is_not_used(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, unused_port: int
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_port}")
    provider.script("x", Reply({}))
    assert get(provider.url) == b"{}"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"", 401),
        Reply(b"", 503),
        Reply(b"", 302, {"Location": "http://127.0.0.1:1/"}),
        Reply(b" " * 5_000_000),
        Reply({}, delay=30),
    ],
)
def test_no_key_gets_into_a_message_or_a_log(
    provider: Provider, reply: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    provider.script("x", reply)
    error = refused(provider.url, Limits(timeout_seconds=0.2, first_wait_seconds=0.01))
    assert provider.questions[0].headers["auth-token"] == KEY
    assert KEY not in repr(error)
    assert KEY not in str([vars(record) for record in caplog.records])


def test_a_provider_that_a_name_server_puts_inside_the_network_is_not_asked(
    provider: Provider,
) -> None:
    provider.script("x", Reply({}))
    url = provider.url.replace("127.0.0.1", "localhost")

    async def ask() -> None:
        async with open_session(public_hosts={"localhost"}) as session:
            await Client(session, QUICK).get(f"{url}/x", headers={"auth-token": KEY})

    with pytest.raises(HttpError, match=r"localhost has no public address here; .* sourceUrls"):
        asyncio.run(ask())
    assert provider.questions == []
    # One that the administrator has named may be anywhere.
    assert get(url) == b"{}"


def test_only_the_providers_own_hosts_must_be_public() -> None:
    own = {"api.carbonintensity.org.uk", "api.electricitymap.org"}
    assert Endpoints().public_hosts == own
    assert Endpoints(uk_neso="http://mirror.internal").public_hosts == own - {
        "api.carbonintensity.org.uk"
    }
    assert Endpoints("http://a", "http://b").public_hosts == frozenset()
    assert Endpoints(UK_NESO, ELECTRICITY_MAPS).public_hosts == own
