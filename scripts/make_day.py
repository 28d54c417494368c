"""Make a synthetic day of carbon intensity for the examples: ``make_day.py KIND > FILE.csv``.

The curves are invented, in the range of a European grid in spring; they show a shape, not a place.
"""

from __future__ import annotations

import math
import sys
from datetime import UTC, datetime, timedelta

START = datetime(2026, 6, 1, 18, tzinfo=UTC)
STEP = timedelta(minutes=30)
# Evening peak, wind that drops in the small hours, sun around noon: (hours after start, width in
# hours, change of the renewable share).
SHAPES = {
    "sunny": [(1.0, 3.0, -0.18), (7.5, 2.2, 0.30), (13.0, 2.0, -0.16), (18.5, 2.6, 0.42)],
    "windy": [(1.0, 2.0, 0.34), (8.0, 3.0, -0.15), (13.5, 2.4, 0.38), (20.0, 3.0, -0.16)],
}


def renewable_share(kind: str, hours: float) -> float:
    """Share of renewable generation, 0 to 1."""
    bumps = (
        height * math.exp(-(((hours - centre) / width) ** 2))
        for centre, width, height in SHAPES[kind]
    )
    return min(max(0.34 + sum(bumps), 0.05), 0.95)


def main() -> None:
    """Print the day as CSV."""
    kind = sys.argv[1]
    print("time,gramsPerKilowattHour,renewableShare")
    for index in range(48):
        share = renewable_share(kind, index * STEP / timedelta(hours=1))
        grams = 12 * share + 460 * (1 - share)
        print(f"{START + index * STEP:%Y-%m-%dT%H:%MZ},{grams:.1f},{share:.3f}")


main()
