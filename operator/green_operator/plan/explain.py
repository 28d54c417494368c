"""A plan in a sentence: why the job waits or runs, until when, and what that saves."""

from __future__ import annotations

from datetime import datetime

from green_operator.amounts import format_difference
from green_operator.plan.types import Plan, PlanReason

_BECAUSE = {
    PlanReason.CLEANEST_NOW: "no later time before the deadline is cleaner",
    PlanReason.STARTS_IMMEDIATELY: "its policy is Immediately",
    PlanReason.LATEST_START_REACHED: "its latest start is reached",
    PlanReason.DEADLINE_AT_RISK: "what is left does not fit before the deadline any more",
    PlanReason.INTENSITY_UNKNOWN: "the carbon intensity of its zone is not known",
}


def explain(plan: Plan, now: datetime) -> str:
    """One sentence for people; times in UTC."""
    if plan.reason is not PlanReason.LOWEST_EMISSIONS:
        return f"Runs now: {_BECAUSE[plan.reason]}."
    if plan.runs_at(now):
        return (
            f"Runs until {_clock(plan.windows[0].end)}: among the cleanest time left.{_gain(plan)}"
        )
    # No "in 2h": a message that changes with the clock would be a new status each minute.
    return f"Waits until {_clock(plan.windows[0].start)} for cleaner power.{_gain(plan)}"


def _gain(plan: Plan) -> str:
    then, now = plan.expected.intensity, plan.run_now.intensity
    if then is None or now is None or plan.saving is None:
        return ""
    return (
        f" Expected {then.grams_per_kilowatt_hour:.0f} instead of "
        f"{now.grams_per_kilowatt_hour:.0f} gCO2e/kWh if run at once, a difference of "
        f"{format_difference(plan.saving, plan.run_now.emissions)}."
    )


def _clock(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
