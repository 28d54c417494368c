"""What the dashboards and rules say of a month of 500 jobs, against the statuses themselves."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Final

import pytest
import yaml
from green_api.status import State
from green_monitoring.rules import ALERTS, RECORDS
from green_operator.account.book import Amount, AmountKey

from tests.monitoring.boards import LAST, RANGES, Asked, asked, filled, load
from tests.monitoring.month import END, JOBS, Work
from tests.monitoring.seeded import Seeded
from tests.monitoring.tools import RULES

# Between these a figure of the month is plausible for one job or for all of them.
PLAUSIBLE: Final = {
    "kwatth": (0, 5_000),
    "watt": (0, 100_000),
    "massg": (-50_000, 2_000_000),
    "percentunit": (-0.2, 1.0001),
    "suffix:gCO2e/kWh": (5, 800),
    "suffix:pp": (-5, 5),
    "decbytes": (0, 1e9),
    "short": (-1, 1_000),
    "dtdurations": (-10 * 86_400, 10 * 86_400),
    "s": (0, 60),
    "reqpm": (0, 1_000),
    "time:YYYY-MM-DD HH:mm": (1.78e12, 1.785e12),
}
ALWAYS_ZERO: Final = frozenset(
    {("platform", "Deadline at risk"), ("platform", "Zones on a fallback")}
)
"""What is well at the end of the month, when these panels look at it."""
RANGE: Final = "[30d15m]"


def a_job(seeded: Seeded) -> tuple[str, str]:
    """One that is suspended again when the month ends, for its own dashboard."""
    work = max(
        (w for w in seeded.month.finished
         if w.status is not None and w.status.state is State.SUSPENDED and w.measured),
        key=lambda w: (w.book.attempts, w.done),
    )  # fmt: skip
    return work.job.metadata.namespace, work.job.metadata.name


def a_federated_job(seeded: Seeded) -> tuple[str, str]:
    """The one that was begun last, for what only federated jobs have."""
    work = max(
        (w for w in seeded.month.finished if w.job.spec.task.federate and w.started),
        key=lambda w: w.created,
    )
    return work.job.metadata.namespace, work.job.metadata.name


@pytest.mark.parametrize("board", sorted(RANGES))
def test_every_query_of_every_panel_has_data_of_its_unit_and_a_plausible_size(
    seeded: Seeded, board: str
) -> None:
    namespace, name = a_job(seeded) if board == "job" else (".*", ".*")
    problems = []
    queries = list(asked(board, namespace, name))
    if board == "job":
        of_federated = [q for q in asked(board, *a_federated_job(seeded)) if "accuracy" in q.expr]
        queries = [q for q in queries if "accuracy" not in q.expr] + of_federated
        assert of_federated
    for query in queries:
        values = sorted(v for v in answers(seeded, query) if not math.isnan(v))
        low, high = PLAUSIBLE[query.unit]
        if not values or values[0] < low or values[-1] > high:
            problems.append((str(query), query.unit, values[:2], values[-2:]))
        elif not any(values) and (board, query.panel["title"]) not in ALWAYS_ZERO:
            problems.append((str(query), "nothing but zeros"))
    assert not problems


def answers(seeded: Seeded, query: Asked) -> list[float]:
    """All values that a panel shows of a query."""
    if query.instant:
        return [v for _, v in seeded.prometheus.ask(query.expr, LAST)]
    begin = LAST - query.days * 86_400
    series = seeded.prometheus.over(query.expr, begin, LAST, query.days * 86_400 / 500)
    return [float(v) for s in series for _, v in s["values"]]


def test_every_panel_has_unit_description_and_data_source() -> None:
    for board in RANGES:
        document = load(board)
        assert document["uid"] == f"green-{board}"
        names = {v["name"] for v in document["templating"]["list"]}
        assert names >= {"datasource", "namespace", "zone"}
        told = {a["name"] for a in document["annotations"]["list"]}
        assert told == {"Start", "Suspension or end", "Resumption"}
        assert document["links"][0]["tags"] == ["green-training"] == document["tags"]
        for panel in document["panels"]:
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            assert len(panel["description"]) > 10, panel["title"]
            assert panel["datasource"]["uid"] == "${datasource}", panel["title"]


def test_annotations_tell_the_times_that_the_statuses_tell(seeded: Seeded) -> None:
    """Of the job of the last days that was suspended and resumed most often."""
    annotations = {a["name"]: a["expr"] for a in load("job")["annotations"]["list"]}
    work = max(
        (w for w in seeded.month.finished if w.started and w.started > END - timedelta(days=2)),
        key=lambda w: w.book.attempts,
    )
    namespace, name = work.job.metadata.namespace, work.job.metadata.name
    begun = [at for at, runs in work.changes if runs]
    ceased = [at for at, runs in work.changes if not runs]
    assert len(begun) > 1
    for told, moments in (
        ("Start", begun[:1]), ("Resumption", begun[1:]), ("Suspension or end", ceased),
    ):  # fmt: skip
        expr = filled(annotations[told], 3, namespace, name)
        found = seeded.prometheus.over(expr, LAST - 3 * 86_400, LAST, 900)
        times = {float(value) for series in found for _, value in series["values"]}
        assert times == {at.timestamp() * 1000 for at in moments}, told


def test_what_an_alert_compares_was_there_in_the_month(seeded: Seeded) -> None:
    """Each whole expression, without its thresholds: its parts must meet in their labels."""

    def compared(expr: str) -> str:
        # The month is scraped every quarter of an hour: ten minutes have no two scrapes.
        return re.sub(r" (?:==|>|<) [\d.* ]*\d\b", "", expr).replace("[10m]", "[1h]")

    silent = [
        alert.name
        for alert in ALERTS
        if not seeded.prometheus.over(compared(alert.expr), LAST - 30 * 86_400, LAST, 900)
    ]
    # The month has no job of another version.
    assert silent == ["GreenJobNotAccepted"]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_what_is_recorded_is_what_its_expression_says(seeded: Seeded, record: Any) -> None:
    ((_, at),) = seeded.prometheus.ask(f"max(timestamp({record.name}))", LAST)

    def by_labels(expr: str) -> dict[frozenset[tuple[str, str]], float]:
        found = seeded.prometheus.ask(expr, at)
        return {frozenset(m.items() - {("__name__", record.name)}): v for m, v in found}

    recorded = by_labels(record.name)
    assert any(recorded.values())
    assert recorded == pytest.approx(by_labels(record.expr))


def test_every_series_that_a_rule_asks_for_was_there_in_the_month(seeded: Seeded) -> None:
    """Whether alerts fire is tested apart; here, that their selectors select something."""
    selectors = set()
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            selectors |= set(re.findall(r"green_[a-z_]+(?:\{[^}]*\})?", rule["expr"]))
    missing = [
        s for s in selectors
        if not seeded.prometheus.ask(f"count(last_over_time({s}{RANGE}))", LAST)
    ]  # fmt: skip
    # The month has no job of another version.
    assert missing == ['green_jobs_by_condition{condition="Accepted", status="False"}']


Place = tuple[str, str, str]
"""Namespace, zone, and provenance or kind of intensity."""


def entries(work: Work) -> Iterable[tuple[AmountKey, Amount]]:
    """What is in a job's books; the tails of one that lives are not counted yet."""
    return (work.book.all_amounts() if work.is_final else work.book.amounts).items()


