"""Asking running pods for progress and energy: a tenant's word, so bounded and checked.

Only pods within the administrator's pod networks, not on the host's network, are asked; a reply
has to name the pod's UID, is limited in size and time, and no redirect is followed. What it says
of energy must be plausible against the reserved hardware.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import aiohttp
from green_api.contract import (
    DEFAULT_PORT,
    MAX_REPLY_BYTES,
    PROGRESS_PATH,
    JournalEntry,
    ProgressReply,
)
from green_api.units import Power
from pydantic import ValidationError

from green_operator.account.plausible import why_implausible
from green_operator.objects.observed import PodRecord

_TIMEOUT_SECONDS: Final = 3.0
_CONCURRENCY: Final = 64
# Bounds what one pod can fill: an interval of five minutes has 288 entries a day.
_PAGES: Final = 2
_KEPT_ENTRIES: Final = 600
_SILENT: Final = "the pod does not answer"


@dataclass(frozen=True, slots=True)
class Heard:
    """What a pod said last."""

    asked: datetime
    reply: ProgressReply | None
    """The last reply that could be used."""
    entries: tuple[JournalEntry, ...]
    """Journal entries since it was first asked by this process, oldest first."""
    answered: datetime
    """When it last answered, or when it was first asked."""
    problem: str
    """Why the last answer cannot be used; empty where it can, or where silence may pass."""


class PodAsker:
    """Keeps what running pods say; each is asked at most once at a time."""

    def __init__(
        self,
        networks: Sequence[str],
        silence: timedelta,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._networks = [ipaddress.ip_network(n, strict=False) for n in networks]
        self._silence = silence
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._free = asyncio.Semaphore(_CONCURRENCY)
        self._heard: dict[str, Heard] = {}
        self._asking: set[str] = set()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def heard(self, uid: str) -> Heard | None:
        """What the pod said last; None where it was not asked yet."""
        return self._heard.get(uid)

    def forget(self, uid: str) -> None:
        """The pod is gone and accounted for."""
        self._heard.pop(uid, None)

    def keep_only(self, uids: Iterable[str]) -> None:
        """Forget every pod but these."""
        kept = set(uids)
        self._heard = {uid: heard for uid, heard in self._heard.items() if uid in kept}

    def entered(self, uid: str, sequence: int) -> None:
        """Entries up to this one are in a stored status: they need not be kept."""
        heard = self._heard.get(uid)
        if heard is not None and heard.entries and heard.entries[0].sequence <= sequence:
            rest = tuple(e for e in heard.entries if e.sequence > sequence)
            self._heard[uid] = replace(heard, entries=rest)

    async def ask(self, pod: PodRecord, after: int, reserved: Power, since: datetime) -> None:
        """Ask a pod for what came after a journal entry, and keep what it says.

        Args:
            pod: a running pod.
            after: the highest sequence that is stored.
            reserved: what the reservation can draw.
            since: no attempt of the job is older.

        """
        if pod.uid in self._asking:
            return
        self._asking.add(pod.uid)
        try:
            async with self._free:
                await self._ask(pod, after, reserved, since)
        finally:
            self._asking.discard(pod.uid)

    async def _ask(self, pod: PodRecord, after: int, reserved: Power, since: datetime) -> None:
        before = self._heard.get(pod.uid)
        reply = before.reply if before is not None else None
        entries = before.entries if before is not None else ()
        asked = self._clock()
        problem = self._out_of_reach(pod)
        for _ in range(_PAGES):
            if problem:
                break
            after = max([after, *(e.sequence for e in entries)])
            answer, problem = await self._fetch(pod, after)
            if answer is None:
                break
            problem = _implausible(answer, pod, reserved, since, self._clock())
            if problem:
                break
            new = [e for e in answer.entries if e.sequence > after]
            reply = answer.model_copy(update={"entries": []})
            entries = (*entries, *new)[-_KEPT_ENTRIES:]
            if not answer.more or not new:
                break
        answered = before.answered if before is not None else asked
        if not problem:
            answered = asked
        elif problem == _SILENT and asked < answered + self._silence:
            # One that starts or ends is silent for a while.
            problem = before.problem if before is not None else ""
        self._heard[pod.uid] = Heard(asked, reply, entries, answered, problem)

    def _out_of_reach(self, pod: PodRecord) -> str:
        if pod.host_network:
            return "the pod is on its host's network and is not asked"
        try:
            address = ipaddress.ip_address(pod.ip)
        except ValueError:
            return "the pod has no address yet"
        if not any(address in network for network in self._networks):
            return "the pod's address lies outside the administrator's pod networks"
        return ""

    async def _fetch(self, pod: PodRecord, after: int) -> tuple[ProgressReply | None, str]:
        if self._session is None:
            # A session of its own: it holds no credentials that a pod could be sent.
            self._session = aiohttp.ClientSession(
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS),
                # A kept connection may reach another tenant's pod that got the address since.
                connector=aiohttp.TCPConnector(limit=_CONCURRENCY, force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
        url = f"http://{host}:{DEFAULT_PORT}{PROGRESS_PATH}?after={after}"
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                if response.status != 200:
                    return None, "the pod does not answer as it should"
                body = await response.content.read(MAX_REPLY_BYTES + 1)
                while len(body) <= MAX_REPLY_BYTES and not response.content.at_eof():
                    body += await response.content.read(MAX_REPLY_BYTES + 1 - len(body))
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None, _SILENT
        if len(body) > MAX_REPLY_BYTES:
            return None, "the pod's answer is too long"
        try:
            reply = ProgressReply.model_validate_json(body)
        except ValidationError:
            return None, "the pod's answer does not fit the contract"
        if reply.attempt != pod.uid:
            return None, "another attempt than the pod's answers"
        return reply, ""


def _implausible(
    reply: ProgressReply, pod: PodRecord, reserved: Power, earliest: datetime, now: datetime
) -> str:
    """What is not to be believed of a reply; empty where all is plausible."""
    for entry in (*reply.entries, reply.current):
        since = pod.metered_since(entry.attempt, earliest)
        if problem := why_implausible(entry, reserved, since, now):
            return problem
    return ""
