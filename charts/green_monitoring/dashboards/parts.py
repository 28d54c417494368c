"""What the dashboards are put together from: panels that cannot lack a unit or a description."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from green_api.base import Signal

TAG: Final = "green-training"
SOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")

KILOWATT_HOURS: Final = "kwatth"
WATTS: Final = "watt"
GRAMS: Final = "massg"
SHARE: Final = "percentunit"
# Grafana puts a blank between a figure and its suffix.
INTENSITY: Final = "suffix:gCO2e/kWh"
POINTS: Final = "suffix:pp"
BYTES: Final = "decbytes"
COUNT: Final = "short"
SECONDS: Final = "dtdurations"
LATENCY: Final = "s"
PER_MINUTE: Final = "reqpm"
TIME: Final = "time:YYYY-MM-DD HH:mm"

# What series are called by, and the colours that these words keep on every board.
COLOURS: Final = {
    "{{provenance}}": {"Measured": "green", "Attributed": "blue", "Estimated": "orange"},
    "{{state}}": {
        "Accepted": "super-light-yellow",
        "Planned": "light-yellow",
        "Suspended": "semi-dark-yellow",
        "Running": "blue",
        "Succeeded": "green",
        "Failed": "red",
    },
    "{{result}}": {"Counted": "green", "Dropped": "red"},
    "{{zone}} {{result}}": {"/ succeeded$/": "green", "/ failed$/": "red"},
}
PROVENANCE_NOTE: Final = (
    "Measured: a device's counter read for the job alone. Attributed: a share of a node's measured "
    "energy. Estimated: by a model."
)
JOULES_PER_KILOWATT_HOUR: Final = "3.6e6"
NAMESPACE: Final = 'namespace=~"$namespace"'
PLACE: Final = 'namespace=~"$namespace", zone=~"$zone"'


@dataclass(frozen=True, slots=True)
class Query:
    """An expression and how its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """What every panel has: title, unit and an explanation; width of 24 and height in units."""

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    width: int = 12
    height: int = 8


AnyPanel = timeseries.Panel | stat.Panel | bargauge.Panel | table.Panel


def _dressed(builder: Any, panel: Panel, *, instant: bool, tabular: bool = False) -> Any:  # noqa: ANN401 - the builders share no type
    builder.title(panel.title).description(panel.description).unit(panel.unit)
    builder.datasource(SOURCE).span(panel.width).height(panel.height)
    for number, query in enumerate(panel.queries):
        target = prometheus.Dataquery().expr(query.expr).ref_id(chr(ord("A") + number))
        target.legend_format(query.legend or "__auto").datasource(SOURCE)
        if instant:
            target.instant()
        else:
            target.range()
        if tabular:
            target.format(PromQueryFormat.TABLE)
        builder.with_target(target)
    return builder


def lines(
    panel: Panel,
    *,
    stacked: bool = False,
    bars_of: str = "",
    steps: bool = False,
    least: float = 0,
    most: float | None = None,
) -> timeseries.Panel:
    """Series over time.

    Args:
        panel: what is shown.
        stacked: the series add up to something.
        bars_of: one bar for each interval of this length.
        steps: the values hold until the next one.
        least: the lower end of the axis; a difference has none.
        most: the upper end of the axis.

    """
    builder = _dressed(timeseries.Panel(), panel, instant=False)
    # In a stack the outline of what is zero would run along the top of what lies beneath it.
    builder.fill_opacity(70 if stacked else 8).line_width(0 if stacked else 1)
    builder.show_points(common_models.VisibilityMode.NEVER)
    if not any("difference" in query.expr for query in panel.queries):
        builder.min(least)
    if most is not None:
        builder.max(most)
    if panel.unit == COUNT:
        # A quiet line lies at the bottom, and half a job is none.
        builder.axis_soft_max(1).decimals(0)
    if panel.unit == INTENSITY:
        builder.axis_width(105)
    if steps:
        builder.line_interpolation(common_models.LineInterpolation.STEP_AFTER)
    if bars_of:
        builder.draw_style(common_models.GraphDrawStyle.BARS).interval(bars_of)
    if stacked:
        builder.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    if bars_of and any("{{signal}}" in query.legend for query in panel.queries):
        _side_by_side(builder)
    builder.tooltip(
        common.VizTooltipOptions()
        .mode(common_models.TooltipDisplayMode.MULTI)
        .sort(common_models.SortOrder.DESCENDING)
    )
    legend = common.VizLegendOptions().display_mode(common_models.LegendDisplayMode.LIST)
    builder.legend(legend.placement(common_models.LegendPlacement.BOTTOM).show_legend(True))
    _colour(builder, panel)
    built: timeseries.Panel = builder
    return built


