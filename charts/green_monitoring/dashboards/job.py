"""One job: when it ran and why, what that used, and what the wait was good for."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from green_monitoring.dashboards.parts import (
    COUNT,
    GRAMS,
    KILOWATT_HOURS,
    PROVENANCE_NOTE,
    SECONDS,
    SHARE,
    TIME,
    WATTS,
    Panel,
    Query,
    board,
    intensity_of_zones,
    kilowatt_hours,
    lines,
    number,
    of_jobs,
    progress,
)

_JOB = 'namespace=~"$namespace", name=~"$name"'


def _of(metric: str) -> str:
    return of_jobs(metric, _JOB)


_ENERGY_BY_KIND = f"green_job_energy_by_provenance_joules{{{_JOB}}}"
# A gauge: an estimate may give way to a lower reading, and what falls is no power.
_POWER_BY_KIND = f"max by (provenance) (clamp_min(delta({_ENERGY_BY_KIND}[30m]), 0)) / (30 * 60)"


def job() -> dashboard.Dashboard:
    """The dashboard."""
    built = board(
        "green-job",
        "Green training / Job",
        "One job: progress, hours in which it ran against the grid's intensity, energy, emissions, "
        "difference.",
        time_from="now-2d",
        of_one_job=True,
    )
    for panel in (
        number(Panel(
            "Job", "Its name, its namespace, and the grid zone that it runs in.", COUNT,
            [Query(f"max by (namespace, name, zone) (green_job_zone_info{{{_JOB}}})",
                   "{{name}}, namespace {{namespace}}, zone {{zone}}")], 24, 3,
        ), named=True),
        number(Panel(
            "Progress", "As its pod said last.", SHARE,
            [Query(progress(_JOB), "progress")], 4, 4,
        )),
        number(Panel(
            "Energy", f"So far, of all attempts. {PROVENANCE_NOTE}", KILOWATT_HOURS,
            [Query(kilowatt_hours(_of("energy_joules")), "energy")], 4, 4,
        )),
        number(Panel(
            "Emissions", "So far: location-based, gross, CO2 equivalent.", GRAMS,
            [Query(_of("emissions_grams"), "{{signal}}")], 4, 4,
        )),
        number(Panel(
            "Difference", "Counterfactual less actual emissions, signed; below zero waiting cost "
            "more. Counterfactual: the useful work without pauses from the earliest feasible "
            "start.", GRAMS, [Query(_of("emissions_difference_grams"), "difference")], 4, 4,
        ), signed=True),
        number(Panel(
            "Run time", "So far, pauses not counted.", SECONDS,
            [Query(_of("active_seconds"), "run time")], 4, 4,
        )),
        number(Panel(
            "Attempts", "So far; each suspension ends one.", COUNT,
            [Query(_of("attempts"), "attempts")], 4, 4,
        )),
        number(Panel(
            "Planned start", "When its first start was planned, as decided last before it.", TIME,
            [Query(f"1000 * {_of('planned_start_timestamp_seconds')}", "planned start")], 8, 4,
        )),
        number(Panel(
            "First start", "When its first pod began to work.", TIME,
            [Query(f"1000 * {_of('start_timestamp_seconds')}", "first start")], 8, 4,
        )),
        number(Panel(
            "Deadline", "When it must have ended.", TIME,
            [Query(f"1000 * {_of('deadline_timestamp_seconds')}", "deadline")], 8, 4,
        )),
        lines(Panel(
            "Runs", "1 while a pod works.", COUNT, [Query(_of("running"), "running")],
        ), steps=True, most=1),
        intensity_of_zones(_JOB),
        lines(Panel(
            "Power", "Mean over half an hour, from the energy in its status, by how it was found. "
            f"{PROVENANCE_NOTE}", WATTS,
            [Query(_POWER_BY_KIND, "{{provenance}}")],
        ), stacked=True),
        lines(Panel(
            "Energy", f"So far, by how it was found. {PROVENANCE_NOTE}", KILOWATT_HOURS,
            [Query(kilowatt_hours(f"max by (provenance) ({_ENERGY_BY_KIND})"), "{{provenance}}")],
        ), stacked=True),
        lines(Panel(
            "Progress", "Share of the work that is done, as its pods said; of a federated job also "
            "the accuracy of the global model after the last round, on the server's test data.",
            SHARE,
            [
                Query(progress(_JOB), "progress"),
                Query(_of("accuracy_ratio"), "accuracy"),
            ],
        ), steps=True, most=1),
        lines(Panel(
            "Emissions and difference", "Location-based emissions so far, and counterfactual less "
            "actual emissions, signed.", GRAMS,
            [
                Query(_of("emissions_grams"), "emissions ({{signal}})"),
                Query(_of("emissions_difference_grams"), "difference ({{signal}})"),
            ],
        ), steps=True),
    ):  # fmt: skip
        built.with_panel(panel)
    return built
