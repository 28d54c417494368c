"""For the ML engineer: what my jobs do, what they used, what the wait was good for."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from green_monitoring.dashboards.parts import (
    BYTES,
    COUNT,
    GRAMS,
    KILOWATT_HOURS,
    NAMESPACE,
    POINTS,
    PROVENANCE_NOTE,
    SECONDS,
    SHARE,
    TIME,
    Column,
    Panel,
    Query,
    board,
    intensity_of_zones,
    job_link,
    kilowatt_hours,
    lines,
    listing,
    number,
    of_jobs,
    progress,
    ranking,
)

_LINK = job_link("${__data.fields.Namespace}", "${__data.fields.Name}")


def _kind(provenance: str) -> str:
    return of_jobs("energy_by_provenance_joules", f'{NAMESPACE}, provenance="{provenance}"')


def _where(has: str, metric: str) -> str:
    """A gauge of the jobs that have another one, too."""
    return f"({of_jobs(metric)} and on (namespace, name) {of_jobs(has)})"


# Of a job that has just started nothing is known, and no share of it either.
_SOME_ENERGY = f"({of_jobs('energy_joules')} > 0)"


def jobs() -> dashboard.Dashboard:
    """The dashboard."""
    built = board(
        "green-jobs",
        "Green training / Jobs",
        "Single jobs: progress, planned start, energy, emissions, and the signed difference to "
        "running without pauses.",
        time_from="now-7d",
    )
    running = f"{of_jobs('running')} == 1"
    for panel in (
        number(Panel(
            "Running", "Jobs of which a pod works now.", COUNT,
            [Query(f"sum({of_jobs('running')})", "running")], 6, 4,
        )),
        number(Panel(
            "Energy", "Of the jobs that have series now, measured, attributed and estimated.",
            KILOWATT_HOURS, [Query(kilowatt_hours(f"sum({of_jobs('energy_joules')})"), "energy")],
            6, 4,
        )),
        number(Panel(
            "Emissions", "Of the same jobs: location-based, CO2 equivalent, of energy whose hour's "
            "intensity is known, by the kind of intensity.", GRAMS,
            [Query(f"sum by (signal) ({of_jobs('emissions_grams')})", "{{signal}}")], 6, 4,
        )),
        number(Panel(
            "Difference", "Of the same jobs: counterfactual less actual emissions, signed; below "
            "zero waiting cost more. Counterfactual: the useful work without pauses from the "
            "earliest feasible start.", GRAMS,
            [Query(f"sum by (signal) ({of_jobs('emissions_difference_grams')})", "{{signal}}")],
            6, 4,
        ), signed=True),
        listing(
            Panel(
                "Jobs", "Those that have started, with the start that was planned beside the one "
                f"that they had. {PROVENANCE_NOTE}", COUNT, [], 24, 11,
            ),
            ("namespace", "name"),
            (
                Column("Running", of_jobs("running"), COUNT),
                Column("Progress", progress(), SHARE),
                Column("Planned", f"1000 * {of_jobs('planned_start_timestamp_seconds')}", TIME),
                Column("First start", f"1000 * {of_jobs('start_timestamp_seconds')}", TIME),
                Column("Deadline", f"1000 * {of_jobs('deadline_timestamp_seconds')}", TIME),
                Column("Run time", of_jobs("active_seconds"), SECONDS),
                Column("Attempts", of_jobs("attempts"), COUNT),
                Column("Energy", kilowatt_hours(of_jobs("energy_joules")), KILOWATT_HOURS),
                Column(
                    "Measured", f"{_kind('Measured')} / {_SOME_ENERGY}", SHARE
                ),
                Column(
                    "Estimated", f"{_kind('Estimated')} / {_SOME_ENERGY}", SHARE
                ),
                Column("Emissions", of_jobs("emissions_grams"), GRAMS),
                Column(
                    "Difference", of_jobs("emissions_difference_grams"), GRAMS, signed=True
                ),
            ),
            by="First start",
            link=_LINK,
        ),
        ranking(Panel(
            "Progress of running jobs", "As their pods said last.", SHARE,
            [Query(f"topk(12, {of_jobs('progress_ratio')} and {running})",
                   "{{name}} ({{namespace}})")],
        ), most=1),
        ranking(Panel(
            "Time to the deadline", "Of running jobs, the ten that have least.", SECONDS,
            [Query(f"bottomk(10, ({of_jobs('deadline_timestamp_seconds')} - time()) and {running})",
                   "{{name}} ({{namespace}})")],
        )),
        ranking(Panel(
            "Most energy", "The jobs that used most so far, measured, attributed and estimated.",
            KILOWATT_HOURS,
            [Query(f"topk(10, {kilowatt_hours(of_jobs('energy_joules'))})",
                   "{{name}} ({{namespace}})")],
        )),
        ranking(Panel(
            "Largest differences", "Counterfactual less actual emissions of single jobs: what "
            "waiting changed. Two kinds of intensity cannot be compared.", GRAMS,
            [Query(f"topk(10, {of_jobs('emissions_difference_grams')})",
                   "{{name}} ({{namespace}}, {{signal}})")],
        )),
        intensity_of_zones(),
        lines(Panel(
            "What jobs wait for", "By the reason of the condition Running: Plan is cleaner power.",
            COUNT,
            [Query("sum by (reason) "
                   f"(max by (namespace, reason) (green_jobs_waiting{{{NAMESPACE}}}))",
                   "{{reason}}")],
        ), stacked=True),
        listing(
            Panel(
                "Federated models", "Jobs that train at several sites: accuracy of the global "
                "model after the last round, on the server's test data. Energy and emissions are "
                "those of server and sites.", SHARE, [], 12, 8,
            ),
            ("namespace", "name"),
            (
                Column("Progress", _where("accuracy_ratio", "progress_ratio"), SHARE),
                Column("Accuracy", of_jobs("accuracy_ratio"), SHARE),
                Column(
                    "Energy",
                    kilowatt_hours(_where("accuracy_ratio", "energy_joules")),
                    KILOWATT_HOURS,
                ),
                Column("Emissions", _where("accuracy_ratio", "emissions_grams"), GRAMS),
            ),
            by="Accuracy",
            link=_LINK,
        ),
        lines(Panel(
            "Updates of sites", "Of federated jobs, by the hour: counted in a round, or dropped "
            "because they were malformed, too far off, or did not come.", COUNT,
            [Query(
                f"sum by (result) (increase(green_federated_updates_total{{{NAMESPACE}}}[1h]))",
                "{{result}}",
            )],
        ), stacked=True),
        lines(Panel(
            "Traffic of sites", "Weights sent to the sites of federated jobs and back, by the "
            "hour.", BYTES,
            [Query(
                "sum by (namespace) "
                f"(increase(green_federated_traffic_bytes_total{{{NAMESPACE}}}[1h]))",
                "{{namespace}}",
            )],
        ), stacked=True),
        listing(
            Panel(
                "Compressed models", "Of jobs that compress and have succeeded: accuracy of the "
                "final less that of the original model in percentage points, and its file's size "
                "in relation.", SHARE, [],
            ),
            ("namespace", "name"),
            (
                Column(
                    "Accuracy", f"100 * {of_jobs('accuracy_change_ratio')}", POINTS, signed=True
                ),
                Column("Size", of_jobs("size_ratio"), SHARE),
                Column(
                    "Energy",
                    kilowatt_hours(_where("size_ratio", "energy_joules")),
                    KILOWATT_HOURS,
                ),
                Column("Emissions", _where("size_ratio", "emissions_grams"), GRAMS),
            ),
            by="Size",
            link=_LINK,
        ),
    ):  # fmt: skip
        built.with_panel(panel)
    return built
