"""A run as tables of text: outcome, throughput, latency, start and size.

Each metric's entry in ``bench.records.metrics`` names the table that shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.records.metrics import Group, Metric
from bench.records.record import Figure, Ratio, Record, Run, label
from reports.content import footnotes, roofs
from reports.content.accuracy import same_accuracy
from reports.content.cells import process_count, value_with_interval, why_not_measured
from reports.content.notes import Notes
from reports.content.places import BOUNDARIES, TASKS, Place, places, title
from reports.content.states import mark, parity, status
from reports.table import Document, Table


def document(run: Run) -> Document:
    """All tables of a run, and the notes below them."""
    notes = Notes()
    tables = build(run, notes)
    return Document(tables, [*notes.lines(), *footnotes.lines(run)])


def build(run: Run, notes: Notes) -> list[Table]:
    """The tables that are not empty; the first is the outcome."""
    records = run.records
    rows = Rows([label(record.job, [peer.job for peer in records]) for record in records], records, notes)
    tables = [_outcome(rows)]
    if (compared := same_accuracy(run)) is not None:
        tables.append(compared)
    tables += [*_load(rows), *_speeds(rows, "input", "input")]
    for task in (*TASKS, None):
        tables += [*_speeds(rows, "throughput", task), *_speeds(rows, "latency", task)]
    tables += _scaling(rows)
    return [*tables, *roofs.tables(rows.names, rows.records), *_energy(rows), *_start_and_size(rows)]


@dataclass(frozen=True)
class Rows:
    """The records of a run with their names; ``notes`` collects the reasons of missing values."""

    names: Sequence[str]
    records: Sequence[Record]
    notes: Notes

    def cells(self, columns: Sequence[Column], marked: bool = True) -> list[list[str]]:
        """Name and cells of every record. ``marked``: names of disturbed rows end with ``(!)``."""
        named = zip(self.names, self.records, strict=True)
        return [
            [name + (mark(record) if marked else ""), *(column.cell(record, self.notes) for column in columns)]
            for name, record in named
        ]


@dataclass(frozen=True)
class Column:
    """The values at one place, or their ratios to the fastest row."""

    head: str
    place: Place
    ratio: bool = False

    def cell(self, record: Record, notes: Notes) -> str:
        """The cell of one record."""
        figure = self.place.figure(record)
        return _ratio(record, figure) if self.ratio else cell(figure, notes, record)


def _outcome(rows: Rows) -> Table:
    columns = _columns(rows, "outcome")
    cells = [
        [name, _status(record, rows.notes), parity(record), *values]
        for record, (name, *values) in zip(rows.records, rows.cells(columns, marked=False), strict=True)
    ]
    seeds = max((f.n for r in rows.records for column in columns if (f := column.place.figure(r))), default=0)
    conditions = ["test split", f"n = {seeds} seeds, ± 95%" if seeds > 1 else "n = 1 seed"]
    targets = (r.outcome.target_accuracy for r in rows.records if r.outcome and r.outcome.target_accuracy)
    conditions += [f"target accuracy {100 * target:g}%" for target in list(targets)[:1]]
    headers = ["row", "status", "parity", *(column.head for column in columns)]
    return Table(
        f"Outcome ({'; '.join(conditions)})", headers, cells, numbers_from=3, optional_columns=_optional(columns, 3)
    )


def _status(record: Record, notes: Notes) -> str:
    """``ok``, or another status with the letter of the note that has its reason."""
    return record.status if record.error is None else notes.mark(status(record), record.status)


def _start_and_size(rows: Rows) -> list[Table]:
    return _of_group(rows, "start and size", "Start, memory, size")


def _energy(rows: Rows) -> list[Table]:
    """The energy of an image. Where nothing is visible the notes say why (``footnotes``)."""
    measured = any(f.name == "energy" and f.value is not None for record in rows.records for f in record.figures)
    return _of_group(rows, "energy", "Energy") if measured else []


def _scaling(rows: Rows) -> list[Table]:
    """The efficiencies of several processes, with what each of them has."""
    threads = sorted({record.job.threads for record in rows.records if record.job.processes is not None})
    conditions = f"{' or '.join(map(str, threads))} thread{'s' * (threads != [1])} of each process at every size"
    several = [record for record in rows.records if record.job.processes not in (None, 1)]
    if not several:
        return []
    names = [name for name, record in zip(rows.names, rows.records, strict=True) if record in several]
    return _of_group(Rows(names, several, rows.notes), "scaling", "Scaling of training", conditions)


def _load(rows: Rows) -> list[Table]:
    """The tests under load, with how the models were served."""
    return _of_group(rows, "load", "Load", *dict.fromkeys(r.job.serving for r in rows.records if r.job.serving))


def _of_group(rows: Rows, group: Group, heading: str, *conditions: str) -> list[Table]:
    """All metrics of a group in one table; none if no row has any."""
    columns = _columns(rows, group)
    if not columns:
        return []
    heading = f"{heading} ({'; '.join([*conditions, process_count(rows.records)])})"
    headers = ["row", *(column.head for column in columns)]
    return [Table(heading, headers, rows.cells(columns), numbers_from=1, optional_columns=_optional(columns))]


def _columns(rows: Rows, group: Group) -> list[Column]:
    """A column for every place of a group of metrics."""
    here = places(rows.records, group)
    return [Column(place.metric.titled(title(place, here, short=True)), place) for place in here]


def _optional(columns: Sequence[Column], before: int = 1) -> tuple[int, ...]:
    """The columns that a narrow terminal may leave out: all but the prominent ones, from the right."""
    kept = [column.place.prominent and not column.ratio for column in columns]
    return tuple(before + i for i in reversed(range(len(columns))) if not kept[i])


def _speeds(rows: Rows, group: Group, task: str | None) -> list[Table]:
    """The metrics of a group in one task: one table; if throughput was swept over batch sizes, one table per metric."""
    here = [place for place in places(rows.records, group) if place.task == task]
    sizes = sorted({place.batch_size for place in here if place.batch_size is not None})
    if not here:
        return []
    if len(sizes) > 1 and group in ("throughput", "input"):
        swept = dict.fromkeys((place.metric.name, place.boundary) for place in here)
        return [_sweep(rows, [p for p in here if (p.metric.name, p.boundary) == key]) for key in swept]
    columns = []
    for boundary in (*BOUNDARIES, None):
        for place in here:
            if place.boundary == boundary:
                columns += _speed_columns(place, several_sizes=len(sizes) > 1)
    both = group == "latency" and {"end-to-end", "device"} <= {place.boundary for place in here}
    batch = [f"batch {' or '.join(map(str, sizes))}"] if sizes else []
    conditions = "; ".join([*batch, *["end-to-end, then device"] * both, process_count(rows.records)])
    heading = f"{_heading(task, '' if group == task else group)} ({conditions})"
    headers = ["row", *(column.head for column in columns)]
    return [Table(heading, headers, rows.cells(columns), numbers_from=1, optional_columns=_optional(columns))]


def _heading(task: str | None, what: str) -> str:
    """``Training throughput``; without a task only ``Throughput``."""
    text = f"{TASKS.get(task or '', '')} {what}".strip()
    return text[0].upper() + text[1:]


def _speed_columns(place: Place, several_sizes: bool) -> list[Column]:
    """A column of the metric's values; for decisive metrics a second one of their ratios."""
    metric = place.metric
    name = metric.title if metric.head is None else metric.head
    boundary = place.boundary if place.boundary == "device" or not name else None
    batch = f"batch {place.batch_size}" if several_sizes else None
    values = Column(metric.titled(" ".join(part for part in (boundary, name, batch) if part)), place)
    return [values, Column("× fastest", place, ratio=True)] if metric.decisive else [values]


