"""Recording rules and alerts over the operator's metrics.

Gauges of jobs are of the leader alone; while a leader changes, both processes may be scraped.
Alerts ask whether anything is above zero, recording rules add up increases, which begin at zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

RUNBOOKS: Final = "https://github.com/greentraining/green-training/blob/main/docs/runbooks"


@dataclass(frozen=True, slots=True)
class Record:
    """A series that is computed from others."""

    name: str
    expr: str

    def to_wire(self) -> dict[str, Any]:
        """As Prometheus reads it."""
        return {"record": self.name, "expr": self.expr}


@dataclass(frozen=True, slots=True)
class Alert:
    """A state that somebody should know of, with what to do about it in a runbook."""

    name: str
    expr: str
    lasting: str
    """How long the expression must hold; a duration of Prometheus."""
    severity: str
    summary: str
    """One sentence; may name labels of the expression."""

    def to_wire(self) -> dict[str, Any]:
        """As Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.lasting,
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "runbook_url": f"{RUNBOOKS}/{self.name}.md",
            },
        }


def _used(what: str, labels: str, over: str) -> Record:
    level = labels.replace(", ", "_")
    return Record(
        f"{level}:green_{what}:increase{over}",
        f"sum by ({labels}) (increase(green_{what}_total[{over}]))",
    )


RECORDS: Final = tuple(
    _used(what, labels, over)
    for what, labels in (
        ("energy_joules", "namespace, zone, provenance"),
        # Two kinds of intensity are never added up.
        ("emissions_grams", "namespace, zone, provenance, signal"),
    )
    for over in ("1h", "1d")
)


def _said(condition: str, status: str) -> str:
    """Jobs of each namespace whose condition has this status."""
    selector = f'condition="{condition}", status="{status}"'
    return f"sum by (namespace) (green_jobs_by_condition{{{selector}}})"


_FAILED: Final = (
    "sum by (job) (increase(green_api_requests_total"
    '{resource!="leases", code=~"0|401|403|429|5.."}[10m]))'
)
_OF_JOB: Final = "max by (namespace, name)"

ALERTS: Final = (
    Alert(
        "GreenNoLeader",
        "sum by (job) (green_leader) == 0 or absent(green_leader)",
        "2m",
        "critical",
        "No replica of the operator leads: jobs are neither started nor suspended.",
    ),
    Alert(
        "GreenNoReconcile",
        "(max by (job) (green_queue_depth) > 0 or sum by (job) (increase("
        'green_reconcile_errors_total{reason=~"NoAnswer|Refused|Defect"}[10m])) > 0) '
        "and time() - max by (job) (green_last_reconcile_timestamp_seconds) > 600",
        "5m",
        "critical",
        "Jobs are due, and none was reconciled for ten minutes.",
    ),
    Alert(
        "GreenApiErrors",
        # The lease's renewals, one a second, would hide what goes wrong with everything else.
        # Where little is asked, a namespace that is away is asked for in vain now and then.
        f"{_FAILED} / sum by (job) "
        f'(increase(green_api_requests_total{{resource!="leases"}}[10m])) > 0.05 and {_FAILED} > 5',
        "10m",
        "warning",
        "More than 5 % of the operator's requests to the Kubernetes API fail.",
    ),
    Alert(
        "GreenReconcileDefect",
        'sum by (job) (increase(green_reconcile_errors_total{reason="Defect"}[30m])) > 0',
        "0m",
        "warning",
        "The operator met a defect of its own; its log has it.",
    ),
    Alert(
        "GreenZoneDataStale",
        "max by (zone) (green_zone_data_age_seconds) > 3 * 3600",
        "15m",
        "warning",
        "The intensity data of zone {{ $labels.zone }} is more than three hours old.",
    ),
    Alert(
        "GreenZoneFallback",
        "max by (zone) (green_zone_source_position) > 0",
        "30m",
        "warning",
        "Zone {{ $labels.zone }} is planned with a fallback, not with its first source.",
    ),
    Alert(
        "GreenZoneWithoutData",
        "max by (zone) (green_zone_source_position) < 0",
        "15m",
        "warning",
        "No source of zone {{ $labels.zone }} is usable: its jobs start at once.",
    ),
    Alert(
        "GreenDeadlineAtRisk",
        f"{_said('DeadlineAtRisk', 'True')} > 0",
        "5m",
        "warning",
        "Jobs in {{ $labels.namespace }} have more work left than time before their deadline.",
    ),
    Alert(
        "GreenDeadlineMissed",
        "sum by (namespace) (increase(green_jobs_late_total[1h])) > 0",
        "0m",
        "warning",
        "Jobs in {{ $labels.namespace }} ended after their deadline within the last hour.",
    ),
    Alert(
        "GreenJobStalled",
        f"{_OF_JOB} (green_job_running) == 1 "
        f"and {_OF_JOB} (time() - green_job_running_changed_timestamp_seconds) > 7200 "
        # What was not seen two hours ago is no standstill: Prometheus may be the younger one.
        f"and {_OF_JOB} (green_job_progress_ratio) "
        f"== {_OF_JOB} (green_job_progress_ratio offset 2h)",
        "5m",
        "warning",
        "Job {{ $labels.namespace }}/{{ $labels.name }} runs, and got no further for two hours.",
    ),
    Alert(
        "GreenFederationStalled",
        f"{_said('Stalled', 'True')} > 0",
        "15m",
        "warning",
        "Federated jobs in {{ $labels.namespace }} wait for sites: too few are there for a round.",
    ),
    Alert(
        "GreenJobNotAccepted",
        f"{_said('Accepted', 'False')} > 0",
        "15m",
        "warning",
        "Stored jobs in {{ $labels.namespace }} cannot be read by this version: they are not run.",
    ),
    Alert(
        "GreenJobCannotStart",
        "sum by (namespace, reason) (green_jobs_waiting{reason=~"
        '"Unschedulable|ImagePullFailed|ContainerNotStarted|PodNotCreated|RunRefused"}) > 0',
        "15m",
        "warning",
        "Jobs in {{ $labels.namespace }} are to run and cannot: {{ $labels.reason }}.",
    ),
    Alert(
        "GreenPodLost",
        'sum by (namespace) (green_jobs_waiting{reason="PodNotEnding"}) > 0',
        "15m",
        "warning",
        "A pod in {{ $labels.namespace }} does not end, and its job waits for that.",
    ),
    Alert(
        "GreenProgressNotSeen",
        f"{_said('ProgressAvailable', 'False')} > 0",
        "15m",
        "warning",
        "Running jobs in {{ $labels.namespace }} do not answer: their energy is estimated.",
    ),
)


def spec() -> dict[str, Any]:
    """The rules as Prometheus and a PrometheusRule have them."""
    return {
        "groups": [
            {
                "name": "green-training.records",
                "interval": "1m",
                "rules": [record.to_wire() for record in RECORDS],
            },
            {"name": "green-training.alerts", "rules": [alert.to_wire() for alert in ALERTS]},
        ]
    }
