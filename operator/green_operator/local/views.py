"""The runner's memory as the decisions and the accounting see it; pure.

``run_end`` is the Job controller's rule with the pod failure policy that the cluster's Jobs have.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from green_api.contract import ExitCode, JournalEntry, Mark

from green_operator.account.readings import AttemptRecord, Sample
from green_operator.lifecycle.roles import run_of_roles
from green_operator.lifecycle.types import RunEnd, RunView
from green_operator.local.clock import PlanClock
from green_operator.local.state import AttemptState, JobState, RoleState

_FINAL_CODES = {
    ExitCode.USAGE: "InvalidTask",
    ExitCode.CONFIG: "InvalidTask",
    ExitCode.LIMIT: "LimitExceeded",
}


def run_view(state: JobState, retries: int) -> RunView | None:
    """The current run; None before the first."""
    views = role_views(state, retries)
    if not views:
        return None
    return run_of_roles(views) if len(views) > 1 else next(iter(views.values()))


def role_views(state: JobState, retries: int) -> dict[str, RunView]:
    """Each role's part of the current run; none before the first."""
    if state.run == 0:
        return {}
    return {name: _role_view(state, role, retries) for name, role in state.roles.items()}


def _role_view(state: JobState, role: RoleState, retries: int) -> RunView:
    attempts = [a for a in role.attempts if a.run == state.run]
    end, reason, message = run_end(attempts, retries)
    summaries = [a.summary for a in attempts if a.summary is not None]
    return RunView(
        number=state.run,
        suspend=state.suspend,
        active=sum(a.ended is None for a in attempts),
        running=sum(a.ended is None for a in attempts),
        failed_attempts=sum(a.counts_as_failure for a in attempts),
        end=end,
        reason=reason,
        message=message,
        summary=summaries[-1] if summaries else None,
    )


def run_end(attempts: Sequence[AttemptState], retries: int) -> tuple[RunEnd | None, str, str]:
    """Whether a run has ended, with the reason and the last attempt's message.

    An attempt that exits 64 to 66 fails the run at once; everything else that is no suspension or
    disruption counts against the retries.
    """
    if any(a.exit_code == 0 for a in attempts):
        return RunEnd.COMPLETE, "", ""
    failures = [a for a in attempts if a.counts_as_failure]
    for attempt in failures:
        if attempt.exit_code in _FINAL_CODES:
            return RunEnd.FAILED, _FINAL_CODES[ExitCode(attempt.exit_code)], _message(attempt)
    if len(failures) > retries:
        count = f"attempt {len(failures)} of {retries + 1} failed, the last: "
        return RunEnd.FAILED, "BackoffLimitExceeded", count + _message(failures[-1])
    return None, "", ""


def failures_of(role: RoleState) -> list[str]:
    """What each attempt of a role said that failed by itself."""
    return [_message(attempt) for attempt in role.attempts if attempt.counts_as_failure]


def _message(attempt: AttemptState) -> str:
    if attempt.summary is not None:
        return attempt.summary.message
    return f"it ended with exit code {attempt.exit_code}: {attempt.last_words or 'no output'}"


def attempt_records(state: RoleState, clock: PlanClock) -> list[AttemptRecord]:
    """What was seen of each attempt of a role, in the planner's time."""
    return [
        AttemptRecord(
            uid=attempt.uid,
            start=clock.at(attempt.started),
            end=None if attempt.ended is None else clock.at(attempt.ended),
            succeeded=attempt.exit_code == 0,
            samples=tuple(_samples(attempt, state.entries, clock)),
        )
        for attempt in state.attempts
    ]


def _samples(
    attempt: AttemptState, entries: Sequence[JournalEntry], clock: PlanClock
) -> list[Sample]:
    own = [e for e in entries if e.attempt == attempt.uid]
    samples = [Sample(clock.at(e.time), e.mark, tuple(e.counters)) for e in own]
    current = attempt.current
    if current is not None and (not own or current.time > own[-1].time):
        samples.append(Sample(clock.at(current.time), Mark.BOUNDARY, tuple(current.counters)))
    return samples


def active_time(state: RoleState, clock: PlanClock, wall: datetime) -> timedelta:
    """Run time of a role's attempts in the planner's time, pauses not counted."""
    spans = (clock.at(a.ended or wall) - clock.at(a.started) for a in state.attempts)
    return sum(spans, timedelta(0))


def with_entries(state: RoleState, new: Sequence[JournalEntry]) -> RoleState:
    """The role with journal entries added, each once, by sequence."""
    merged = {e.sequence: e for e in (*state.entries, *new)}
    if len(merged) == len(state.entries):
        return state
    return state.with_changes(entries=[merged[key] for key in sorted(merged)])