def _sweep(rows: Rows, swept: Sequence[Place]) -> Table:
    """One metric by batch size, and the batch size at which it is best."""
    metric, task, boundary = swept[0].metric, swept[0].task, swept[0].boundary
    heads = ["value" if place.batch_size is None else f"batch {place.batch_size}" for place in swept]
    columns = [Column(head, place) for head, place in zip(heads, swept, strict=True)]
    cells = [
        [*values, _best_batch(metric, [place.figure(record) for place in swept])]
        for record, values in zip(rows.records, rows.cells(columns), strict=True)
    ]
    conditions = ", ".join(part for part in (boundary, metric.quantity.shown_unit) if part)
    heading = f"{_heading(task, metric.title)} by batch size ({conditions}; {process_count(rows.records)})"
    headers = ["row", *(column.head for column in columns), "best"]
    return Table(heading, headers, cells, numbers_from=1, optional_columns=tuple(range(2, len(swept))))


def _best_batch(metric: Metric, figures: Sequence[Figure | None]) -> str:
    measured_here = [figure for figure in figures if figure is not None and figure.value is not None]
    best = (min if metric.lower_is_better else max)(measured_here, key=lambda figure: figure.value or 0.0, default=None)
    return "-" if best is None else f"batch {best.batch_size}"


def cell(figure: Figure | None, notes: Notes, record: Record) -> str:
    """A value with its interval, or the letter of the note that says why it was not measured."""
    if figure is None or figure.value is None:
        return notes.mark(why_not_measured(record, figure))
    return value_with_interval(figure)


def _ratio(record: Record, figure: Figure | None) -> str:
    ratio = figure and next((ratio for ratio in record.ratios if _belongs_to(ratio, figure)), None)
    if not ratio:
        return "-"
    if ratio.low is None or ratio.high is None or ratio.low == ratio.high:
        return f"{ratio.value:.3g}"
    return f"{ratio.value:.3g} [{ratio.low:.3g}, {ratio.high:.3g}]"


def _belongs_to(ratio: Ratio, figure: Figure) -> bool:
    return (ratio.name, ratio.task, ratio.batch_size, ratio.boundary) == figure.key
