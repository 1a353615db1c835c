"""Jobs of a fleet, and the rows of their runs by machine, side by side. No ratio of machines is formed: each run's rows
took turns on its own machine only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.records.placed import Placed
from bench.records.record import Record, label
from reports.content.cells import half_width
from reports.content.notes import Notes
from reports.content.places import Place, places, title
from reports.content.states import mark, status
from reports.content.tables import cell
from reports.table import Document, Table, printable

SECONDS_OF_AN_HOUR = 3600
LONGEST_JOB = 60
"""Characters of a job's arguments in its table."""
SHOWN_LOG = 5
"""Lines of a failed node's log below the tables; the store keeps more."""


def document(name: str, placed: Sequence[Placed]) -> Document:
    """The jobs, then for each workload the rows by machine."""
    notes = Notes()
    tables = [_jobs(name, placed)]
    workloads = dict.fromkeys(_workload(record) for each in placed for record in _records(each))
    tables += [table for workload in workloads if (table := _by_machine(workload, placed, notes)) is not None]
    lines = notes.lines()
    if len(tables) > 1:
        lines.append(
            "Rows of one run took turns on one machine. Figures of different machines stand side by side; a ratio of"
            " them holds for these machines as they are, not for the rows alone."
        )
    for each in placed:
        if each.log and (each.status == "lost" or each.code not in (0, 1)):
            lines.append(f"job {each.number} on {each.node or 'no node'}: the end of its log:")
            lines += [f"    {printable(line)}" for line in each.log[-SHOWN_LOG:]]
    return Document(tables, lines, _headline(name, placed))


def _headline(name: str, placed: Sequence[Placed]) -> str:
    done, lost = (sum(each.status == wanted for each in placed) for wanted in ("done", "lost"))
    nodes = len({each.node for each in placed if each.machine})
    jobs = f"{done} of {len(placed)} job{'s' * (len(placed) != 1)} done"
    return f"{name}: {jobs}{f', {lost} lost' * bool(lost)}, on {nodes} node{'s' * (nodes != 1)}."


def _jobs(name: str, placed: Sequence[Placed]) -> Table:
    headers = ["job", "command", "node", "machine", "status", "result", "attempts", "remark"]
    rows = [
        [
            str(each.number),
            each.job if len(each.job) <= LONGEST_JOB else each.job[: LONGEST_JOB - 3] + "...",
            each.node or "any",
            each.machine or "-",
            _status(each),
            each.result or "-",
            str(each.attempts),
            each.why,
        ]
        for each in placed
    ]
    return Table(f"Jobs of {name}", headers, rows, optional_columns=(6, 3, 1))


def _status(placed: Placed) -> str:
    if placed.status != "done":
        return placed.status
    if placed.check is not None:
        return placed.check.verdict
    return {0: "ok", 1: "some rows are not ok"}.get(placed.code or 0, f"exit code {placed.code}")


@dataclass(frozen=True)
class _Row:
    """A record on its machine."""

    name: str
    placed: Placed
    record: Record


def _by_machine(workload: str, placed: Sequence[Placed], notes: Notes) -> Table | None:
    """The rows of a workload, those of the same id beneath each other."""
    rows = [
        _Row(label(record.job, [peer.job for peer in _records(each)]), each, record)
        for each in placed
        for record in _records(each)
        if _workload(record) == workload
    ]
    order = {record_id: number for number, record_id in enumerate(dict.fromkeys(row.record.id for row in rows))}
    rows.sort(key=lambda row: order[row.record.id])
    records = [row.record for row in rows]
    here = places(records)
    shown = [place for place in here if place.prominent and place.metric.group != "outcome"]
    if not shown:
        return None
    priced = [place for place in shown if place.metric.is_rate] if any(row.placed.price for row in rows) else []
    differing = _differing_versions(records)
    headers = ["row", "node", "machine", *(place.metric.titled(title(place, here, short=True)) for place in shown)]
    headers += [_priced_title(place, here, rows) for place in priced]
    headers += ["versions that differ"] * bool(differing)
    cells = []
    for row in rows:
        line = [row.name + mark(row.record), row.placed.node, str(row.record.machine.get("id", "-"))]
        line += [_value(row, place, notes) for place in shown]
        line += [_per_money(row, place, notes) for place in priced]
        if differing:
            line.append(", ".join(f"{name} {row.record.versions.get(name, 'none')}" for name in differing))
        cells.append(line)
    heading = f"{workload} by machine (± 95% over each machine's processes)"
    return Table(heading, headers, cells, numbers_from=3, optional_columns=(2,))


def _value(row: _Row, place: Place, notes: Notes) -> str:
    if row.record.status != "ok":
        return notes.mark(status(row.record), row.record.status)
    return cell(place.figure(row.record), notes, row.record)


def _priced_title(place: Place, here: Sequence[Place], rows: Sequence[_Row]) -> str:
    currency = next(row.placed.price.currency for row in rows if row.placed.price is not None)
    return f"{title(place, here, short=True)} [million images per {currency}]"


def _per_money(row: _Row, place: Place, notes: Notes) -> str:
    """Images for a unit of money, with the interval of the rate."""
    price, figure = row.placed.price, place.figure(row.record)
    if price is None:
        return notes.mark(f"no price of {row.placed.node} in [tool.evenbench.prices]")
    if figure is None or figure.value is None:
        return cell(figure, notes, row.record)
    return f"{figure.value * SECONDS_OF_AN_HOUR / price.amount / 1e6:,.4g}{half_width(figure)}"


def _differing_versions(records: Sequence[Record]) -> list[str]:
    """Packages of which rows of the same id have several versions."""
    by_row: dict[str, list[dict[str, str]]] = {}
    for record in records:
        if record.versions:
            by_row.setdefault(record.id, []).append(record.versions)
    return sorted(
        {
            name
            for versions in by_row.values()
            for name in {each for one in versions for each in one}
            if len({one.get(name) for one in versions}) > 1
        }
    )


def _records(placed: Placed) -> list[Record]:
    return [] if placed.run is None else list(placed.run.records)


def _workload(record: Record) -> str:
    return f"{record.job.model}/{record.job.dataset}/{record.job.recipe}"