def _side_by_side(builder: timeseries.Panel) -> None:
    """Two kinds of intensity do not add up: each has a stack of bars of its own.

    Grafana draws all stacks at one place. Those of life-cycle and of direct intensity, which
    installations have together, are moved to either side of it.
    """
    for signal in Signal:
        properties = {
            "stacking": {"mode": "normal", "group": signal},
            "barAlignment": -1 if signal.endswith("Lifecycle") else 1,
            "barWidthFactor": 0.4,
        }
        builder.override_by_regexp(
            rf"/\({signal}\)$/",
            [models.DynamicConfigValue(f"custom.{name}", v) for name, v in properties.items()],
        )


_SIGNED: Final = [
    models.Threshold(value=None, color="orange"),
    models.Threshold(value=0, color="green"),
]
"""Grafana writes no plus: the colour says on which side of zero a difference is."""


def number(
    panel: Panel, *, warns_from: float | None = None, signed: bool = False, named: bool = False
) -> stat.Panel:
    """One figure, or a few beside each other.

    Args:
        panel: what is shown.
        warns_from: from here on it is coloured.
        signed: below zero it is coloured otherwise than above.
        named: the name of the series is what is shown.

    """
    builder = _dressed(stat.Panel(), panel, instant=True)
    builder.graph_mode(common_models.BigValueGraphMode.NONE)
    builder.color_mode(common_models.BigValueColorMode.VALUE)
    if named:
        builder.text_mode(common_models.BigValueTextMode.NAME)
        builder.text(common.VizTextDisplayOptions().title_size(22))
    steps = _SIGNED if signed else [models.Threshold(value=None, color="text")]
    if warns_from is not None:
        steps = [*steps, models.Threshold(value=warns_from, color="orange")]
    builder.thresholds(
        dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
    )
    builder.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    builder.no_value("none")
    if panel.unit == TIME:
        # Else it is drawn so large that it breaks.
        builder.text(common.VizTextDisplayOptions().value_size(26))
    built: stat.Panel = builder
    return built


