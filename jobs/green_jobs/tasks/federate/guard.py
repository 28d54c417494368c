"""Every update is looked at before a strategy sees it: a bad one costs itself, never the round.

By trial, Flower 1.41 takes NaN, infinity, a millionfold update, an invented sample count and a
shape that can be broadcast in silence, and one malformed reply ends its run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[np.generic]]
"""Weights by parameter's name, in the model's order."""

NORM_FACTOR: Final = 10.0
"""An update so many times as far from the global weights as others is dropped."""
METRICS: Final = frozenset({"num-examples", "loss", "accuracy"})
"""What a site reports with its update."""


@dataclass(frozen=True, slots=True)
class Update:
    """What a site sent back."""

    site: str
    arrays: Arrays
    metrics: Mapping[str, object]


class Fault(Enum):
    """What another try could bring."""

    SILENT = "silent"
    """The site did not answer; it may be back."""
    ANSWER = "answer"
    """What it answered is no use; as rounds are deterministic, it will be the same again."""
    CONFIG = "config"
    """It cannot work as the task is written: its own word."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an update does not count."""

    site: str
    reason: str
    """For people."""
    fault: Fault = Fault.ANSWER


@dataclass(frozen=True, slots=True)
class Expected:
    """What an update is held against."""

    arrays: Arrays
    """The global weights that the sites were sent."""
    examples: Mapping[str, int]
    """By site, how many examples it declared at its start."""
    longest: float = 0.0
    """Of the updates that earlier rounds took, how far one was from the global weights; 0 where
    nothing is known."""


@dataclass(frozen=True, slots=True)
class Sifted:
    """What is left of a round's updates."""

    good: list[Update]
    rejected: list[Rejection]
    lengths: dict[str, float]
    """By site, of those that count."""


def sift(updates: Sequence[Update], expected: Expected) -> Sifted:
    """The updates that count, and why the others do not."""
    good, rejected = [], []
    for update in updates:
        reason = why_malformed(update, expected)
        if reason:
            rejected.append(Rejection(update.site, reason))
        else:
            good.append(update)
    return _drop_far(good, rejected, expected)


def why_malformed(update: Update, expected: Expected) -> str:
    """What is wrong with an update by itself; empty where nothing is."""
    return _why_metrics(update, expected) or _why_arrays(update.arrays, expected.arrays)


def _why_metrics(update: Update, expected: Expected) -> str:
    if update.metrics.keys() != METRICS:
        return f"its metrics are {sorted(update.metrics)[:8]}, not {sorted(METRICS)}"
    for name, value in update.metrics.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            return f"its {name} is {str(value)[:40]!r}, no finite number"
    count, declared = update.metrics["num-examples"], expected.examples.get(update.site, 0)
    if not isinstance(count, int) or not 0 < count <= declared:
        return f"it says that it trained on {count} examples; it declared {declared}"
    return ""


def _why_arrays(arrays: Arrays, expected: Arrays) -> str:
    if arrays.keys() != expected.keys():
        odd = sorted(arrays.keys() ^ expected.keys())
        return f"its parameters are not the model's: {', '.join(odd[:4])}"
    for name, array in arrays.items():
        wanted = expected[name]
        if array.shape != wanted.shape or array.dtype != wanted.dtype:
            return (
                f"{name} is {array.dtype}{list(array.shape)}, "
                f"not {wanted.dtype}{list(wanted.shape)}"
            )
        if not np.isfinite(array).all():
            return f"{name} holds values that are not finite"
    return ""


def _drop_far(good: list[Update], rejected: list[Rejection], expected: Expected) -> Sifted:
    lengths = {u.site: distance(u.arrays, expected.arrays) for u in good}
    usual, words = _usual(list(lengths.values()), expected)
    far = {s: n for s, n in lengths.items() if 0 < NORM_FACTOR * usual < n}
    reasons = [
        Rejection(s, f"its update is {n:.3g} long, more than {NORM_FACTOR:g} times {words}")
        for s, n in far.items()
    ]
    near = [update for update in good if update.site not in far]
    return Sifted(near, [*rejected, *reasons], {u.site: lengths[u.site] for u in near})


def _usual(lengths: Sequence[float], expected: Expected) -> tuple[float, str]:
    """What lengths are held against, 0 where nothing is known, and its words.

    Of fewer than three nobody can say which is wrong, and where most sites have changed nothing the
    median says nothing: then earlier rounds have to.
    """
    median = float(np.median(lengths)) if len(lengths) >= 3 else 0.0
    if median > 0:
        return median, "the median"
    return expected.longest, "the longest that was taken before"


def distance(arrays: Arrays, origin: Arrays) -> float:
    """Euclidean distance over all parameters of floating point."""
    squares = (
        float(np.sum(np.square(arrays[n].astype(np.float64) - origin[n].astype(np.float64))))
        for n in origin
        if np.issubdtype(origin[n].dtype, np.floating)
    )
    return float(np.sqrt(sum(squares)))
