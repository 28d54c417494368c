"""Rules on made series: each alert fires where it should, and stays silent where it should not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from green_monitoring.rules import ALERTS
from green_operator.metrics import Metrics, OperatorMetrics, describe
from prometheus_client import generate_latest

from tests.monitoring.tools import ROOT, RULES, promtool

Series = dict[str, str]
OPERATOR: Final = 'job="green-training", instance="a"'
STANDBY: Final = 'job="green-training", instance="b"'
RISK: Final = 'green_jobs_by_condition{condition="DeadlineAtRisk", status="%s", namespace="team-a"}'
BLIND: Final = (
    'green_jobs_by_condition{condition="ProgressAvailable", status="%s", namespace="team-a"}'
)
STALLED: Final = 'green_jobs_by_condition{condition="Stalled", status="%s", namespace="team-a"}'
ACCEPTED: Final = 'green_jobs_by_condition{condition="Accepted", status="%s", namespace="team-a"}'
WAITING: Final = 'green_jobs_waiting{namespace="team-a", reason="%s"}'
REQUESTS: Final = 'green_api_requests_total{%s, code="%s"}'
JOB: Final = '{namespace="team-a", name="big"}'


def running(progress: str, changed: int = 0) -> Series:
    return {
        f"green_job_running{JOB}": "1x300",
        f"green_job_running_changed_timestamp_seconds{JOB}": f"{changed}x300",
        f"green_job_progress_ratio{JOB}": progress,
    }


JOB_LABELS: Final = {"job": "green-training"}
ZONE: Final = {"zone": "gb"}
TEAM: Final = {"namespace": "team-a"}
# The alert, what is the case, its series by the minute, the minute, labels of what fires (or None).
CASES: Final[list[tuple[str, str, Series, int, dict[str, str] | None]]] = [
    ("GreenNoLeader", "nobody leads", {f"green_leader{{{OPERATOR}}}": "0x20"}, 10, JOB_LABELS),
    ("GreenNoLeader", "nothing is scraped", {"up": "0x20"}, 10, {}),
    (
        "GreenNoLeader", "one of two leads",
        {f"green_leader{{{OPERATOR}}}": "0x20", f"green_leader{{{STANDBY}}}": "1x20"}, 10, None,
    ),
    (
        "GreenNoLeader", "a failover takes a minute",
        {f"green_leader{{{OPERATOR}}}": "1x5 0 1x20"}, 6, None,
    ),
    (
        "GreenNoReconcile", "jobs are due and nothing is done",
        {
            f"green_queue_depth{{{OPERATOR}}}": "7x60",
            f"green_last_reconcile_timestamp_seconds{{{OPERATOR}}}": "60x60",
        },
        30, JOB_LABELS,
    ),
    (
        "GreenNoReconcile", "nothing is due",
        {
            f"green_queue_depth{{{OPERATOR}}}": "0x60",
            f"green_last_reconcile_timestamp_seconds{{{OPERATOR}}}": "60x60",
        },
        30, None,
    ),
    (
        "GreenNoReconcile", "the leader works, the standby never did",
        {
            f"green_queue_depth{{{OPERATOR}}}": "7x60",
            f"green_last_reconcile_timestamp_seconds{{{OPERATOR}}}": "0+60x60",
            f"green_last_reconcile_timestamp_seconds{{{STANDBY}}}": "0x60",
        },
        30, None,
    ),
    (
        "GreenApiErrors", "one in ten fails",
        {REQUESTS % (OPERATOR, "200"): "0+90x60", REQUESTS % (OPERATOR, "503"): "0+10x60"},
        40, JOB_LABELS,
    ),
    (
        "GreenApiErrors", "a namespace is away, and little is asked",
        {REQUESTS % (OPERATOR, "200"): "0+1x60", REQUESTS % (OPERATOR, "403"): "0+0.1x60"},
        40, None,
    ),
    (
        "GreenApiErrors", "conflicts are ordinary",
        {REQUESTS % (OPERATOR, "200"): "0+90x60", REQUESTS % (OPERATOR, "409"): "0+10x60"},
        40, None,
    ),
    (
        "GreenReconcileDefect", "one defect",
        {f'green_reconcile_errors_total{{{OPERATOR}, reason="Defect"}}': "0x10 1x30"},
        20, JOB_LABELS,
    ),
    (
        "GreenReconcileDefect", "somebody was faster",
        {f'green_reconcile_errors_total{{{OPERATOR}, reason="Conflict"}}': "0x10 1x30"}, 20, None,
    ),
    (
        "GreenZoneDataStale", "the provider is away",
        {'green_zone_data_age_seconds{zone="gb"}': "0+60x300"}, 210, ZONE,
    ),
    (
        "GreenZoneDataStale", "asked every half hour",
        {'green_zone_data_age_seconds{zone="gb"}': "1700x300"}, 210, None,
    ),
    (
        "GreenZoneFallback", "the second source",
        {'green_zone_source_position{zone="gb"}': "1x60"}, 45, ZONE,
    ),
    (
        "GreenZoneFallback", "a hiccup of ten minutes",
        {'green_zone_source_position{zone="gb"}': "0x10 1x10 0x60"}, 45, None,
    ),
    (
        "GreenZoneWithoutData", "no source",
        {'green_zone_source_position{zone="gb"}': "-1x60"}, 30, ZONE,
    ),
    (
        "GreenZoneWithoutData", "a fallback is a source",
        {'green_zone_source_position{zone="gb"}': "1x60"}, 30, None,
    ),
    ("GreenDeadlineAtRisk", "two jobs", {RISK % "True": "2x20"}, 10, TEAM),
    ("GreenDeadlineAtRisk", "all fit", {RISK % "False": "2x20"}, 10, None),
    ("GreenFederationStalled", "a site is missing", {STALLED % "True": "1x60"}, 30, TEAM),
    ("GreenFederationStalled", "enough sites", {STALLED % "False": "1x60"}, 30, None),
    ("GreenFederationStalled", "one came late", {STALLED % "True": "1x10 0x60"}, 30, None),
    ("GreenJobNotAccepted", "a newer one wrote it", {ACCEPTED % "False": "1x60"}, 30, TEAM),
    ("GreenJobNotAccepted", "all are read", {ACCEPTED % "True": "9x60"}, 30, None),
    (
        "GreenDeadlineMissed", "one more within the hour",
        {'green_jobs_late_total{namespace="team-a"}': "1x90 2x60"}, 100, TEAM,
    ),
    (
        "GreenDeadlineMissed", "the first one of a namespace",
        {'green_jobs_late_total{namespace="team-a"}': "0x5 1x60"}, 10, TEAM,
    ),
    (
        "GreenDeadlineMissed", "long ago",
        {'green_jobs_late_total{namespace="team-a"}': "2x300"}, 200, None,
    ),
    (
        "GreenDeadlineMissed", "a new process begins at zero",
        {
            'green_jobs_late_total{namespace="team-a", instance="a"}': "2x100",
            'green_jobs_late_total{namespace="team-a", instance="b"}': "_x100 0x100",
        },
        110, None,
    ),
    (
        "GreenJobStalled", "no progress for two hours and more",
        running("0.4x300"), 200, {"namespace": "team-a", "name": "big"},
    ),
    ("GreenJobStalled", "slow progress", running("0+0.001x300"), 200, None),
    ("GreenJobStalled", "just resumed", running("0.4x300", changed=190 * 60), 200, None),
    (
        "GreenJobStalled", "suspended",
        running("0.4x300") | {f"green_job_running{JOB}": "0x300"}, 200, None,
    ),
    (
        "GreenJobStalled", "a new leader has just begun to tell",
        {
            f"green_job_running{JOB}": "1x300",
            f"green_job_running_changed_timestamp_seconds{JOB}": "0x300",
            'green_job_progress_ratio{namespace="team-a", name="big", instance="a"}': "0+0.001x195",
            'green_job_progress_ratio{namespace="team-a", name="big", instance="b"}':
                "_x195 0.2x100",
        },
        200, None,
    ),
    (
        "GreenJobCannotStart", "no node fits",
        {WAITING % "Unschedulable": "1x60"}, 30,
        {"namespace": "team-a", "reason": "Unschedulable"},
    ),
    ("GreenJobCannotStart", "waits for cleaner power", {WAITING % "Plan": "9x60"}, 30, None),
    ("GreenPodLost", "a dead node", {WAITING % "PodNotEnding": "1x60"}, 30, TEAM),
    ("GreenPodLost", "a pod ends in its time", {WAITING % "PodEnding": "1x60"}, 30, None),
    ("GreenProgressNotSeen", "a pod does not answer", {BLIND % "False": "1x60"}, 30, TEAM),
    ("GreenProgressNotSeen", "pods answer", {BLIND % "True": "1x60"}, 30, None),
]  # fmt: skip


def _told(name: str, labels: dict[str, str]) -> dict[str, Any]:
    wire = next(alert for alert in ALERTS if alert.name == name).to_wire()
    texts = {}
    for key, text in wire["annotations"].items():
        for label, value in labels.items():
            text = text.replace(f"{{{{ $labels.{label} }}}}", value)
        texts[key] = text
    return {"exp_labels": wire["labels"] | labels, "exp_annotations": texts}


@pytest.mark.parametrize("name", [alert.name for alert in ALERTS])
def test_an_alert_fires_where_it_should_and_nowhere_else(name: str, tmp_path: Path) -> None:
    cases = [case for case in CASES if case[0] == name]
    assert {case[4] is None for case in cases} == {True, False}, "a case of either kind"
    tests = [
        {
            "name": what,
            "interval": "1m",
            "input_series": [{"series": s, "values": v} for s, v in series.items()],
            "alert_rule_test": [
                {
                    "eval_time": f"{minute}m",
                    "alertname": name,
                    "exp_alerts": [] if labels is None else [_told(name, labels)],
                }
            ],
        }
        for _, what, series, minute, labels in cases
    ]
    file = tmp_path / "tests.yaml"
    document = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}
    file.write_text(yaml.safe_dump(document))
    promtool("test", "rules", file)


def test_what_is_recorded_is_the_use_of_an_hour_and_a_day_by_place_and_kind(tmp_path: Path) -> None:
    """Over all tasks, and over two processes of which the second goes on where the first ended."""
    labels = 'namespace="team-a", zone="gb", provenance="Measured"'
    first = f'green_energy_joules_total{{{labels}, task="train", instance="a"}}'
    second = f'green_energy_joules_total{{{labels}, task="train", instance="b"}}'
    other = f'green_energy_joules_total{{{labels}, task="compress", instance="a"}}'
    recorded = "namespace_zone_provenance:green_energy_joules:increase"
    test = {
        "interval": "1m",
        "input_series": [
            {"series": first, "values": "0+600x720 _x1000"},
            {"series": second, "values": "_x720 0+600x719"},
            {"series": other, "values": "0+60x1440"},
        ],
        "promql_expr_test": [
            {
                "expr": f"round({recorded}{over}, 1000)",
                "eval_time": f"{at}m",
                "exp_samples": [{"labels": f"{{{labels}}}", "value": value}],
            }
            for over, at, value in (
                ("1h", 600, 40_000),
                ("1h", 1200, 40_000),
                ("1d", 1440, 951_000),
            )
        ],
    }
    _check(test, tmp_path)


def test_emissions_of_two_kinds_of_intensity_are_recorded_apart(tmp_path: Path) -> None:
    """Of one place, over all tasks of either kind."""
    labels = 'namespace="team-a", zone="gb", provenance="Measured"'

    def emitted(task: str, signal: str) -> str:
        return f'green_emissions_grams_total{{{labels}, task="{task}", signal="{signal}"}}'

    recorded = "namespace_zone_provenance_signal:green_emissions_grams:increase"
    test = {
        "interval": "1m",
        "input_series": [
            {"series": emitted("train", "AverageDirect"), "values": "0+10x1440"},
            {"series": emitted("compress", "AverageDirect"), "values": "0+5x1440"},
            {"series": emitted("train", "MarginalDirect"), "values": "0+1x1440"},
        ],
        "promql_expr_test": [
            {
                "expr": f"{recorded}{over}",
                "eval_time": "1440m",
                "exp_samples": [
                    {
                        "labels": f'{recorded}{over}{{{labels}, signal="{signal}"}}',
                        "value": grams * minutes,
                    }
                    for signal, grams in (("AverageDirect", 15), ("MarginalDirect", 1))
                ],
            }
            for over, minutes in (("1h", 60), ("1d", 1440))
        ],
    }
    _check(test, tmp_path)


def _check(test: dict[str, Any], folder: Path) -> None:
    """Have promtool run one test of the rules."""
    file = folder / "tests.yaml"
    file.write_text(
        yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]})
    )
    promtool("test", "rules", file)


def test_promtool_finds_nothing_wrong_with_rules_and_metrics() -> None:
    promtool("check", "rules", "--lint-fatal", RULES)
    jobs = Metrics()
    OperatorMetrics(jobs.registry)
    promtool("check", "metrics", stdin=generate_latest(jobs.registry).decode())


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    pages = {path.stem for path in (ROOT / "docs/runbooks").glob("Green*.md")}
    assert pages == {alert.name for alert in ALERTS}
    for alert in ALERTS:
        text = (ROOT / f"docs/runbooks/{alert.name}.md").read_text()
        assert {"## What it means", "## What to look at", "## What to do"} <= set(text.splitlines())
    # The index has them in the order of the rules, with their severities.
    rows = re.findall(
        r"^\| \[(\w+)\]\((\w+)\.md\) \| (\w+) \|",
        (ROOT / "docs/runbooks/README.md").read_text(), re.MULTILINE,
    )  # fmt: skip
    assert rows == [(alert.name, alert.name, alert.severity) for alert in ALERTS]


def test_rules_ask_for_metrics_that_there_are() -> None:
    jobs = Metrics()
    known = {m.name for m in describe(jobs, OperatorMetrics(jobs.registry))}
    text = " ".join(
        rule["expr"] for g in yaml.safe_load(RULES.read_text())["groups"] for rule in g["rules"]
    )
    asked = set(re.findall(r"\bgreen_[a-z_]+", text))
    assert asked <= known
