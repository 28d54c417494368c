"""The fence: who may write is decided by the age of the last renewal, nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from green_api.config import LeaderElection
from green_operator.cluster import elector
from green_operator.cluster.api import ApiError
from green_operator.cluster.elector import LOST_LEASE_EXIT, Elector, Fence


class LeftError(Exception):
    pass


def leave(code: int) -> None:
    raise LeftError(code)


def test_before_it_was_elected_nobody_writes() -> None:
    with pytest.raises(LeftError):
        Fence(6.0, leave).check()


def test_a_renewal_allows_writes_until_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(elector, "boot_time", lambda: now)
    fence = Fence(6.0, leave)
    fence.renewed(at=now)
    now = 1006.0
    fence.check()
    now = 1006.1
    with pytest.raises(LeftError) as left:
        fence.check()
    assert left.value.args == (LOST_LEASE_EXIT,)


class LeaseOfAnother:
    """An API that knows one lease, which somebody else holds and renews."""

    is_away = False
    version = 0

    async def get(self, *_: object) -> dict[str, Any]:
        if self.is_away:
            raise ApiError(0, "no answer")
        self.version += 1
        spec = {"holderIdentity": "other", "leaseDurationSeconds": 9}
        return {"metadata": {"resourceVersion": str(self.version)}, "spec": spec}


def test_a_standby_hears_until_the_api_server_has_been_away_for_two_leases(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(elector, "boot_time", lambda: now)
    api: Any = LeaseOfAnother()
    standby = Elector(api, Fence(6.0, leave), "green", "standby", LeaderElection())
    assert not standby.hears
    assert not asyncio.run(standby._try())
    assert standby.hears
    api.is_away = True
    now = 1017.0
    asyncio.run(standby._try())
    assert standby.hears
    now = 1018.0
    assert not standby.hears
    api.is_away = False
    asyncio.run(standby._try())
    assert standby.hears
