"""The server and the sites of a federated job as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from green_api.status import JobStatus, RoleState, RoleStatus
from green_api.units import Emissions, Energy
from rich.table import Table
from rich.text import Text

from green_operator.amounts import format_emissions, format_energy

_STYLES: Final = {
    RoleState.WAITING: "yellow",
    RoleState.RUNNING: "green",
    RoleState.ENDED: "bold green",
    RoleState.FAILED: "bold red",
}
_COLUMNS: Final = (
    "Role",
    "State",
    "Rounds",
    "Accuracy",
    "Traffic",
    "Zone",
    "Energy",
    "Emitted",
)


def roles_parts(status: JobStatus) -> Iterator[Table | Text]:
    """A table with a row for each role, and a line below for each that has something to say."""
    if not status.roles:
        return
    table = Table(box=None, pad_edge=False)
    for column in _COLUMNS:
        table.add_column(column, header_style="dim")
    for role in status.roles:
        table.add_row(*_row(role))
    yield table
    for role in status.roles:
        dropped = f"{role.dropped_updates} updates dropped" if role.dropped_updates else ""
        if note := "; ".join(filter(None, [dropped, role.message])):
            yield Text(f"{role.name}: {note}")


def _row(role: RoleStatus) -> list[str | Text]:
    emitted = "not known"
    if role.micrograms is not None:
        emitted = format_emissions(Emissions(role.micrograms / 1e6))
    return [
        role.name,
        Text(role.state.value, style=_STYLES[role.state]),
        str(role.rounds),
        "" if role.accuracy is None else f"{100 * role.accuracy:.1f} %",
        _size(role.bytes),
        role.zone or "",
        format_energy(Energy(role.joules)),
        emitted,
    ]


def _size(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} B"
