"""The comparison table of a run: every row with every metric. Cells keep their number for sorting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.records.record import Record, Run
from reports.content import plots
from reports.content.cells import value_with_interval, why_not_measured
from reports.content.places import Place, places, title
from reports.content.states import parity, status


@dataclass(frozen=True)
class Column:
    """``unit`` is shown in the head. ``shown``: visible when the page opens; the user can show the others."""

    key: str
    head: str
    unit: str = ""
    shown: bool = True


@dataclass(frozen=True)
class Cell:
    """The text, the number to sort by (in the unit of the record), and the reason if there is no number."""

    text: str
    value: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Mark:
    """A row's name, and the reasons to doubt its values."""

    name: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """The columns, and of every row its mark and cells."""

    columns: list[Column]
    rows: list[tuple[Mark, list[Cell]]]


def grid(run: Run) -> Grid:
    """A column for every place at which some row has a value; the columns that are visible at first come first."""
    all_places = places(run.records)
    ordered = sorted(all_places, key=lambda place: not place.prominent)
    columns = [
        Column(place.key, title(place, all_places), place.metric.quantity.shown_unit, place.prominent)
        for place in ordered
    ]
    rows = [
        (Mark(name, _warnings(record)), [_cell(record, place) for place in ordered])
        for name, record in plots.named_rows(run)
    ]
    return Grid(columns, rows)


def _cell(record: Record, place: Place) -> Cell:
    figure = place.figure(record)
    if figure is None or figure.value is None:
        return Cell("n/m", reason=why_not_measured(record, figure))
    return Cell(value_with_interval(figure), figure.value)


def _warnings(record: Record) -> tuple[str, ...]:
    reasons = []
    if record.status != "ok":
        reasons.append(status(record))
    if record.parity is not None and (not record.parity.comparable or record.parity.uncertified):
        reasons.append(parity(record))
    if record.disturbance.disturbed:
        reasons.append(f"disturbed: {record.disturbance.reason}")
    return tuple(reasons)


def missing_reasons(rows: Sequence[tuple[Mark, list[Cell]]]) -> list[str]:
    """Every reason why a value is missing, once each."""
    return list(dict.fromkeys(cell.reason for _, cells in rows for cell in cells if cell.reason))
