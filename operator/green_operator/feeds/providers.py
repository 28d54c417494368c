"""The questions that a live source asks its provider."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from green_api.errors import ProviderError

from green_operator.feeds.client import Client, HttpError
from green_operator.plan.types import Slot
from green_operator.sources.electricity_maps import FACTOR, parse_latest, parse_series
from green_operator.sources.live import Answer
from green_operator.sources.overlay import overlay
from green_operator.sources.uk_neso import parse_uk_neso

UK_NESO: Final = "https://api.carbonintensity.org.uk"
ELECTRICITY_MAPS: Final = "https://api.electricitymap.org/v3"

_KEY_REFUSED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_NO_FORECAST: Final = "without a forecast, which its key does not give"

Slots = tuple[Slot, ...]
_Outcome = Slots | ProviderError


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the providers are: the administrator's word, never a zone's."""

    uk_neso: str = UK_NESO
    electricity_maps: str = ELECTRICITY_MAPS

    @property
    def public_hosts(self) -> frozenset[str]:
        """The providers' own hosts, as far as nobody has named another address."""
        own = {UK_NESO, ELECTRICITY_MAPS} & {self.uk_neso, self.electricity_maps}
        return frozenset(urlsplit(url).hostname or "" for url in own)


@dataclass(frozen=True, slots=True)
class Poll:
    """What one poll brought, and what failed of it."""

    answer: Answer
    errors: tuple[ProviderError, ...]


async def ask_uk_neso(client: Client, base: str, region: int | None, now: datetime) -> Poll:
    """The last 24 hours and the next 48.

    Raises:
        ProviderError: neither came.

    """
    # NESO takes just this form of a time: minutes, no seconds.
    time = f"{now:%Y-%m-%dT%H:%MZ}"
    path = "intensity" if region is None else "regional/intensity"
    suffix = "" if region is None else f"/regionid/{region}"

    async def part(span: str) -> Slots:
        body = await client.get(f"{base.rstrip('/')}/{path}/{time}/{span}{suffix}")
        return parse_uk_neso(body, region)

    observed, forecast = await asyncio.gather(_outcome(part("pt24h")), _outcome(part("fw48h")))
    return _poll(observed, (), forecast)


async def ask_electricity_maps(client: Client, base: str, zone: str, key: str) -> Poll:
    """The last 24 hours, the present one and the forecast, of life-cycle factors.

    A key without the plan for it gets no forecast; that is no failure.

    Raises:
        ProviderError: nothing came.

    """
    secret = key.strip()
    if not secret or not secret.isascii() or not secret.isprintable():
        msg = "its key is empty or holds characters that no key has"
        raise ProviderError(msg)

    async def part(series: str) -> bytes:
        return await client.get(
            f"{base.rstrip('/')}/carbon-intensity/{series}",
            {"zone": zone, "emissionFactorType": FACTOR},
            {"auth-token": secret},
        )

    async def listed(series: str) -> Slots:
        return parse_series(await part(series), zone, series)

    async def latest() -> Slots:
        return parse_latest(await part("latest"), zone)

    history, present, forecast = await asyncio.gather(
        _outcome(listed("history")), _outcome(latest()), _outcome(listed("forecast"))
    )
    if _is_refused(forecast) and not (_is_refused(history) and _is_refused(present)):
        return _poll(history, present, (), _NO_FORECAST)
    return _poll(history, present, forecast)


async def _outcome(part: Awaitable[Slots]) -> _Outcome:
    try:
        return await part
    except ProviderError as error:
        return error


def _is_refused(outcome: _Outcome) -> bool:
    return isinstance(outcome, HttpError) and outcome.status in _KEY_REFUSED


def _poll(history: _Outcome, present: _Outcome, forecast: _Outcome, remark: str = "") -> Poll:
    outcomes = (history, present, forecast)
    errors = tuple(o for o in outcomes if isinstance(o, ProviderError))
    observed = overlay(_slots(history), _slots(present))
    answer = Answer(observed, _slots(forecast), remark)
    if errors and not (answer.observed or answer.forecast):
        raise errors[0]
    return Poll(answer, errors)


def _slots(outcome: _Outcome) -> Slots:
    return () if isinstance(outcome, ProviderError) else outcome