def joules(seeded: Seeded) -> dict[Place, float]:
    """In the statuses, by namespace, zone and provenance."""
    sums: dict[Place, float] = defaultdict(float)
    for work in seeded.month.finished:
        for (zone, _, provenance), amount in entries(work):
            key = (work.job.metadata.namespace, zone or "", provenance.value)
            sums[key] += amount.millijoules / 1000
    return sums


def grams(seeded: Seeded) -> dict[Place, float]:
    """In the statuses, by namespace, zone and kind of intensity."""
    sums: dict[Place, float] = defaultdict(float)
    for work in seeded.month.finished:
        for (zone, signal, _), amount in entries(work):
            if signal is not None:
                key = (work.job.metadata.namespace, zone or "", signal.value)
                sums[key] += amount.nanograms / 1e9
    return sums


@pytest.mark.parametrize(
    ("counter", "kind", "expected"),
    [
        ("green_energy_joules_total", "provenance", joules),
        ("green_emissions_grams_total", "signal", grams),
    ],
)
def test_the_increase_over_the_month_is_the_sum_of_the_statuses(
    seeded: Seeded, counter: str, kind: str, expected: Callable[[Seeded], dict[Place, float]]
) -> None:
    assert len(seeded.month.finished) == JOBS
    found = {
        (m["namespace"], m["zone"], m[kind]): value
        for m, value in seeded.prometheus.ask(
            f"sum by (namespace, zone, {kind}) (increase({counter}{RANGE}))", LAST
        )
    }
    books = expected(seeded)
    for key, amount in books.items():
        # Prometheus stretches an increase to the ends of the time: a scrape or two of a month.
        assert found[key] == pytest.approx(amount, rel=0.01), key
    assert sum(found.values()) == pytest.approx(sum(books.values()), rel=0.005)


@pytest.mark.parametrize(
    ("counter", "kind"),
    [("green_energy_joules_total", ""), ("green_emissions_grams_total", "signal")],
)
def test_nothing_is_counted_twice(seeded: Seeded, counter: str, kind: str) -> None:
    """The sum over namespaces, zones or provenances is the whole, of each kind of intensity."""

    def increase(by: str) -> dict[str, float]:
        sums: dict[str, float] = defaultdict(float)
        expr = f"sum by ({by}) (increase({counter}{RANGE}))"
        for labels, value in seeded.prometheus.ask(expr, LAST):
            sums[labels.get(kind, "")] += value
        return sums

    whole = increase(kind)
    assert len(whole) == (2 if kind else 1)
    for label in ("namespace", "zone", "provenance", "task"):
        assert increase(f"{label}, {kind}" if kind else label) == pytest.approx(whole)


def test_jobs_are_counted_once(seeded: Seeded) -> None:
    jobs = seeded.prometheus.ask("sum(green_jobs)", LAST)
    live = seeded.prometheus.ask("sum by (state) (green_jobs)", LAST)
    assert jobs[0][1] == sum(v for _, v in live)
    started = seeded.prometheus.ask("count(green_job_running)", LAST)
    assert started[0][1] <= jobs[0][1]
