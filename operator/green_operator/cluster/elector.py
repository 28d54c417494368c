"""Leader election by a Lease: one replica acts, and knows when it may no longer.

The lease's own times are written by the holder's wall clock and never compared with another
machine's: a candidate takes over when *it* has seen the lease unchanged for its whole duration.
Whether this process may write is decided on CLOCK_BOOTTIME, which goes on while a process or its
machine is stopped, by the age of the last renewal, taken at the start of its request.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from green_api.config import LeaderElection

from green_operator.cluster.api import LEASES, Api, ApiError

LEASE_NAME: Final = "green-training-operator"
LOST_LEASE_EXIT: Final = 3
"""The process's exit code where the lease was lost: the kubelet starts it anew as a candidate."""

_AGAIN_SECONDS: Final = 0.2

_logger = logging.getLogger(__name__)


def boot_time() -> float:
    """Seconds since boot, the time of a stopped process or a sleeping machine included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Fence:
    """Whether this process may write: it leads, and renewed its lease not too long ago."""

    def __init__(self, renew_deadline: float, leave: Callable[[int], Any] = os._exit) -> None:
        self._renew_deadline = renew_deadline
        self._leave = leave
        self._renewed: float | None = None

    @property
    def leads(self) -> bool:
        """Whether the process has the lease, as far as it knows."""
        return self._renewed is not None

    def renewed(self, at: float) -> None:
        """The lease was renewed by a request that began at this boot time."""
        self._renewed = at

    def check(self) -> None:
        """Return where this process may write; end it where the lease may be another's.

        Ending at once is the point: any clean-up might be a write beside the new leader's.
        """
        if self._renewed is None or boot_time() - self._renewed > self._renew_deadline:
            _logger.error("the lease was not renewed in time: another replica may lead; ending")
            self._leave(LOST_LEASE_EXIT)


class Elector:
    """Acquires the lease, renews it, and ends the process when it is lost."""

    def __init__(
        self, api: Api, fence: Fence, namespace: str, identity: str, settings: LeaderElection
    ) -> None:
        self._api = api
        self._fence = fence
        self._namespace = namespace
        self._identity = identity
        self._settings = settings
        self._observed: tuple[Any, float] | None = None
        self._answered = -math.inf

    @property
    def hears(self) -> bool:
        """The API server told of the lease not long ago: within two of its durations."""
        limit = 2 * self._settings.lease_duration.total_seconds()
        return boot_time() - self._answered < limit

    async def run(self, on_elected: Callable[[], Any]) -> None:
        """Stand as a candidate, then renew for ever."""
        while not await self._try():
            await asyncio.sleep(self._settings.retry_period.total_seconds())
        _logger.info("this replica leads")
        on_elected()
        period = self._settings.retry_period.total_seconds()
        while True:
            began = boot_time()
            renewed = await self._try()
            self._fence.check()
            elapsed = boot_time() - began
            # A renewal that failed is tried again at once: time is short.
            await asyncio.sleep(max(period - elapsed, 0.0) if renewed else _AGAIN_SECONDS)

    async def release(self) -> None:
        """Give the lease back at an orderly end, so that the next replica need not wait."""
        lease = await self._api.get(LEASES, self._namespace, LEASE_NAME)
        if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
            lease["spec"] |= {"holderIdentity": "", "renewTime": _now()}
            await self._api.replace(LEASES, lease)

    async def _try(self) -> bool:
        """One attempt to acquire or renew; trouble of any kind is only a failed attempt."""
        began = boot_time()
        try:
            held = await self._acquire(began)
        except ApiError as error:
            _logger.warning("the lease could not be renewed: %s", error)
            return False
        self._answered = began
        if held:
            self._fence.renewed(began)
        return held

    async def _acquire(self, began: float) -> bool:
        lease = await self._api.get(LEASES, self._namespace, LEASE_NAME)
        if lease is None:
            await self._api.create(LEASES, self._new())
            return True
        holder = lease["spec"].get("holderIdentity") or ""
        if holder == self._identity:
            return await self._renew(lease)
        if self._fence.leads:
            # Somebody else has it: this process may not write one thing more.
            self._fence.renewed(float("-inf"))
            self._fence.check()
        version = lease["metadata"]["resourceVersion"]
        if self._observed is None or self._observed[0] != version:
            self._observed = (version, began)
        duration = lease["spec"].get("leaseDurationSeconds") or 0
        if holder and began - self._observed[1] < duration:
            return False
        transitions = lease["spec"].get("leaseTransitions") or 0
        lease["spec"] |= {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._duration,
            "acquireTime": _now(),
            "leaseTransitions": transitions + 1,
        }
        return await self._renew(lease)

    async def _renew(self, lease: dict[str, Any]) -> bool:
        lease["spec"]["renewTime"] = _now()
        await self._api.replace(LEASES, lease)
        return True

    @property
    def _duration(self) -> int:
        return math.ceil(self._settings.lease_duration.total_seconds())

    def _new(self) -> dict[str, Any]:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": LEASE_NAME, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": self._duration,
                "acquireTime": _now(),
                "renewTime": _now(),
                "leaseTransitions": 0,
            },
        }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
