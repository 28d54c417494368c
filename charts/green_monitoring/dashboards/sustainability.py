"""For the sustainability officer: every gram, where it comes from, and how sure it is."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from green_monitoring.dashboards.parts import (
    EMISSIONS,
    ENERGY,
    GRAMS,
    INTENSITY,
    JOULES_PER_KILOWATT_HOUR,
    KILOWATT_HOURS,
    NAMESPACE,
    PLACE,
    PROVENANCE_NOTE,
    SHARE,
    UNACCOUNTED,
    Column,
    Panel,
    Query,
    board,
    intensity_of_zones,
    kilowatt_hours,
    lines,
    listing,
    number,
    of_jobs,
    ranking,
    used,
)

_RANGE = "$__range"


def _kind(provenance: str) -> str:
    return f'{PLACE}, provenance="{provenance}"'


def _last(metric: str, by: str = "signal") -> str:
    """A gauge of all jobs that were seen in the time.

    Of a job that is gone the last words of several processes are there: the lowest counts.
    """
    last = f"last_over_time(green_job_{metric}{{{NAMESPACE}}}[{_RANGE}])"
    lowest = f"min by (namespace, name, signal) ({last})"
    return f"sum by ({by}) ({of_jobs(metric)} or {lowest})"


def _known(place: str) -> str:
    """Energy whose time has a known intensity."""
    return f"({used(ENERGY, _RANGE, place)} - {used(UNACCOUNTED, _RANGE, place)})"


def _of_one_kind(place: str) -> str:
    """Emissions of places that met one kind of intensity: only there energy belongs to a kind."""
    emissions = f"({used(EMISSIONS, _RANGE, f'{place}, signal')} > 0)"
    return f"({emissions} and on ({place}) (count by ({place}) ({emissions}) == 1))"


def _mean(place: str) -> str:
    """Emissions by the energy that has any."""
    share = f"{_of_one_kind(place)} / on ({place}) group_left () {_known(place)}"
    return f"{share} * {JOULES_PER_KILOWATT_HOUR}"


def _mean_by_kind() -> str:
    """The same of all zones with one kind of intensity."""
    kind = _of_one_kind("zone")
    energy = f"{_known('zone')} * on (zone) group_left (signal) ({kind} > bool 0)"
    return f"sum by (signal) ({kind}) / sum by (signal) ({energy}) * {JOULES_PER_KILOWATT_HOUR}"


def sustainability() -> dashboard.Dashboard:
    """The dashboard."""
    built = board(
        "green-sustainability",
        "Green training / Sustainability",
        "Energy and location-based emissions by namespace and zone, with the share that is "
        "measured, and the signed difference to running without pauses.",
        time_from="now-30d",
    )
    energy = used(ENERGY, _RANGE)
    by_place = "namespace, zone"
    measured = used(ENERGY, _RANGE, selector=_kind("Measured"))
    estimated = used(ENERGY, _RANGE, selector=_kind("Estimated"))
    for panel in (
        number(Panel(
            "Energy", f"Of the time shown. {PROVENANCE_NOTE} Power supplies, fans, memory "
            "and network are in none of them.", KILOWATT_HOURS,
            [Query(kilowatt_hours(energy), "energy")], 3, 4,
        )),
        number(Panel(
            "Emissions", "Location-based, gross, CO2 equivalent: each interval's energy times the "
            "intensity of its time. Energy of hours without a known intensity is not in it. One "
            "figure for each kind of intensity: two kinds cannot be compared or added up.", GRAMS,
            [Query(used(EMISSIONS, _RANGE, "signal"), "{{signal}}")], 5, 4,
        )),
        number(Panel(
            "Mean intensity", "Emissions by the energy whose intensity is known, of the time "
            "shown, by its kind. A zone that met several kinds is left out.",
            INTENSITY, [Query(_mean_by_kind(), "{{signal}}")], 6, 4,
        )),
        number(Panel(
            "Difference", "Counterfactual less actual emissions, signed, of the jobs seen in the "
            "time shown (zones do not narrow it). Counterfactual: the useful work without pauses "
            "from the earliest feasible start, same place. It rests on the same energy: as "
            "uncertain as its estimated share.", GRAMS,
            [Query(_last("emissions_difference_grams"), "{{signal}}")], 4, 4,
        ), signed=True),
        number(Panel(
            "Measured", "Share of the energy from a device's counter read for the job alone.",
            SHARE, [Query(f"{measured} / {energy}", "measured")], 3, 4,
        )),
        number(Panel(
            "Estimated", "Share of the energy that a model gave; what is left is attributed, a "
            "share of a node's measured energy.", SHARE,
            [Query(f"{estimated} / {energy}", "estimated")], 3, 4,
        )),
        lines(Panel(
            "Energy by day", f"{PROVENANCE_NOTE} A bar is the day that ends there.", KILOWATT_HOURS,
            [Query(kilowatt_hours(used(ENERGY, "1d", "provenance")), "{{provenance}}")],
        ), stacked=True, bars_of="1d"),
        lines(Panel(
            "Emissions by day", "Location-based, by zone; two kinds of intensity do not add up and "
            "stand side by side. The bars are the day that ends there.", GRAMS,
            [Query(used(EMISSIONS, "1d", "zone, signal"), "{{zone}} ({{signal}})")],
        ), stacked=True, bars_of="1d"),
        ranking(Panel(
            "Energy by namespace", "Of the time shown, measured, attributed and estimated.",
            KILOWATT_HOURS,
            [Query(f"sort_desc({kilowatt_hours(used(ENERGY, _RANGE, 'namespace'))})",
                   "{{namespace}}")],
        )),
        ranking(Panel(
            "Emissions by namespace", "Of the time shown, location-based.", GRAMS,
            [Query(f"sort_desc({used(EMISSIONS, _RANGE, 'namespace, signal')})",
                   "{{namespace}} ({{signal}})")],
        )),
        listing(
            Panel(
                "By namespace and zone", "Of the time shown; to export it: Inspect, Data, Download "
                f"CSV. {PROVENANCE_NOTE} Emissions are location-based, gross.", KILOWATT_HOURS, [],
                24, 9,
            ),
            ("namespace", "zone"),
            (
                Column("Energy", kilowatt_hours(used(ENERGY, _RANGE, by_place)), KILOWATT_HOURS),
                *(
                    Column(
                        kind,
                        kilowatt_hours(used(ENERGY, _RANGE, by_place, _kind(kind))),
                        KILOWATT_HOURS,
                    )
                    for kind in ("Measured", "Attributed", "Estimated")
                ),
                Column(
                    "Not accounted",
                    kilowatt_hours(used(UNACCOUNTED, _RANGE, by_place)),
                    KILOWATT_HOURS,
                ),
                Column("Emissions", used(EMISSIONS, _RANGE, f"{by_place}, signal"), GRAMS),
                Column("Mean intensity", _mean(by_place), INTENSITY),
            ),
            by="Emissions",
        ),
        listing(
            Panel(
                "Difference by namespace", "Of the jobs seen in the time shown, by the kind of "
                "intensity: location-based emissions of each job so far, and counterfactual less "
                "actual emissions, signed. A job with energy of unknown intensity has no "
                "difference.", GRAMS, [],
            ),
            ("namespace", "signal"),
            (
                Column("Emissions", _last("emissions_grams", "namespace, signal"), GRAMS),
                Column(
                    "Difference",
                    _last("emissions_difference_grams", "namespace, signal"),
                    GRAMS,
                    signed=True,
                ),
            ),
            by="Difference",
        ),
        intensity_of_zones(),
        lines(Panel(
            "Emissions by the hour", "Location-based, by zone: they ought to fall where the "
            "intensity rises.", GRAMS,
            [Query(used(EMISSIONS, "1h", "zone, signal"), "{{zone}} ({{signal}})")],
        )),
        number(Panel(
            "Energy without a known intensity", "Of the time shown: it is in the energy, and in "
            "no figure of emissions.", KILOWATT_HOURS,
            [Query(kilowatt_hours(used(UNACCOUNTED, _RANGE)), "not accounted")], 6, 8,
        ), warns_from=1),
        number(Panel(
            "Last day", "Energy of the last 24 hours, as the recording rules have it.",
            KILOWATT_HOURS,
            [Query(kilowatt_hours(
                f"sum(namespace_zone_provenance:green_energy_joules:increase1d{{{PLACE}}})"
            ), "energy")], 6, 8,
        )),
    ):  # fmt: skip
        built.with_panel(panel)
    return built
