"""What is told of a training while it goes on. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from green_api.contract import MAX_TEXT_LENGTH, RoundsProgress, SiteProgress
from green_api.federate import Federate

from green_jobs.tasks.federate.state import InVain, Round, State

_LONGEST_REASON: Final = 200


def rounds_progress(task: Federate, state: State, stalled: str) -> RoundsProgress:
    """How far the rounds are, by site.

    Args:
        task: what is asked for.
        state: after the last round, in vain or not.
        stalled: who is missing; empty while it goes on.

    """
    rounds = state.rounds
    return RoundsProgress(
        rounds=len(rounds),
        accuracy=rounds[-1].accuracy if rounds else None,
        stalled=stalled[:MAX_TEXT_LENGTH],
        sites=[_site(name, state) for name in task.names],
    )


def percentage(task: Federate, rounds: Sequence[Round]) -> float:
    """Share of the rounds that are done; a training that stops sooner ends below 100."""
    return 100.0 * len(rounds) / task.rounds


def _site(name: str, state: State) -> SiteProgress:
    rounds, in_vain = state.rounds, state.in_vain.get(name, InVain())
    reason = in_vain.reason or (rounds[-1].dropped.get(name, "") if rounds else "")
    last = next((r for r in reversed(rounds) if name in r.sites), None)
    accuracy = last.accuracies.get(name) if last is not None else None
    return SiteProgress(
        name=name,
        rounds=sum(name in r.sites for r in rounds),
        dropped=sum(name in r.dropped for r in rounds) + in_vain.dropped,
        reason=reason[:_LONGEST_REASON],
        bytes=sum(r.bytes.get(name, 0) for r in rounds) + in_vain.bytes,
        examples=last.examples.get(name) if last is not None else None,
        # A site's own word: what cannot be is not passed on.
        accuracy=accuracy if accuracy is not None and 0 <= accuracy <= 1 else None,
    )
