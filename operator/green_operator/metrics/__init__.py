"""Prometheus metrics; the names are the operator's, on one machine and in a cluster.

``fleet`` counts jobs and what they use, ``per_job`` shows single ones, ``process`` says how the
operator fares. ``series`` has the two collectors beneath, ``reference`` describes them all.
"""

from green_operator.metrics.fleet import Metrics, Standing, rejected_standing, standing
from green_operator.metrics.per_job import DEFAULT_JOB_LIMIT
from green_operator.metrics.process import OperatorMetrics
from green_operator.metrics.reference import Description, describe

__all__ = [
    "DEFAULT_JOB_LIMIT",
    "Description",
    "Metrics",
    "OperatorMetrics",
    "Standing",
    "describe",
    "rejected_standing",
    "standing",
]
