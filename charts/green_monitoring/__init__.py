"""What Prometheus and Grafana are given with the chart, as typed Python.

``rules`` has recording rules and alerts, ``dashboards`` the boards; ``scripts/generate.py`` writes
both into the chart's files. Nothing of it is in an image.
"""
