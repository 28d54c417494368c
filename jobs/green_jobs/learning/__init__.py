"""How nets are trained and judged, whatever the task."""