def ranking(panel: Panel, *, most: float | None = None) -> bargauge.Panel:
    """Bars beside each other, one for each series."""
    builder = _dressed(bargauge.Panel(), panel, instant=True)
    builder.orientation(common_models.VizOrientation.HORIZONTAL)
    builder.display_mode(common_models.BarGaugeDisplayMode.BASIC)
    builder.sizing(common_models.BarGaugeSizing.MANUAL).min_viz_height(16).max_viz_height(40)
    builder.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    steps = [models.Threshold(value=None, color="blue")]
    builder.thresholds(
        dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
    )
    builder.no_value("none").min(0)
    if most is not None:
        builder.max(most)
    _colour(builder, panel)
    built: bargauge.Panel = builder
    return built


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: an expression that gives one value for each row."""

    title: str
    expr: str
    unit: str
    signed: bool = False
    """Below zero it is coloured otherwise than above."""


def _look(column: Column) -> list[models.DynamicConfigValue]:
    properties: dict[str, object] = {"unit": column.unit}
    if column.unit == TIME:
        properties |= {"custom.width": 138}
    if column.unit == POINTS:
        properties |= {"decimals": 2}
    if column.signed:
        steps = [{"value": step.value, "color": step.color} for step in _SIGNED]
        properties |= {
            "custom.cellOptions": {"type": "color-text"},
            "custom.width": 95,
            "thresholds": {"mode": "absolute", "steps": steps},
        }
    return [models.DynamicConfigValue(id_val=name, value=v) for name, v in properties.items()]


def listing(
    panel: Panel, keys: Sequence[str], columns: Sequence[Column], *, by: str, link: str = ""
) -> table.Panel:
    """A table with a row for each value of the keys; it can be exported as CSV.

    Args:
        panel: what is shown; its queries are those of the columns.
        keys: labels that make a row, the first columns.
        columns: the values.
        by: the column that it is sorted by, largest first.
        link: where the last key leads.

    """
    whole = Panel(
        panel.title, panel.description, panel.unit, [Query(c.expr) for c in columns], panel.width,
        panel.height,
    )  # fmt: skip
    builder = _dressed(table.Panel(), whole, instant=True, tabular=True)
    value_names = {f"Value #{chr(ord('A') + i)}": c.title for i, c in enumerate(columns)}
    order = [*keys, *value_names]
    builder.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    builder.with_transformation(
        models.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {"Time": True},
                "indexByName": {name: i for i, name in enumerate(order)},
                "renameByName": value_names | {key: key.capitalize() for key in (*keys, "signal")},
            },
        )
    )
    # Names are cut short where all columns share the room alike.
    for title, width in (("Namespace", 100), ("Name", 120), ("Signal", 140)):
        builder.override_by_name(
            title, [models.DynamicConfigValue(id_val="custom.width", value=width)]
        )
    builder.min_width(70)
    for column in columns:
        builder.override_by_name(column.title, _look(column))
    if link:
        target = {"title": "Dashboard of the job", "url": link}
        builder.override_by_name(
            keys[-1].capitalize(), [models.DynamicConfigValue(id_val="links", value=[target])]
        )
    builder.sort_by([common.TableSortByFieldState().display_name(by).desc(True)])
    built: table.Panel = builder
    return built


def _colour(builder: Any, panel: Panel) -> None:  # noqa: ANN401 - the builders share no type
    for query in panel.queries:
        for name, colour in COLOURS.get(query.legend, {}).items():
            # Several series that end alike are told apart by shades of their colour.
            is_ending = name.startswith("/")
            override = builder.override_by_regexp if is_ending else builder.override_by_name
            value = {"mode": "shades" if is_ending else "fixed", "fixedColor": colour}
            override(name, [models.DynamicConfigValue(id_val="color", value=value)])


class _Moment(models.AnnotationQuery):
    """An annotation whose series' values are the times; the library lacks these fields."""

    def to_json(self) -> dict[str, object]:
        return {**super().to_json(), "useValueForTime": True, "titleFormat": "{{name}}"}


@dataclass(frozen=True, slots=True)
class _Built(Builder[models.AnnotationQuery]):
    """What the builder of the dashboard asks for an annotation."""

    query: models.AnnotationQuery

    def build(self) -> models.AnnotationQuery:
        return self.query


def _moments(job: str, *, shown: bool) -> list[Builder[models.AnnotationQuery]]:
    """Start, suspension and resumption of jobs, from the times that their statuses tell."""

    def most(metric: str) -> str:
        return f"max by (namespace, name) (green_job_{metric}{{{job}}})"

    changed, running = most("running_changed_timestamp_seconds"), most("running")
    started = most("start_timestamp_seconds")
    told = {
        "Start": ("green", f"1000 * {started}"),
        "Suspension or end": ("orange", f"1000 * {changed} and {running} == 0"),
        # The first start is told as such.
        "Resumption": ("blue", f"1000 * ({changed} > {started} + 60) and {running} == 1"),
    }
    return [
        _Built(_Moment(name=name, datasource=SOURCE, enable=shown, icon_color=colour, expr=expr))
        for name, (colour, expr) in told.items()
    ]


