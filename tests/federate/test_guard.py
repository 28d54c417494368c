"""Updates that are no use are dropped with a reason before any strategy sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from green_jobs.tasks.federate.guard import Expected, Update, sift
from hypothesis import given
from hypothesis import strategies as st

ORIGIN = {"w": np.zeros((3, 2), np.float32), "n": np.zeros((), np.int64)}
EXPECTED = Expected(ORIGIN, {f"s{i}": 100 for i in range(6)})


def update(site: str, shift: float = 1.0, **changes: Any) -> Update:
    arrays = {"w": ORIGIN["w"] + np.float32(shift), "n": np.int64(5).reshape(())}
    metrics = {"num-examples": 50, "loss": 0.5, "accuracy": 0.5, **changes.pop("metrics", {})}
    return Update(site, {**arrays, **changes.pop("arrays", {})}, metrics)


def without(update: Update, part: str, name: str) -> Update:
    kept = {k: v for k, v in getattr(update, part).items() if k != name}
    return Update(
        update.site,
        kept if part == "arrays" else update.arrays,
        kept if part == "metrics" else update.metrics,
    )


BAD: list[tuple[Callable[[], Update], str]] = [
    (lambda: update("s0", arrays={"w": np.full((3, 2), np.nan, np.float32)}), "not finite"),
    (lambda: update("s0", arrays={"w": np.full((3, 2), np.inf, np.float32)}), "not finite"),
    (lambda: update("s0", shift=1e6), "times the median"),
    (lambda: update("s0", metrics={"num-examples": 10**12}), "it declared 100"),
    (lambda: update("s0", metrics={"num-examples": -499}), "it declared 100"),
    (lambda: update("s0", metrics={"num-examples": 0}), "it declared 100"),
    (lambda: update("s0", metrics={"num-examples": True}), "no finite number"),
    (lambda: update("s0", metrics={"num-examples": 50.0}), "it declared 100"),
    (lambda: update("s0", metrics={"loss": float("nan")}), "no finite number"),
    (lambda: update("s0", metrics={"mood": 1}), "its metrics are"),
    (lambda: without(update("s0"), "metrics", "loss"), "its metrics are"),
    (lambda: without(update("s0"), "arrays", "n"), "its parameters are not the model's: n"),
    (lambda: update("s0", arrays={"w": np.ones((1,), np.float32)}), "w is float32[1], not float32[3, 2]"),
    (lambda: update("s0", arrays={"w": np.ones((3, 2), np.float64)}), "w is float64"),
    (lambda: update("stranger"), "it declared 0"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "says"), BAD)
def test_a_bad_update_costs_itself_alone(make: Callable[[], Update], says: str) -> None:
    others = [update(f"s{i}", 1 + i / 10) for i in range(1, 6)]
    bad = make()
    sifted = sift([bad, *others], EXPECTED)
    assert [u.site for u in sifted.good] == [u.site for u in others]
    assert [r.site for r in sifted.rejected] == [bad.site]
    assert says in sifted.rejected[0].reason


def test_of_two_updates_nobody_can_say_which_is_too_far_before_any_was_taken() -> None:
    sifted = sift([update("s0", 1e6), update("s1")], EXPECTED)
    assert [u.site for u in sifted.good] == ["s0", "s1"]
    assert sifted.rejected == []


@pytest.mark.parametrize("others", [[1.0], [0.0, 0.0, 0.0], []], ids=["two", "unmoved", "alone"])
def test_where_a_median_says_nothing_the_earlier_rounds_do(others: list[float]) -> None:
    earlier = replace(EXPECTED, longest=2.0)
    honest = [update(f"s{i}", shift) for i, shift in enumerate(others, 1)]
    sifted = sift([update("s0", 1e6), *honest], earlier)
    assert sifted.good == honest
    assert sifted.lengths.keys() == {u.site for u in honest}
    (told,) = sifted.rejected
    assert told.site == "s0"
    assert "more than 10 times the longest that was taken before" in told.reason


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=6))
def test_every_update_is_either_taken_or_told(shifts: list[float]) -> None:
    updates = [update(f"s{i}", shift) for i, shift in enumerate(shifts)]
    sifted = sift(updates, EXPECTED)
    named = [u.site for u in sifted.good] + [r.site for r in sifted.rejected]
    assert sorted(named) == [u.site for u in updates]
    assert sifted.good
