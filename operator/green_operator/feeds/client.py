"""HTTP to the providers: bounded in time and size, tried again, never led elsewhere.

A provider's address is the administrator's. Redirects are not followed and the environment's
proxies not used, so that no answer sends a request with a key in it to another place. Nothing of an
answer or of a request's headers gets into a message.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

import aiohttp
import stamina
from aiohttp.abc import ResolveResult
from green_api.errors import ProviderError

_CHUNK: Final = 64 * 1024
_TRY_AGAIN: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, *range(500, 600)})
_LONGEST_RETRY_AFTER: Final = 3600.0

# Stamina tells of each retry through logging. Who has set logging up hears it; greenctl, which has
# not, would else get a bare line between those of its display.
logging.getLogger("stamina").addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one question to a provider."""

    timeout_seconds: float = 10.0
    """For one attempt, from the connection to the last byte."""
    max_bytes: int = 2 * 2**20
    """Of an answer; the largest that is expected has about 100 kB."""
    attempts: int = 3
    first_wait_seconds: float = 0.5
    """Before the second attempt; it doubles, with as much jitter again."""
    longest_wait_seconds: float = 20.0
    """A provider that asks for a longer wait is left until its next poll."""


class HttpError(ProviderError):
    """A provider did not answer as it should.

    Args:
        message: what was wrong.
        status: of the answer; None where there was none.
        retry_after: seconds that the provider asks to wait, an hour at most, if it does.
        again: whether another attempt may help.

    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        again: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.again = again


class PublicResolver(aiohttp.ThreadedResolver):
    """Takes the word of a name server for some hosts only where it leads to a public address.

    Args:
        hosts: names that stand for services of the open internet.

    """

    def __init__(self, hosts: Container[str]) -> None:
        super().__init__()
        self._hosts = hosts

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host.

        Raises:
            HttpError: it should be public and has none that is.

        """
        found = await super().resolve(host, port, family)
        if host not in self._hosts:
            return found
        public = [each for each in found if ipaddress.ip_address(each["host"]).is_global]
        if not public:
            msg = f"{host} has no public address here; name the one that is meant in sourceUrls"
            raise HttpError(msg)
        return public


def open_session(public_hosts: Container[str] = ()) -> aiohttp.ClientSession:
    """A session for the providers: no proxies or netrc of the environment, no cookies.

    Args:
        public_hosts: are asked at public addresses only.

    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=PublicResolver(public_hosts)),
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        # Answers are small; unpacking would be one more thing that a bad one can abuse.
        headers={"User-Agent": "green-training", "Accept-Encoding": "identity"},
    )


class Client:
    """Asks providers.

    Args:
        session: from ``open_session``.
        limits: bounds of each question.

    """

    def __init__(self, session: aiohttp.ClientSession, limits: Limits | None = None) -> None:
        self._session = session
        self._limits = limits or Limits()

    async def get(
        self,
        url: str,
        parameters: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """The body of a 200 answer.

        Raises:
            HttpError: there is none, after the last attempt.

        """
        async for attempt in stamina.retry_context(
            on=self._wait,
            attempts=self._limits.attempts,
            timeout=None,
            wait_initial=self._limits.first_wait_seconds,
            wait_jitter=self._limits.first_wait_seconds,
        ):
            with attempt:
                return await self._get_once(url, parameters, headers)
        raise AssertionError  # pragma: no cover - the last attempt returns or raises

    def _wait(self, error: Exception) -> bool | float:
        """Whether to try again; the seconds to wait where the provider says them."""
        if not isinstance(error, HttpError) or not error.again:
            return False
        if error.retry_after is None:
            return True
        return (
            error.retry_after if error.retry_after <= self._limits.longest_wait_seconds else False
        )

    async def _get_once(
        self,
        url: str,
        parameters: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
    ) -> bytes:
        seconds = self._limits.timeout_seconds
        try:
            async with self._session.get(
                url,
                params=parameters,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds),
            ) as response:
                _check_status(response)
                return await self._body(response)
        except TimeoutError:
            msg = f"no answer within {seconds:g} s"
            raise HttpError(msg, again=True) from None
        except (aiohttp.ClientError, OSError) as error:
            # The type alone: the text of some errors holds the request's headers.
            msg = f"no connection ({type(error).__name__})"
            raise HttpError(msg, again=True) from None

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk
            if len(body) > self._limits.max_bytes:
                msg = f"the answer is larger than {self._limits.max_bytes // 2**20} MiB"
                raise HttpError(msg, status=response.status)
        return bytes(body)


def _check_status(response: aiohttp.ClientResponse) -> None:
    status = response.status
    if status == HTTPStatus.OK:
        return
    if 300 <= status < 400:
        msg = f"HTTP {status}: redirects are not followed"
        raise HttpError(msg, status=status)
    raise HttpError(
        f"HTTP {status}",
        status=status,
        retry_after=_retry_after(response.headers.get("Retry-After")),
        again=status in _TRY_AGAIN,
    )


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, 0 to an hour, from a number of seconds or an HTTP date."""
    if value is None:
        return None
    try:
        seconds = float(value) if value.isdecimal() else _seconds_until(value)
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER)


def _seconds_until(date: str) -> float:
    time = parsedate_to_datetime(date)
    return (time.replace(tzinfo=time.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
