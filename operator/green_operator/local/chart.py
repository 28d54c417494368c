"""What is drawn of a schedule: the intensity with the times in which the job ran or will run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from rich.text import Text

from green_operator.local.picture import picture
from green_operator.plan.types import Slot, Window
from green_operator.plan.windows import cover, overlap, weighted_mean

_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_RUN, _WAIT = "green", "bright_black"


@dataclass(frozen=True, slots=True)
class Chart:
    """The intensity over a stretch of time, and the windows of a job in it."""

    slots: Sequence[Slot]
    start: datetime
    end: datetime
    windows: Sequence[Window]
    title: str

    def columns(self, count: int) -> list[tuple[float, bool]]:
        """Mean intensity and whether the job runs there, for equal parts of the time."""
        covered, _ = cover(self.slots, self.start, self.end)
        step = (self.end - self.start) / count
        parts = [
            Window(self.start + i * step, self.start + (i + 1) * step)
            for i in range(count)
        ]  # fmt: skip
        return [(_mean(covered, part), self._runs(part)) for part in parts]

    def _runs(self, part: Window) -> bool:
        run = sum(
            (
                max(min(w.end, part.end) - max(w.start, part.start), timedelta(0))
                for w in self.windows
            ),
            timedelta(0),
        )
        return run >= (part.end - part.start) / 2


def _mean(slots: Sequence[Slot], part: Window) -> float:
    return weighted_mean(overlap(slots, part), lambda s: s.intensity.grams_per_kilowatt_hour)


def in_terminal(chart: Chart, width: int, height: int = 8) -> Text:
    """Columns of block characters; green and underlined where the job runs."""
    columns = chart.columns(width - 6)
    top = max(max(grams for grams, _ in columns), 1.0)
    text = in_columns([(grams, _RUN if runs else _WAIT) for grams, runs in columns], top, height)
    # Where there is no colour, the line alone says when it runs.
    marks = "".join("━" if runs else " " for _, runs in columns)
    text.append(f"  run {marks}\n", style=_RUN)
    left, right = f"{chart.start:%d %b %H:%M}", f"{chart.end:%d %b %H:%M} UTC"
    text.append(" " * 6 + left + right.rjust(len(columns) - len(left)) + "\n", style="dim")
    text.append("      gCO2e/kWh, ", style="dim")
    text.append("━ job runs", style=_RUN)
    return text


def in_columns(columns: Sequence[tuple[float, str]], top: float, height: int) -> Text:
    """Columns of block characters, each with its style, on a scale from 0 to ``top``."""
    text = Text()
    for row in reversed(range(height)):
        label = {height - 1: f"{top:5.0f} ", 0: "    0 "}.get(row, " " * 6)
        text.append(label, style="dim")
        for value, style in columns:
            filled = round(value / top * height * 8) - row * 8
            text.append(_BLOCKS[min(max(filled, 0), 8)], style=style)
        text.append("\n")
    return text


def to_png(chart: Chart, path: Path) -> None:
    """The same as a picture."""
    # Imported here: half a second that only a picture needs.
    from matplotlib import dates

    covered, _ = cover(chart.slots, chart.start, chart.end)
    times = [s.start for s in covered] + [chart.end]
    grams = [s.intensity.grams_per_kilowatt_hour for s in covered]
    with picture(chart.title, path) as axes:
        axes.stairs(
            grams, dates.date2num(times), baseline=None, color="#6b7280", linewidth=1.6,
            label="intensity",
        )  # fmt: skip
        for index, window in enumerate(chart.windows):
            parts = overlap(covered, window)
            edges = [p.start for p in parts] + [window.end]
            values = [p.intensity.grams_per_kilowatt_hour for p in parts]
            axes.stairs(
                values, dates.date2num(edges), fill=True, color="#16a34a", alpha=0.75,
                label="job ran" if index == 0 else None,
            )  # fmt: skip
        axes.set_ylim(bottom=0)
        axes.set_xlim(dates.date2num(chart.start), dates.date2num(chart.end))
        axes.set_ylabel("gCO2e/kWh")
        axes.xaxis_date()
        axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(axes.xaxis.get_major_locator()))
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
