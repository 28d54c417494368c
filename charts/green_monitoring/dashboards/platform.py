"""For the platform engineer: the operator's work, and what becomes of the jobs."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from green_monitoring.dashboards.parts import (
    COUNT,
    LATENCY,
    NAMESPACE,
    PER_MINUTE,
    PLACE,
    PROVENANCE_NOTE,
    SECONDS,
    WATTS,
    Panel,
    Query,
    board,
    intensity_of_zones,
    lines,
    number,
    ranking,
)


def _jobs(metric: str, by: str, selector: str = NAMESPACE) -> str:
    """Jobs counted by a label; of two processes that both count, one counts."""
    labels = {
        "jobs": "namespace, task, state",
        "jobs_waiting": "namespace, reason",
        "jobs_by_condition": "namespace, condition, status, reason",
    }[metric]
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (max by ({labels}) (green_{metric}{{{selector}}}))"


def _late(over: str) -> str:
    """Jobs that ended late: increase() stretches what it sees, and a job is whole."""
    return f"round(sum(increase(green_jobs_late_total{{{NAMESPACE}}}[{over}])))"


_AT_RISK = f'{NAMESPACE}, condition="DeadlineAtRisk", status="True"'
_BLIND = f'{NAMESPACE}, condition="ProgressAvailable", status="False"'


def _quantile(share: float, metric: str, over: str, selector: str = "") -> str:
    buckets = f"green_{metric}_bucket{{{selector}}}" if selector else f"green_{metric}_bucket"
    return f"histogram_quantile({share}, sum by (le) (rate({buckets}[{over}])))"


def platform() -> dashboard.Dashboard:
    """The dashboard."""
    built = board(
        "green-platform",
        "Green training / Platform",
        "The operator and the jobs of all namespaces: what runs, what waits for what, what fails.",
        time_from="now-24h",
    )
    for panel in (
        number(Panel(
            "Running", "Jobs of which a pod works now.", COUNT,
            [Query(_jobs("jobs", "", f'{NAMESPACE}, state="Running"'), "running")], 4, 4,
        )),
        number(Panel(
            "Waiting", "Jobs that are accepted, planned or suspended now.", COUNT,
            [Query(
                _jobs("jobs", "", f'{NAMESPACE}, state=~"Accepted|Planned|Suspended"'), "waiting"
            )], 4, 4,
        )),
        number(Panel(
            "Deadline at risk", "Jobs that have more work left than time before their deadline.",
            COUNT, [Query(f'{_jobs("jobs_by_condition", "", _AT_RISK)} or vector(0)', "at risk")],
            4, 4,
        ), warns_from=1),
        number(Panel(
            "Ended late", "Jobs that ended after their deadline, in the time shown.", COUNT,
            [Query(_late("$__range"), "late")], 4, 4,
        ), warns_from=1),
        number(Panel(
            "Zones on a fallback", "Zones that are not planned with their first source now, those "
            "without any source among them.", COUNT,
            [Query('count(max by (zone) (green_zone_source_position{zone=~"$zone"}) != 0) '
                   "or vector(0)", "zones")], 4, 4,
        ), warns_from=1),
        number(Panel(
            "Leaders", "Replicas that act now: one, but for the seconds of a failover.", COUNT,
            [Query("sum(green_leader)", "leaders")], 4, 4,
        )),
        lines(Panel(
            "Jobs by state", "All jobs that are there, ended ones until they are deleted.", COUNT,
            [Query(_jobs("jobs", "state"), "{{state}}")],
        ), stacked=True),
        lines(Panel(
            "What jobs wait for", "By the reason of the condition Running: Plan is cleaner power, "
            "Person a pause by hand; the guide explains the others.", COUNT,
            [Query(_jobs("jobs_waiting", "reason"), "{{reason}}")],
        ), stacked=True),
        lines(Panel(
            "Power of the jobs", "Mean over half an hour, from the energy counters. "
            f"{PROVENANCE_NOTE}", WATTS,
            [Query(f"sum by (provenance) (rate(green_energy_joules_total{{{PLACE}}}[30m]))",
                   "{{provenance}}")],
        ), stacked=True),
        lines(Panel(
            "Deadlines and progress", "Jobs at risk of missing their deadline, jobs that ended "
            "late in the hour before, and running jobs whose pod does not answer.", COUNT,
            [
                Query(f'{_jobs("jobs_by_condition", "", _AT_RISK)} or vector(0)', "at risk"),
                Query(_late("1h"), "ended late"),
                Query(f'{_jobs("jobs_by_condition", "", _BLIND)} or vector(0)', "not answering"),
            ],
        ), steps=True),
        ranking(Panel(
            "Start delay", "From creation to first start, of the jobs that started in the time "
            "shown: the wait that half and nine tenths of them did not exceed.", SECONDS,
            [
                Query(
                    f"histogram_quantile({share}, sum by (le) "
                    f"(increase(green_job_start_delay_seconds_bucket{{{NAMESPACE}}}[$__range])))",
                    name,
                )
                for share, name in ((0.5, "half"), (0.9, "nine tenths"))
            ], 12, 6,
        )),
        ranking(Panel(
            "Age of the intensity data", "By zone; a source is passed over after six hours.",
            SECONDS,
            [Query('max by (zone) (green_zone_data_age_seconds{zone=~"$zone"})', "{{zone}}")],
            12, 6,
        ), most=6 * 3600),
        intensity_of_zones(),
        lines(Panel(
            "Source in use", "0 is the zone's first source, above it a fallback, below it none.",
            COUNT,
            [Query('max by (zone) (green_zone_source_position{zone=~"$zone"})', "{{zone}}")],
        ), steps=True, least=-1),
        lines(Panel(
            "Questions to providers", "In the hour before, answered and failed ones.", COUNT,
            [Query('sum by (zone, result) (increase(green_zone_polls_total{zone=~"$zone"}[1h]))',
                   "{{zone}} {{result}}")],
        )),
        lines(Panel(
            "Requests to the Kubernetes API", "By the code of the answer; 0 is none.", PER_MINUTE,
            [Query("60 * sum by (code) (rate(green_api_requests_total[30m]))", "{{code}}")],
        )),
        lines(Panel(
            "Reconciliation", "From taking a job from the queue to its status being written: what "
            "half and nineteen in twenty do not exceed, and the same of planning. Due: for how "
            "long the job that has waited longest is due and not yet reconciled.", LATENCY,
            [
                Query(_quantile(0.5, "reconcile_duration_seconds", "1h"), "half"),
                Query(_quantile(0.95, "reconcile_duration_seconds", "1h"), "19 in 20"),
                Query(_quantile(0.95, "plan_duration_seconds", "1h"), "planning, 19 in 20"),
                Query("max(green_queue_oldest_seconds)", "due"),
            ],
        )),
        lines(Panel(
            "Reconciliations that failed", "In the hour before, by reason; each is tried again. "
            "Conflicts are ordinary: somebody was faster.", COUNT,
            [Query("sum by (reason) (increase(green_reconcile_errors_total[1h]))", "{{reason}}")],
        )),
        lines(Panel(
            "Queue", "Jobs that are due to be reconciled.", COUNT,
            [Query("max(green_queue_depth)", "due")],
        )),
        lines(Panel(
            "Jobs without series", "Jobs that have started and have no series of their own, for "
            "too many have (jobsWithMetrics). The counters have them all the same.", COUNT,
            [Query("max(green_jobs_without_series)", "jobs")],
        )),
    ):  # fmt: skip
        built.with_panel(panel)
    return built
