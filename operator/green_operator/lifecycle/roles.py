"""A run of several roles, seen as one; and each of them, as a status shows it.

The server's end is the run's. A site that fails for good ends only itself: the server goes on
without it, or says that it is stalled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from green_api.contract import RoundsProgress, SiteProgress
from green_api.federate import SERVER
from green_api.status import RoleState, RoleStatus

from green_operator.account.statement import Statement
from green_operator.lifecycle.text import printable
from green_operator.lifecycle.types import POD_NOT_ENDING, RoleView, RunEnd, RunView, Snapshot

_MAX_MESSAGE: Final = 256


def run_of_roles(views: Mapping[str, RunView]) -> RunView:
    """One run of several roles: it has ended once its server has and nothing is active any more.

    Sites that work for a server on a node that is down do no round: that is no run that works.

    Args:
        views: by role, its part of the run; the server's first.

    """
    (_, server), *sites = views.items()
    active = sum(view.active for view in views.values())
    left = sum(view.active for _, view in sites)
    is_closing = server.end is not None and left > 0
    obstacles = (view.obstacle for view in views.values())
    is_down = server.obstacle is not None and server.obstacle.reason == POD_NOT_ENDING
    return replace(
        server,
        active=active,
        running=0 if is_down else sum(view.running for view in views.values()),
        failed_attempts=sum(view.failed_attempts for view in views.values()),
        end=None if is_closing else server.end,
        obstacle=next((o for o in obstacles if o is not None), None),
        closing=server.end if is_closing else None,
        lost="; ".join(
            f"{role} failed: {view.message}" for role, view in sites if view.end is RunEnd.FAILED
        ),
    )


def role_statuses(snapshot: Snapshot) -> list[RoleStatus] | None:
    """What the status says of each role; None for a job with one role."""
    if not snapshot.roles:
        return None
    rounds = rounds_of(snapshot)
    known = snapshot.previous.roles if snapshot.previous is not None else None
    before = {row.name: row for row in known or ()}
    is_over = snapshot.run is not None and snapshot.run.end is RunEnd.COMPLETE
    return [_row(view, rounds, before.get(view.name), is_over=is_over) for view in snapshot.roles]


def rounds_of(snapshot: Snapshot) -> RoundsProgress | None:
    """How the rounds went: by the server's last word, which its termination message is."""
    summary = snapshot.run.summary if snapshot.run is not None else None
    if summary is not None and summary.result is not None and summary.result.rounds is not None:
        return summary.result.rounds
    return snapshot.progress.rounds if snapshot.progress is not None else None


def _row(
    view: RoleView, rounds: RoundsProgress | None, before: RoleStatus | None, *, is_over: bool
) -> RoleStatus:
    state, message = _state(view.run, is_over=is_over)
    own = _figures(view.name, rounds)
    if own is None and before is not None:
        # What nobody says now is kept.
        own = SiteProgress(
            name=view.name,
            rounds=before.rounds,
            dropped=before.dropped_updates,
            bytes=before.bytes,
            examples=before.examples,
            accuracy=before.accuracy,
        )
    own = own or SiteProgress(name=view.name)
    dropped = f"its last update was dropped: {own.reason}" if own.reason else ""
    return RoleStatus(
        name=view.name,
        state=state,
        message=printable(message or dropped)[:_MAX_MESSAGE],
        zone=view.zone,
        joules=round(view.statement.energy.joules) if view.statement is not None else 0,
        micrograms=_micrograms(view.statement),
        rounds=own.rounds,
        dropped_updates=own.dropped,
        bytes=own.bytes,
        examples=own.examples,
        accuracy=own.accuracy,
    )


def _state(run: RunView | None, *, is_over: bool) -> tuple[RoleState, str]:
    if run is None:
        return RoleState.WAITING, ""
    if run.end is RunEnd.FAILED:
        return RoleState.FAILED, run.message
    # A site that was away when the others were told to end has nothing left to do.
    if run.end is RunEnd.COMPLETE or is_over:
        return RoleState.ENDED, ""
    if run.running:
        return RoleState.RUNNING, ""
    return RoleState.WAITING, run.obstacle.message if run.obstacle is not None else ""


def _figures(role: str, rounds: RoundsProgress | None) -> SiteProgress | None:
    if rounds is None:
        return None
    if role != SERVER:
        return next((site for site in rounds.sites if site.name == role), None)
    return SiteProgress(
        name=SERVER,
        rounds=rounds.rounds,
        dropped=sum(site.dropped for site in rounds.sites),
        bytes=sum(site.bytes for site in rounds.sites),
        accuracy=rounds.accuracy,
    )


def _micrograms(statement: Statement | None) -> int | None:
    if statement is None or statement.signal is None:
        return None
    return statement.emissions.micrograms
