"""The fence: who may write is decided by the age of the last renewal, nothing else."""

from __future__ import annotations

import pytest
from green_operator.cluster import elector
from green_operator.cluster.elector import LOST_LEASE_EXIT, Fence


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
