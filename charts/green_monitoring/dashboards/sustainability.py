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
    Column,
    Panel,
    Query,
    board,
    intensity_of_zones,
    kilowatt_hours,
    lines,
    listing,
    number,
    ranking,
    used,
)

_RANGE = "$__range"


def _kind(provenance: str) -> str:
    return f'{PLACE}, provenance="{provenance}"'


def _last(metric: str) -> str:
    """A gauge of all jobs that were seen in the time; of two words on a job the lower counts."""
    last = f"last_over_time(green_job_{metric}{{{NAMESPACE}}}[{_RANGE}])"
    return f"sum(min by (namespace, name) ({last}))"


def sustainability() -> dashboard.Dashboard:
    """The dashboard."""
    built = board(
        "green-sustainability",
        "Green training / Sustainability",
        "Energy and location-based emissions by namespace and zone, with the share that is "
        "measured, and the signed difference to running without pauses.",
        time_from="now-30d",
    )
    energy, emissions = used(ENERGY, _RANGE), used(EMISSIONS, _RANGE)
    by_place = "namespace, zone"
    measured = used(ENERGY, _RANGE, selector=_kind("Measured"))
    estimated = used(ENERGY, _RANGE, selector=_kind("Estimated"))
    for panel in (
        number(Panel(
            "Energy", f"Of the time shown. {PROVENANCE_NOTE} Power supplies, fans, memory "
            "and network are in none of them.", KILOWATT_HOURS,
            [Query(kilowatt_hours(energy), "energy")], 4, 4,
        )),
        number(Panel(
            "Emissions", "Location-based, gross, CO2 equivalent: each interval's energy times the "
            "intensity of its time. Energy of hours without a known intensity is not in it. Zones "
            "whose intensities are of different kinds are added up; the table has them apart.",
            GRAMS,
            [Query(emissions, "emissions")], 4, 4,
        )),
        number(Panel(
            "Mean intensity", "Emissions by energy of the time shown; too low where an hour's "
            "intensity was not known.", INTENSITY,
            [Query(f"{emissions} / ({energy}) * {JOULES_PER_KILOWATT_HOUR}", "mean")], 4, 4,
        )),
        number(Panel(
            "Difference", "Counterfactual less actual emissions, signed, of the jobs seen in the "
            "time shown (zones do not narrow it). Counterfactual: the useful work without pauses "
            "from the earliest feasible start, same place. It rests on the same energy: as "
            "uncertain as its estimated share.", GRAMS,
            [Query(_last("emissions_difference_grams"), "difference")], 4, 4,
        ), signed=True),
        number(Panel(
            "Measured", "Share of the energy from a device's counter read for the job alone.",
            SHARE, [Query(f"{measured} / {energy}", "measured")], 4, 4,
        )),
        number(Panel(
            "Estimated", "Share of the energy that a model gave; what is left is attributed, a "
            "share of a node's measured energy.", SHARE,
            [Query(f"{estimated} / {energy}", "estimated")], 4, 4,
        )),
        lines(Panel(
            "Energy by day", f"{PROVENANCE_NOTE} A bar is the day that ends there.", KILOWATT_HOURS,
            [Query(kilowatt_hours(used(ENERGY, "1d", "provenance")), "{{provenance}}")],
        ), stacked=True, bars_of="1d"),
        lines(Panel(
            "Emissions by day", "Location-based, by zone. A bar is the day that ends there.", GRAMS,
            [Query(used(EMISSIONS, "1d", "zone"), "{{zone}}")],
        ), stacked=True, bars_of="1d"),
        ranking(Panel(
            "Energy by namespace", "Of the time shown, measured, attributed and estimated.",
            KILOWATT_HOURS,
            [Query(f"sort_desc({kilowatt_hours(used(ENERGY, _RANGE, 'namespace'))})",
                   "{{namespace}}")],
        )),
        ranking(Panel(
            "Emissions by namespace", "Of the time shown, location-based.", GRAMS,
            [Query(f"sort_desc({used(EMISSIONS, _RANGE, 'namespace')})", "{{namespace}}")],
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
                Column("Emissions", used(EMISSIONS, _RANGE, by_place), GRAMS),
                Column(
                    "Mean intensity",
                    f"{used(EMISSIONS, _RANGE, by_place)} / {used(ENERGY, _RANGE, by_place)} "
                    f"* {JOULES_PER_KILOWATT_HOUR}",
                    INTENSITY,
                ),
            ),
            by="Emissions",
        ),
        intensity_of_zones(),
        lines(Panel(
            "Emissions by the hour", "Location-based, by zone: they ought to fall where the "
            "intensity rises.", GRAMS,
            [Query(used(EMISSIONS, "1h", "zone"), "{{zone}}")],
        )),
        number(Panel(
            "Energy without a known intensity", "Of the jobs seen in the time shown: it is in the "
            "energy, and in no figure of emissions.", KILOWATT_HOURS,
            [Query(kilowatt_hours(_last("unaccounted_energy_joules")), "not accounted")], 12, 4,
        ), warns_from=1),
        number(Panel(
            "Last day", "Energy of the last 24 hours, as the recording rules have it.",
            KILOWATT_HOURS,
            [Query(kilowatt_hours(
                f"sum(namespace_zone_provenance:green_energy_joules:increase1d{{{PLACE}}})"
            ), "energy")], 12, 4,
        )),
    ):  # fmt: skip
        built.with_panel(panel)
    return built
