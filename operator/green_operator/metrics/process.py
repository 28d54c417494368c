"""How the operator's own process fares."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from green_operator.metrics.series import Shown


class OperatorMetrics:
    """How the operator itself fares; in the registry of the jobs' metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.leader = Gauge(
            "green_leader", "1 where this replica is the one that acts.", registry=registry
        )
        self.reconcile_seconds = Histogram(
            "green_reconcile_duration_seconds",
            "From taking a job from the queue to its status being written.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self.reconcile_errors = Counter(
            "green_reconcile_errors",
            "Reconciliations that failed and are tried again.",
            ("reason",),
            registry=registry,
        )
        for reason in ("Conflict", "NotFound", "NoAnswer", "Refused", "Defect"):
            # From zero on, or nobody sees the first.
            self.reconcile_errors.labels(reason)
        self.queue_depth = Gauge(
            "green_queue_depth", "Jobs that are due to be reconciled.", registry=registry
        )
        self.queue_oldest = Gauge(
            "green_queue_oldest_seconds",
            "For how long the job that has waited longest is due and not yet reconciled.",
            registry=registry,
        )
        self.last_reconcile = Gauge(
            "green_last_reconcile_timestamp_seconds",
            "When a job was last reconciled without an error.",
            registry=registry,
        )
        self.plan_seconds = Histogram(
            "green_plan_duration_seconds",
            "Planning of the jobs whose inputs changed.",
            buckets=(0.001, 0.01, 0.1, 0.5, 1, 5, 20, 60),
            registry=registry,
        )
        self.requests = Counter(
            "green_api_requests",
            "Requests to the Kubernetes API, watches not included.",
            ("verb", "resource", "code"),
            registry=registry,
        )
        self.clock_offset = Gauge(
            "green_clock_offset_seconds",
            "This replica's clock less the API server's, to a second.",
            registry=registry,
        )
        self.namespaces = Shown(
            "green_namespace_available",
            "1 where a namespace of watchNamespaces can be listed, 0 where it is gone.",
            ("namespace",),
            registry,
        )
        self.zone_data_age = Shown(
            "green_zone_data_age_seconds",
            "Age of the intensity data in use; absent where none is.",
            ("zone",),
            registry,
        )
        self.zone_source = Shown(
            "green_zone_source_position",
            "Which of the zone's sources is in use: 0 its first, above it a fallback, -1 none.",
            ("zone",),
            registry,
        )
        self.zone_polls = Counter(
            "green_zone_polls",
            "Questions to providers of intensity.",
            ("zone", "result"),
            registry=registry,
        )
