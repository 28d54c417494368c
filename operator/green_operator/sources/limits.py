"""What a carbon intensity can plausibly be, whoever states it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

SHORTEST_STEP: Final = timedelta(minutes=5)
LONGEST_STEP: Final = timedelta(minutes=60)
# The dirtiest grids lie near 1,000 g/kWh; far above is another unit (lb/MWh reaches 2,000).
HIGHEST_GRAMS: Final = 1_800.0
# Below 2 g/kWh throughout no grid is; in kg/kWh or t/MWh every grid is.
LOWEST_PEAK_GRAMS: Final = 2.0
# Far from the ends of what a datetime can hold, where adding a day fails.
PLAUSIBLE_YEARS: Final = range(1990, 2200)