def _query_variable(name: str, label: str, query: str, *, several: bool) -> dashboard.QueryVariable:
    variable = dashboard.QueryVariable(name).label(label).query(query).datasource(SOURCE)
    variable.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    variable.sort(models.VariableSort.ALPHABETICAL_ASC)
    if several:
        variable.multi(True).include_all(True).all_value(".*")
        variable.current(models.VariableOption(selected=True, text="All", value="$__all"))
    return variable


def board(
    uid: str, title: str, description: str, *, time_from: str, of_one_job: bool = False
) -> dashboard.Dashboard:
    """A dashboard without panels: variables, links to the others, annotations."""
    job = 'namespace=~"$namespace", name=~"$name"' if of_one_job else NAMESPACE
    builder = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .time(time_from, "now")
        .timezone("browser")
        .refresh("1m")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .editable()
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .with_variable(
            _query_variable(
                "namespace",
                "Namespace",
                "label_values(green_jobs, namespace)",
                several=not of_one_job,
            )
        )
        .link(
            dashboard.DashboardLink("Green training")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
        )
        .annotations(_moments(job, shown=of_one_job))
    )
    if of_one_job:
        names = 'label_values(green_job_running{namespace=~"$namespace"}, name)'
        builder.with_variable(_query_variable("name", "Job", names, several=False))
    zones = "label_values(green_zone_carbon_intensity_grams_per_joule, zone)"
    return builder.with_variable(_query_variable("zone", "Zone", zones, several=True))


def of_jobs(metric: str, selector: str = NAMESPACE) -> str:
    """A gauge of jobs; of two processes that both tell of a job, one counts."""
    return f"max by ({_labels(metric)}) (green_job_{metric}{{{selector}}})"


def progress(selector: str = NAMESPACE) -> str:
    """How far jobs are; one that has a compressed model to show is done."""
    done = f"({of_jobs('size_ratio', selector)} > bool 0)"
    return f"({of_jobs('progress_ratio', selector)} or {done})"


def _labels(metric: str) -> str:
    """What tells a gauge's series apart: figures of two kinds of intensity are not one."""
    return "namespace, name, signal" if metric.startswith("emissions_") else "namespace, name"


def job_link(namespace: str, name: str) -> str:
    """Where the dashboard of one job is."""
    return f"/d/green-job?var-namespace={namespace}&var-name={name}&${{__url_time_range}}"


def used(metric: str, over: str, by: str = "", selector: str = PLACE) -> str:
    """What was used in a time, by labels."""
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (increase({metric}{{{selector}}}[{over}]))"


ENERGY: Final = "green_energy_joules_total"
EMISSIONS: Final = "green_emissions_grams_total"
UNACCOUNTED: Final = "green_unaccounted_energy_joules_total"


def kilowatt_hours(joules: str) -> str:
    """An expression in joules as kilowatt-hours."""
    return f"{joules} / {JOULES_PER_KILOWATT_HOUR}"


def intensity_of_zones(job: str = "") -> timeseries.Panel:
    """The intensity of the zones over time.

    Args:
        job: a selector: only the zones of jobs that it selects.

    """
    zones = 'max by (zone, signal) (green_zone_carbon_intensity_grams_per_joule{zone=~"$zone"})'
    # Also before the job began, when it waited for a better hour.
    its = f" and on (zone) last_over_time(green_job_zone_info{{{job}}}[$__range] @ end())"
    return lines(
        Panel(
            "Carbon intensity",
            f"Of {'its' if job else 'each'} zone's grid, as its source in use says; the signal is "
            "average or marginal, direct or life-cycle, and two signals cannot be compared.",
            INTENSITY,
            [
                Query(
                    f"({zones}{its if job else ''}) * {JOULES_PER_KILOWATT_HOUR}",
                    "{{zone}} ({{signal}})",
                )
            ],
        ),
        steps=True,
    )
