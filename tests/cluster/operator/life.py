"""One whole life of a job, watched over while faults are injected."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from tests.cluster.harness.client import GREEN_JOBS, Object
from tests.cluster.harness.container import Truth
from tests.cluster.harness.operator import OperatorProcess
from tests.cluster.harness.proxy import ApiProxy
from tests.cluster.harness.script import UNTIL_TOLD, Message, Script
from tests.cluster.harness.waiting import wait_for
from tests.cluster.operator.world import World, joules_of
from tests.conftest import SEED, WHOLE

# A restarted replica has to wait until its predecessor's lease has run out.
ELECTION = {"leaseDuration": "3s", "renewDeadline": "2s", "retryPeriod": "500ms"}
ONCE = {"Planned", "Started", "Suspended", "Resumed", "Succeeded", "Failed"}
WATTS = 4.0
"""Of the core that a job reserves where it says nothing."""


class Life:
    """One job from its creation to its success, with a suspension, beside a mortal operator."""

    name = "shrink"

    def __init__(self, world: World, proxy: ApiProxy, timeout: float = 60) -> None:
        self.timeout = timeout
        self.world = world
        self.proxy = proxy
        self.deaths = 0
        self.operator: OperatorProcess = self._start()

    def run(self) -> None:
        world, kubelet = self.world, self.world.kubelet
        kubelet.scripts["shrink"] = UNTIL_TOLD
        world.create("shrink", ttlSecondsAfterFinished=100_000)
        self.until("Running")
        kubelet.wait_running("shrink")
        world.change("shrink", {"suspend": True})
        self.until("Suspended")
        self.wait(lambda: not world.pods("shrink"), "the pod is gone")
        world.change("shrink", {"suspend": False})
        self.until("Running")
        self.wait(lambda: kubelet.running("shrink"), "it runs again")
        kubelet.finish("shrink")
        self.until("Succeeded")

    def check(self) -> None:
        """What has to hold whatever went wrong."""
        status = self.world.status("shrink")
        assert len(self.world.runs("shrink")) == 1
        truths = self.world.kubelet.truth("shrink")
        assert len(truths) == 2
        for earlier, later in pairwise(truths):
            assert earlier.ended is not None
            assert earlier.ended <= later.started, "two pods at once"
        assert joules_of(status) == pytest.approx(self.world.kubelet.joules("shrink"), abs=0.005)
        assert status["run"]["attempts"] == 2
        assert status["account"]["latest"][-1]["succeeded"] is True
        told = [reason for reason in self.world.events("shrink") if reason in ONCE]
        assert len(told) == len(set(told)), f"told twice: {told}"

    def until(self, state: str) -> Object:
        """The first status that says so: the next moment the job may be gone."""

        def found() -> Object | None:
            status = self.world.status(self.name)
            return status if status.get("state") == state else None

        reached: Object = self.wait(found, f"it is {state}")
        return reached

    def wait(self, predicate: Callable[[], object], what: str) -> Any:
        """Wait, and start the operator again where it has died."""

        def tended() -> object:
            is_down = self.operator.exit_code is not None
            try:
                # First: what the dead one has left, the next one may at once delete.
                return predicate()
            finally:
                if is_down:
                    self.deaths += 1
                    self.operator = self._start()

        return wait_for(
            tended, self.timeout, what,
            seen=lambda: (self.world.status(self.name), [o.tail(30) for o in self.world.operators]),
        )  # fmt: skip

    def _start(self) -> OperatorProcess:
        name = f"operator-{len(self.world.operators)}"
        config = {"leaderElection": ELECTION}
        return self.world.start_operator(name, config=config, server=self.proxy.url)


class ShortLife(Life):
    """A job whose attempts say that they are done and leave no marker, deleted when it has failed."""

    last: Object
    """Its status before it was deleted."""

    def run(self) -> None:
        world = self.world
        # Kubernetes tells times in whole seconds: in less than two there may be nothing to estimate.
        world.kubelet.scripts["shrink"] = Script(seconds=2, message=Message.ABSENT)
        world.create("shrink", retries=1, ttlSecondsAfterFinished=2)
        self.last = self.until("Failed")
        self.wait(lambda: self._is_gone, "it is deleted")

    def check(self) -> None:
        """What has to hold of a short life, whatever was killed."""
        truths = self.world.kubelet.truth("shrink")
        first, second = truths
        assert first.ended is not None
        assert first.ended <= second.started, "two pods at once"
        self._check_last(truths)
        told = [reason for reason in self.world.events("shrink") if reason in ONCE]
        assert len(told) == len(set(told)), f"told twice: {told}"
        self.world.wait_collected("shrink")

    def _check_last(self, truths: Sequence[Truth]) -> None:
        """The job is gone: this was its last word."""
        run, attempts = self.last["run"], self.last["account"]["latest"]
        (end,) = [c for c in self.last["conditions"] if c["type"] == "Failed"]
        assert (end["status"], end["reason"]) == ("True", "NoDoneMarker")
        assert (run["number"], run["attempts"]) == (2, 2)
        assert [a["uid"] for a in attempts] == [truth.uid for truth in truths]
        # They left no last words: what nobody saw is estimated, in whole seconds.
        energy, drawn = self.last["energy"], sum(truth.total for truth in truths)
        assert energy["measuredJoules"] <= drawn
        assert 0 < energy["joules"] <= drawn + len(truths) * WATTS, energy
        assert joules_of(self.last) == pytest.approx(energy["joules"], abs=2)
        for attempt in attempts:
            last, ended = (datetime.fromisoformat(attempt[k]) for k in ("lastTime", "endTime"))
            # The second one may have told how the first one ended.
            is_unseen = last < ended and not attempt.get("toldEnd", False)
            assert ("tail" in attempt) is is_unseen, attempt

    @property
    def _is_gone(self) -> bool:
        return self.world.admin.find(GREEN_JOBS, self.name, self.world.namespace) is None


def kill_cases(most: int, *, reached: int, sample: int) -> list[tuple[int, bool]]:
    """Writes to be killed at, before and after each: all, or a seeded sample.

    Args:
        most: writes that a life has at most.
        reached: so many each life has: a sample is taken where it counts.
        sample: how many cases it has.

    """
    every = [(number, after) for number in range(1, most + 1) for after in (False, True)]
    return every if WHOLE else sorted(random.Random(SEED).sample(every[: 2 * reached], sample))
