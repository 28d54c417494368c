"""A stored job in words: times from now, what it waits for, what it is worth; pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from green_api.status import (
    Condition,
    ConditionStatus,
    ConditionType,
    JobStatus,
    State,
)
from green_api.units import Emissions, Energy

from green_operator.amounts import format_difference, format_emissions, format_energy
from green_operator.lifecycle.status import PERSON, PLAN, STARTING

_UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
_FEW: Final = 10
STATE_STYLES: Final = {
    State.PLANNED: "yellow",
    State.RUNNING: "green",
    State.SUSPENDED: "yellow",
    State.SUCCEEDED: "bold green",
    State.FAILED: "bold red",
}
OBSTACLES: Final = {
    "Unschedulable": "no node fits",
    "ImagePullFailed": "image not pulled",
    "ContainerNotStarted": "container not started",
    "PodNotCreated": "no pod could be made",
    "RunRefused": "its run is refused",
    "PodNotEnding": "a pod does not end",
    "ClaimNotFound": "claim not found",
    "ClaimLost": "claim has lost its volume",
    "NotReadable": "cannot be read",
}
"""Reasons that a person has to act on, in a few words."""
_WAITS: Final = {
    PERSON: "paused by a person",
    STARTING: "its pod is starting",
    "PodEnding": "its last pod is ending",
    "Retrying": "another attempt follows",
    "NoDoneMarker": "another run follows",
    "NotPlanned": "is being planned",
    "DeadlineExceeded": "stops: deadline passed",
}
_FAILURES: Final = {
    "BackoffLimitExceeded": "retries used up",
    "PodFailurePolicy": "not worth a retry",
    "InvalidTask": "task cannot work",
    "LimitExceeded": "limit broken",
    "NoDoneMarker": "no done-marker",
    "DeadlineExceeded": "deadline missed",
}


def span(duration: timedelta) -> str:
    """A length of time such as ``23h``, ``2h10m`` or ``45s``."""
    seconds = max(round(duration.total_seconds()), 0)
    for (unit, size), (small_unit, small) in pairwise(_UNITS):
        if seconds < size:
            continue
        if seconds >= _FEW * size:
            return f"{round(seconds / size)}{unit}"
        count, rest = divmod(round(seconds / small), size // small)
        return f"{count}{unit}" + (f"{rest}{small_unit}" if rest else "")
    return f"{seconds}s"


def from_now(time: datetime, now: datetime) -> str:
    """Such as ``in 5h`` or ``3m ago``."""
    if time >= now:
        return f"in {span(time - now)}"
    return f"{span(now - time)} ago"


def clock(time: datetime, now: datetime) -> str:
    """A moment in UTC with its distance from now."""
    return f"{time:%Y-%m-%d %H:%M} UTC ({from_now(time, now)})"


def sentence(text: str) -> str:
    """A message as a sentence of its own."""
    if not text:
        return ""
    # A field's name stays as it is written.
    if text.partition(" ")[0].isalpha():
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def condition(status: JobStatus, kind: ConditionType) -> Condition | None:
    """What is said of one thing."""
    return next((c for c in status.conditions if c.type is kind), None)


def holds(status: JobStatus, kind: ConditionType) -> bool | None:
    """Whether a condition is true; None where nothing is said of it."""
    found = condition(status, kind)
    return None if found is None else found.status is ConditionStatus.TRUE


def reason(status: JobStatus) -> str:
    """Why the job is in its state, for programs."""
    of_state = {State.SUCCEEDED: ConditionType.SUCCEEDED, State.FAILED: ConditionType.FAILED}
    kind = of_state.get(status.state, ConditionType.RUNNING)
    found = condition(status, kind)
    return found.reason if found is not None else ""


def obstacle(status: JobStatus) -> str:
    """What a person has to act on before the job can run, in a few words; empty where nothing."""
    if status.state.is_final:
        return ""
    for kind in (ConditionType.ACCEPTED, ConditionType.CLAIM_BOUND, ConditionType.RUNNING):
        found = condition(status, kind)
        if found is not None and found.status is ConditionStatus.FALSE:
            words = OBSTACLES.get(found.reason, "")
            if words:
                return words
    return ""


def doing(status: JobStatus, now: datetime) -> str:
    """What the job does or waits for, in a few words."""
    if status.state.is_final:
        return _ended(status, now)
    if (words := obstacle(status)) and status.state is not State.RUNNING:
        return words
    if status.state is State.RUNNING:
        return _pace(status)
    why = reason(status)
    if why == PLAN and status.planned_start is not None:
        return f"{from_now(status.planned_start, now)}, cleaner power"
    return _WAITS.get(why, why or "is being planned")


def _ended(status: JobStatus, now: datetime) -> str:
    if status.state is State.FAILED:
        why = reason(status)
        return _FAILURES.get(why, why)
    return from_now(status.completion_time, now) if status.completion_time else "ended"


def _pace(status: JobStatus) -> str:
    progress = status.progress
    if progress is None or progress.progress_percentage is None:
        return "running"
    left = progress.estimated_remaining_seconds
    text = f"{progress.progress_percentage} %"
    return text if left is None else f"{text}, {span(timedelta(seconds=left))} left"


def deadline(status: JobStatus, now: datetime) -> str:
    """How far the deadline is, or whether it was met."""
    if status.deadline is None:
        return ""
    if not status.state.is_final:
        at_risk = holds(status, ConditionType.DEADLINE_AT_RISK)
        return from_now(status.deadline, now) + (", at risk" if at_risk else "")
    if status.completion_time is None or status.state is State.FAILED:
        return ""
    late = missed_by(status)
    return f"missed by {span(late)}" if late else "met"


def missed_by(status: JobStatus) -> timedelta:
    """How long after its deadline a job ended; zero where it did not."""
    if status.completion_time is None or status.deadline is None:
        return timedelta(0)
    return max(status.completion_time - status.deadline, timedelta(0))


def difference(status: JobStatus) -> str:
    """The signed difference: of what was used, or the share that is expected."""
    emissions, plan = status.emissions, status.plan
    if emissions is not None and emissions.difference_micrograms is not None and has_used(status):
        of = emissions.counterfactual_micrograms
        return format_difference(
            grams(emissions.difference_micrograms), None if of is None else grams(of)
        )
    if plan is None or has_used(status) or status.state.is_final:
        return ""
    then, at_once = plan.expected_emissions_micrograms, plan.run_now_emissions_micrograms
    if then is None or not at_once:
        return ""
    share = round(100 * (at_once - then) / at_once)
    return f"{share:+} % expected" if share else ""


def has_used(status: JobStatus) -> bool:
    """Whether energy was seen."""
    return status.energy is not None and status.energy.joules > 0


def zone(status: JobStatus) -> str:
    """Where it ran last, or is to run."""
    if status.emissions is not None:
        return status.emissions.zone
    return (status.plan.zone or "") if status.plan is not None else ""


def grams(micrograms: int) -> Emissions:
    """An amount of the status as a unit."""
    return Emissions(micrograms / 1e6)


def amount(micrograms: int | None) -> str:
    """Emissions for people."""
    return "not known" if micrograms is None else format_emissions(grams(micrograms))


def energy(joules: int | None) -> str:
    """Energy for people."""
    return "not known" if joules is None else format_energy(Energy(joules))


def intensity(grams_per_kilowatt_hour: int | None) -> str:
    """An intensity for people."""
    if grams_per_kilowatt_hour is None:
        return "not known"
    return f"{grams_per_kilowatt_hour} gCO2e/kWh"
