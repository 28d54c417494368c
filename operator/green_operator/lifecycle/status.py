"""The whole status from a snapshot and the state that was decided."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from green_api.base import Provenance
from green_api.status import (
    Condition,
    ConditionStatus,
    ConditionType,
    EmissionsStatus,
    EnergyStatus,
    JobStatus,
    PlanStatus,
    ProgressStatus,
    RunStatus,
    State,
)
from green_api.status import Window as StatusWindow
from green_api.units import Emissions, Energy, Intensity

from green_operator.account.statement import Statement
from green_operator.amounts import format_difference
from green_operator.lifecycle.roles import role_statuses, rounds_of
from green_operator.lifecycle.text import printable
from green_operator.lifecycle.types import POD_NOT_ENDING, Snapshot
from green_operator.plan.explain import explain
from green_operator.plan.types import PlanReason

PLAN: Final = "Plan"
"""Reason of what the planner suspends."""
PERSON: Final = "Person"
"""Reason of what a person suspends."""
STARTING: Final = "Starting"
"""Reason of what is to run and does not yet."""
_MAX_WINDOWS: Final = 48
_MAX_MESSAGE: Final = 1024


def build_status(snapshot: Snapshot, state: State, reason: str, message: str) -> JobStatus:
    """The complete status; conditions keep the time of their last transition."""
    previous, run = snapshot.previous, snapshot.run
    summary = run.summary if run else None
    planned = _plan(snapshot)
    return JobStatus(
        observed_generation=snapshot.job.metadata.generation,
        state=state,
        message=printable(message)[:_MAX_MESSAGE],
        start_time=snapshot.started,
        completion_time=_completion(snapshot, state),
        deadline=snapshot.deadline,
        planned_start=_planned_start(snapshot, state),
        first_planned_start=_first_planned_start(snapshot),
        difference=_difference(snapshot, state),
        plan=planned or (previous.plan if previous else None),
        run=_run(snapshot),
        progress=_progress(snapshot, state),
        energy=_energy(snapshot.statement),
        emissions=_emissions(snapshot.statement),
        account=snapshot.account,
        accounts=None if snapshot.accounts is None else list(snapshot.accounts),
        roles=role_statuses(snapshot),
        result=summary.result if summary else None,
        report_path=summary.report_path if summary else None,
        report_sha256=summary.report_sha256 if summary else None,
        conditions=_conditions(snapshot, state, reason, message, planned),
    )


def _completion(snapshot: Snapshot, state: State) -> datetime | None:
    if not state.is_final:
        return None
    run = snapshot.run
    # Seen later, as after an outage, it is no later an end.
    has_ended = run is not None and run.end is not None
    return (snapshot.ended if has_ended else None) or snapshot.now


def _plan(snapshot: Snapshot) -> PlanStatus | None:
    plan = snapshot.plan
    if plan is None:
        return None
    estimated = snapshot.job.spec.schedule.expected_duration is not None
    then, now = plan.expected, plan.run_now
    return PlanStatus(
        reason=plan.reason.value,
        message=explain(plan, snapshot.now),
        zone=plan.zone,
        signal=plan.signal,
        windows=[StatusWindow(start=w.start, end=w.end) for w in plan.windows[:_MAX_WINDOWS]],
        latest_start=plan.latest_start,
        intensity_grams_per_kilowatt_hour=_whole(then.intensity),
        run_now_intensity_grams_per_kilowatt_hour=_whole(now.intensity),
        renewable_percent=_percent(then.renewable_share),
        expected_energy_joules=_joules(then.energy) if estimated else None,
        expected_emissions_micrograms=_micrograms(then.emissions) if estimated else None,
        run_now_emissions_micrograms=_micrograms(now.emissions) if estimated else None,
    )


def _run(snapshot: Snapshot) -> RunStatus | None:
    if snapshot.run is None:
        # A run that is gone is remembered until the next one is made.
        return snapshot.previous.run if snapshot.previous is not None else None
    return RunStatus(
        number=snapshot.run.number,
        name=snapshot.run.name,
        uid=snapshot.run.uid,
        attempts=snapshot.attempts,
        failed_attempts=snapshot.run.failed_attempts,
        active_seconds=round(snapshot.active_time.total_seconds()),
    )


def _planned_start(snapshot: Snapshot, state: State) -> datetime | None:
    plan = snapshot.plan
    waits = state in {State.PLANNED, State.SUSPENDED} and not snapshot.job.spec.suspend
    if plan is None or not waits:
        return None
    return None if plan.runs_at(snapshot.now) else plan.windows[0].start


def _first_planned_start(snapshot: Snapshot) -> datetime | None:
    """What was planned before the first start, which every later status keeps."""
    plan, previous = snapshot.plan, snapshot.previous
    before = previous.first_planned_start if previous is not None else None
    if plan is None or snapshot.started is not None:
        return before
    # What is due stays due since then, however late its pod is.
    is_due = before is not None and before <= snapshot.now and plan.runs_at(snapshot.now)
    return before if is_due else plan.windows[0].start


def _progress(snapshot: Snapshot, state: State) -> ProgressStatus | None:
    progress = snapshot.progress
    if state is State.SUCCEEDED:
        # The last answer is from before the end.
        return ProgressStatus(progress_percentage=100, estimated_remaining_seconds=0)
    if progress is None:
        return None
    remaining = progress.estimated_remaining_seconds
    return ProgressStatus(
        progress_percentage=None if progress.percentage is None else int(progress.percentage),
        estimated_remaining_seconds=None if remaining is None else round(remaining),
        phase=printable(progress.phase),
    )


def _energy(statement: Statement | None) -> EnergyStatus | None:
    if statement is None:
        return None
    part = {p: _joules(statement.of(p)) for p in Provenance}
    # The whole is the sum of the rounded parts, so that what is shown adds up.
    return EnergyStatus(
        joules=sum(part.values()),
        measured_joules=part[Provenance.MEASURED],
        attributed_joules=part[Provenance.ATTRIBUTED],
        estimated_joules=part[Provenance.ESTIMATED],
    )


def _emissions(statement: Statement | None) -> EmissionsStatus | None:
    if statement is None or statement.zone is None or statement.signal is None:
        return None
    actual = statement.emissions.micrograms
    counterfactual = _micrograms(statement.counterfactual)
    return EmissionsStatus(
        signal=statement.signal,
        zone=statement.zone,
        micrograms=actual,
        counterfactual_micrograms=counterfactual,
        # Of the rounded values, so that what is shown adds up.
        difference_micrograms=(
            None
            if counterfactual is None or statement.difference is None
            else counterfactual - actual
        ),
        unaccounted_joules=_joules(statement.unaccounted),
    )


def _difference(snapshot: Snapshot, state: State) -> str | None:
    """The difference so far, or the expected one before there is anything to account for."""
    statement, plan = snapshot.statement, snapshot.plan
    if statement is not None and statement.energy.joules:
        if statement.difference is None:
            return None
        return format_difference(statement.difference, statement.counterfactual)
    if plan is None or plan.saving is None or state.is_final:
        return None
    return f"{format_difference(plan.saving, plan.run_now.emissions)} expected"


def _conditions(
    snapshot: Snapshot, state: State, reason: str, message: str, plan: PlanStatus | None
) -> list[Condition]:
    suspended = state is State.SUSPENDED and reason in {PLAN, PERSON}
    said: list[tuple[ConditionType, bool, str, str]] = [
        (ConditionType.ACCEPTED, True, "Valid", "the manifest can be worked with"),
        (
            ConditionType.INTENSITY_AVAILABLE,
            snapshot.intensity_known,
            "SourceUsable" if snapshot.intensity_known else "NoUsableSource",
            snapshot.intensity_source,
        ),
        (
            ConditionType.SUSPENDED,
            suspended,
            reason if suspended else "NotSuspended",
            message if suspended else "",
        ),
        _running(snapshot, state, reason, message),
    ]
    if plan is not None:
        at_risk = plan.reason == PlanReason.DEADLINE_AT_RISK
        said += [
            (ConditionType.PLANNED, True, plan.reason, plan.message),
            (
                ConditionType.DEADLINE_AT_RISK,
                at_risk,
                "DoesNotFit" if at_risk else "Fits",
                plan.message if at_risk else "",
            ),
        ]
    if snapshot.run is not None and snapshot.run.running:
        problem = snapshot.progress_problem
        said.append(
            (
                ConditionType.PROGRESS_AVAILABLE,
                not problem,
                "NoUsableAnswer" if problem else "Answered",
                f"{problem}; its energy is estimated" if problem else "",
            )
        )
    said += [*_places(snapshot), *_stalled(snapshot, state)]
    if snapshot.claim is not None:
        said.append(
            (ConditionType.CLAIM_BOUND, False, snapshot.claim.reason, snapshot.claim.message)
        )
    if state.is_final:
        said.append((ConditionType(state.value), True, reason, message))
    return _with_transitions(said, snapshot, state)


def _running(
    snapshot: Snapshot, state: State, reason: str, message: str
) -> tuple[ConditionType, bool, str, str]:
    if state is State.RUNNING:
        return (ConditionType.RUNNING, True, "PodRunning", "")
    run = snapshot.run
    held = snapshot.leftover or (run.obstacle if run is not None else None)
    if held is not None and held.reason == POD_NOT_ENDING:
        return (ConditionType.RUNNING, False, held.reason, held.message)
    return (ConditionType.RUNNING, False, reason, message)


def _places(snapshot: Snapshot) -> list[tuple[ConditionType, bool, str, str]]:
    """Where the attempts ran against where they were planned, and whether that can be compared."""
    statement, plan = snapshot.statement, snapshot.plan
    said: list[tuple[ConditionType, bool, str, str]] = []
    if statement is None:
        return said
    if plan is not None and plan.zone is not None and statement.zone is not None:
        same = plan.zone == statement.zone
        text = f"planned in zone {plan.zone}, its pod ran in zone {statement.zone}"
        reason = "SameZone" if same else "OtherZone"
        said.append((ConditionType.ZONE_AS_PLANNED, same, reason, "" if same else text))
    if statement.is_mixed:
        kinds = ", ".join(signal.value for signal in statement.signals)
        text = f"the emissions add up intensities of several kinds: {kinds}"
        said.append((ConditionType.SIGNAL_CONSISTENT, False, "SignalsMixed", text))
    return said


def _stalled(snapshot: Snapshot, state: State) -> list[tuple[ConditionType, bool, str, str]]:
    """Whether a federated job has enough sites, as its server says while it runs."""
    rounds = rounds_of(snapshot)
    if rounds is None or state is not State.RUNNING or snapshot.run is None:
        return []
    if not rounds.stalled:
        return [(ConditionType.STALLED, False, "EnoughSites", "")]
    text = "; ".join(filter(None, [rounds.stalled, snapshot.run.lost]))
    return [(ConditionType.STALLED, True, "SitesMissing", text)]


def _with_transitions(
    said: list[tuple[ConditionType, bool, str, str]], snapshot: Snapshot, state: State
) -> list[Condition]:
    """Conditions that are not said now are kept as they were."""
    before = {c.type: c for c in snapshot.previous.conditions} if snapshot.previous else {}
    now = {each[0]: _condition(snapshot, before.get(each[0]), *each) for each in said}
    if snapshot.run is None or not snapshot.run.running or state.is_final:
        # Nobody runs who could answer.
        before.pop(ConditionType.PROGRESS_AVAILABLE, None)
    if state.is_final:
        before.pop(ConditionType.STALLED, None)
    if snapshot.claim is None:
        before.pop(ConditionType.CLAIM_BOUND, None)
    return list((before | now).values())


def _condition(
    snapshot: Snapshot,
    before: Condition | None,
    kind: ConditionType,
    holds: bool,
    reason: str,
    message: str,
) -> Condition:
    status = ConditionStatus.TRUE if holds else ConditionStatus.FALSE
    text = printable(message)[:_MAX_MESSAGE]
    generation = snapshot.job.metadata.generation
    is_same = before is not None and before.status is status
    if before is not None and is_same:
        said = (before.reason, before.message, before.observed_generation)
        if said == (reason, text, generation):
            return before
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=text,
        observed_generation=generation,
        last_transition_time=(
            before.last_transition_time if before is not None and is_same else snapshot.now
        ),
    )


def _joules(energy: Energy) -> int:
    return round(energy.joules)


def _micrograms(emissions: Emissions | None) -> int | None:
    return None if emissions is None else emissions.micrograms


def _whole(intensity: Intensity | None) -> int | None:
    return None if intensity is None else round(intensity.grams_per_kilowatt_hour)


def _percent(share: float | None) -> int | None:
    return None if share is None else round(100 * share)
