"""A run as tables of text, in any format of tabulate: outcome, training, inference, start and size, parity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.records.record import Figure, Ratio, Record, Run, label
from reports.content import footnotes
from reports.content.accuracy import same_accuracy
from reports.content.cells import FORMATS, processes, spread
from reports.table import Document, Table

ABSOLUTE = ("fraction", "nats")
"""Units whose intervals are told as they are, not in percent of the value."""


@dataclass
class Notes:
    """Reasons behind ``n/m`` cells, lettered as they come."""

    reasons: list[str] = field(default_factory=list)

    def mark(self, reason: str) -> str:
        """The cell of something that was not measured."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        return f"n/m [{_letter(self.reasons.index(reason))}]"

    def lines(self) -> list[str]:
        """One line per reason."""
        return [f"[{_letter(i)}] not measured: {reason}" for i, reason in enumerate(self.reasons)]


def _letter(index: int) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return letters[index] if index < len(letters) else letters[index // len(letters) - 1] + letters[index % 26]


def document(run: Run) -> Document:
    """All tables of a run, and the notes below them."""
    notes = Notes()
    tables = build(run, notes)
    return Document(tables, [*notes.lines(), *footnotes.lines(run)])


def build(run: Run, notes: Notes) -> list[Table]:
    """The tables that have something to show."""
    records = run.records
    names = [label(record.job, [peer.job for peer in records]) for record in records]
    tables = [_outcome(names, records, notes)]
    if (compared := same_accuracy(run)) is not None:
        tables.append(compared)
    for task in ("train", "infer"):
        sizes = _batch_sizes(records, task)
        if len(sizes) > 1:
            tables += [_sweep(names, records, notes, task, boundary, sizes) for boundary in ("end-to-end", "device")]
        elif sizes:
            tables.append(_throughput(names, records, notes, task))
        if sizes and task == "infer":
            tables.append(_latency(names, records, notes))
    tables.append(_start_and_size(names, records, notes))
    return tables


def _outcome(names: Sequence[str], records: Sequence[Record], notes: Notes) -> Table:
    figures = {"accuracy": "accuracy"}
    if any(record.figure("top5_accuracy") for record in records):
        figures["top5_accuracy"] = "top-5"
    figures |= {"loss": "loss [nats]", "fit": "fit [s]", "export": "export [s]"}
    target = next((r.outcome.target_accuracy for r in records if r.outcome and r.outcome.target_accuracy), None)
    if target is not None:
        figures["time_to_accuracy"] = f"to {100 * target:g}% [s]"
    rows = [
        [name, status(record), parity(record), *_cells(record, notes, list(figures))]
        for name, record in zip(names, records, strict=True)
    ]
    seeds = max((f.n for r in records for f in r.figures if f.name == "accuracy"), default=0)
    counted = f"n = {seeds} seeds, ± 95%" if seeds > 1 else "n = 1 seed"
    headers = ["row", "status", "parity", *figures.values()]
    least = tuple(
        headers.index(asked) for asked in ("top-5", "export [s]", "loss [nats]", "fit [s]") if asked in headers
    )
    return Table(f"Outcome (test split; {counted})", headers, rows, numbers_from=3, least_asked=least)


def _cells(record: Record, notes: Notes, names: Sequence[str]) -> list[str]:
    found = (next((f for f in record.figures if f.name == name), None) for name in names)
    return [cell(figure, notes, record) for figure in found]


def _throughput(names: Sequence[str], records: Sequence[Record], notes: Notes, task: str) -> Table:
    headers = ["row", "end-to-end [images/s]", "× fastest", "device [images/s]", "× fastest"]
    rows = []
    for name, record in zip(names, records, strict=True):
        end_to_end = _speed(record, "throughput", task, "end-to-end", notes)
        rows.append([name + mark(record), *end_to_end, *_speed(record, "throughput", task, "device", notes)])
    what = {"train": "Training", "infer": "Inference"}[task]
    title = f"{what} throughput (batch {_batch_sizes(records, task)[0]}; {processes(records)})"
    return Table(title, headers, rows, numbers_from=1, least_asked=(4, 3, 2))


def _sweep(
    names: Sequence[str], records: Sequence[Record], notes: Notes, task: str, boundary: str, sizes: Sequence[int]
) -> Table:
    """Throughput by batch size, and where it is best."""
    rows = []
    for name, record in zip(names, records, strict=True):
        figures = [record.figure("throughput", task, boundary, size) for size in sizes]
        measured = [figure for figure in figures if figure is not None and figure.value is not None]
        best = max(measured, key=lambda figure: figure.value or 0, default=None)
        cells = [cell(figure, notes, record) for figure in figures]
        rows.append([name + mark(record), *cells, "-" if best is None else f"batch {best.batch_size}"])
    what = {"train": "Training", "infer": "Inference"}[task]
    title = f"{what} throughput by batch size ({boundary}, images/s; {processes(records)})"
    headers = ["row", *(f"batch {size}" for size in sizes), "best"]
    return Table(title, headers, rows, numbers_from=1, least_asked=tuple(range(2, len(sizes))))


def _latency(names: Sequence[str], records: Sequence[Record], notes: Notes) -> Table:
    headers = ["row", "p50 [ms]", "× fastest", "p90 [ms]", "p99 [ms]"]
    headers += ["device p50 [ms]", "× fastest", "device p90 [ms]", "device p99 [ms]"]
    rows = []
    for name, record in zip(names, records, strict=True):
        cells = [name + mark(record)]
        for boundary in ("end-to-end", "device"):
            cells += _speed(record, "latency_p50", "infer", boundary, notes)
            for tail in ("latency_p90", "latency_p99"):
                cells.append(cell(record.figure(tail, "infer", boundary), notes, record))
        rows.append(cells)
    sizes = {f.batch_size for r in records for f in r.figures if f.name == "latency_p50"}
    batch = " or ".join(str(size) for size in sorted(size or 1 for size in sizes))
    title = f"Inference latency (batch {batch}; end-to-end, then device; {processes(records)})"
    return Table(title, headers, rows, numbers_from=1, least_asked=(8, 7, 6, 5, 3, 4))


def _start_and_size(names: Sequence[str], records: Sequence[Record], notes: Notes) -> Table:
    headers = ["row", "cold start [s]", "first call [ms]", "peak RSS infer [MB]", "peak RSS train [MB]"]
    headers += ["device memory [MB]", "ONNX [kB]", "parameters", "FLOP/image"]
    trains = any(record.figure("peak_rss", "train") for record in records)
    infers = any(record.figure("peak_rss", "infer") for record in records)
    places: list[tuple[str, str | None, str | None]] = [
        ("cold_start", "infer", "end-to-end"),
        ("first_call", "infer", "end-to-end"),
        *([("peak_rss", "infer", None)] if infers else []),
        *([("peak_rss", "train", None)] if trains else []),
        ("peak_device_memory", None, None),
        ("model_size", None, None),
        ("parameters", None, None),
        ("flops", None, None),
    ]
    for task, there in (("infer", infers), ("train", trains)):
        if not there:
            headers.remove(f"peak RSS {task} [MB]")
    rows = [
        [
            name + mark(record),
            *(cell(record.figure(*place), notes, record) for place in places),
        ]
        for name, record in zip(names, records, strict=True)
    ]
    asked = ("parameters", "FLOP/image", "device memory [MB]", "first call [ms]", "ONNX [kB]", "cold start [s]")
    least = tuple(headers.index(name) for name in asked)
    return Table(f"Start, memory, size ({processes(records)})", headers, rows, numbers_from=1, least_asked=least)


def cell(figure: Figure | None, notes: Notes, record: Record) -> str:
    """A figure with its interval, ``n=1`` where it has none of the processes' figures, or why it was not measured."""
    if figure is None:
        return notes.mark(f"{record.status}: {record.error}" if record.error else "not part of this run")
    if figure.value is None:
        return notes.mark(figure.reason or record.error or "no reason was recorded")
    shown = FORMATS[figure.name](figure.value)
    if figure.low is not None and figure.high is not None and figure.unit in ABSOLUTE:
        return f"{shown} ±{(figure.high - figure.low) / 2:.4f}"
    return shown + spread(figure)


def _speed(record: Record, name: str, task: str, boundary: str, notes: Notes) -> list[str]:
    figure = record.figure(name, task, boundary)
    return [cell(figure, notes, record), _ratio(record, figure)]


def _ratio(record: Record, figure: Figure | None) -> str:
    ratio = figure and next((ratio for ratio in record.ratios if _of(ratio, figure)), None)
    if not ratio:
        return "-"
    if ratio.low is None or ratio.high is None or ratio.low == ratio.high:
        return f"{ratio.value:.3g}"
    return f"{ratio.value:.3g} [{ratio.low:.3g}, {ratio.high:.3g}]"


def _of(ratio: Ratio, figure: Figure) -> bool:
    return (ratio.name, ratio.task, ratio.batch_size, ratio.boundary) == figure.key


def status(record: Record) -> str:
    """``ok``, or the status with its reason."""
    return record.status if record.error is None else f"{record.status}: {record.error}"


def parity(record: Record) -> str:
    """``comparable``, or the first check that failed with its figures."""
    if record.parity is None:
        return "not certified"
    failed = [check for check in record.parity.checks if not check.passed]
    if not failed:
        return "comparable"
    shown = "; ".join(f"{check.name} {check.value:.1e} > {check.tolerance:.0e}" for check in failed[:2])
    return f"not comparable: {shown}" + (f" and {len(failed) - 2} more" if len(failed) > 2 else "")


def mark(record: Record) -> str:
    """``(!)`` behind the name of a row that stayed disturbed; the reason is in the footnotes."""
    return " (!)" if record.disturbance.disturbed else ""


def _batch_sizes(records: Sequence[Record], task: str) -> list[int]:
    """Of the throughput figures of a task, ascending."""
    return sorted({f.batch_size or 0 for r in records for f in r.figures if (f.name, f.task) == ("throughput", task)})
