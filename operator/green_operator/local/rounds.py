"""What is drawn of a federated training: the accuracy after each round."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from green_api.contract import Report
from pydantic import ValidationError
from rich.text import Text

from green_operator.local.chart import in_columns
from green_operator.local.picture import picture

_HEIGHT: Final = 6


def read_accuracies(report: Path) -> list[float]:
    """The accuracy after each round, 0 to 1, as the job's report has it; none where it has none."""
    with suppress(OSError, ValidationError):
        rounds = Report.model_validate_json(report.read_bytes()).details.get("rounds")
        found = [r.get("accuracy") for r in rounds or () if isinstance(r, dict)]  # type: ignore[union-attr]
        return [float(a) for a in found if isinstance(a, int | float) and 0 <= a <= 1]
    return []


def accuracies_in_terminal(accuracies: Sequence[float], width: int) -> Text:
    """A column for each round; of many rounds, for the last of equal parts of them."""
    shown = [
        accuracies[(place + 1) * len(accuracies) // min(len(accuracies), width - 6) - 1]
        for place in range(min(len(accuracies), width - 6))
    ]
    wide = max(1, min(4, (width - 6) // len(shown)))
    columns = [(100 * value, "green") for value in shown for _ in range(wide)]
    text = in_columns(columns, 100.0, _HEIGHT)
    last = f"round {len(accuracies)}: {100 * accuracies[-1]:.2f} %"
    return text.append(f"      test accuracy by round, in per cent; after {last}\n", style="dim")


def accuracies_to_png(accuracies: Sequence[float], title: str, path: Path) -> None:
    """The same as a picture."""
    # Imported here: half a second that only a picture needs.
    from matplotlib.ticker import MaxNLocator

    rounds = range(1, len(accuracies) + 1)
    with picture(title, path) as axes:
        axes.plot(rounds, [100 * a for a in accuracies], color="#16a34a", marker="o", markersize=4)
        axes.set_xlabel("round")
        axes.set_ylabel("test accuracy in %")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
