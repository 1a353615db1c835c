"""The comparison table of a run: every row with every figure, as cells that know their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.records.record import Figure, Record, Run
from reports.content import plots
from reports.content.cells import FORMATS, spread
from reports.content.tables import ABSOLUTE, parity, status


@dataclass(frozen=True)
class Column:
    """``unit`` stands in the head; ``shown`` at first, or only when it is asked for."""

    key: str
    head: str
    unit: str = ""
    shown: bool = True


@dataclass(frozen=True)
class Cell:
    """What is written, the number by which it is sorted (in the figure's own unit), and why there is none."""

    text: str
    value: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Mark:
    """A row's name and what speaks against its figures."""

    name: str
    against: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """Columns, and per row its mark and cells."""

    columns: list[Column]
    rows: list[tuple[Mark, list[Cell]]]


Place = tuple[str, str | None, str | None, str, str]
"""Name, task and boundary of a figure, head and unit of its column."""
PLACES: tuple[Place, ...] = (
    ("throughput", "train", "end-to-end", "training", "images/s"),
    ("throughput", "infer", "end-to-end", "inference", "images/s"),
    ("latency_p50", "infer", "end-to-end", "latency p50", "ms"),
    ("peak_rss", "train", None, "memory, training", "MB"),
    ("peak_rss", "infer", None, "memory, inference", "MB"),
    ("accuracy", None, None, "accuracy", "share"),
    ("throughput", "train", "device", "training, device", "images/s"),
    ("throughput", "infer", "device", "inference, device", "images/s"),
    ("latency_p90", "infer", "end-to-end", "latency p90", "ms"),
    ("latency_p99", "infer", "end-to-end", "latency p99", "ms"),
    ("cold_start", "infer", "end-to-end", "cold start", "s"),
    ("first_call", "infer", "end-to-end", "first call", "ms"),
    ("fit", "train", "end-to-end", "fit", "s"),
    ("time_to_accuracy", "train", "end-to-end", "to the target", "s"),
    ("loss", None, None, "loss", "nats"),
    ("top5_accuracy", None, None, "top-5", "share"),
    ("peak_device_memory", None, None, "device memory", "MB"),
    ("model_size", None, None, "ONNX", "kB"),
    ("parameters", None, None, "parameters", ""),
    ("flops", None, None, "FLOP", "per image"),
)
FIRST = 6
"""Columns that are shown at first."""


def grid(run: Run) -> Grid:
    """Of all figures that some row has; a batch size of its own column each where several were measured."""
    columns, readers = [], []
    for index, (name, task, boundary, head, unit) in enumerate(PLACES):
        sizes = sorted({f.batch_size for r in run.records for f in r.figures if _is(f, name, task, boundary)},
                       key=lambda size: size or 0)  # fmt: skip
        for size in sizes:
            batch = "" if size is None or name not in ("throughput", "latency_p50") else f", batch {size}"
            key = "-".join(str(part) for part in (name, task, boundary, size) if part is not None)
            columns.append(Column(key, head + batch, unit, shown=index < FIRST))
            readers.append((name, task, boundary, size))
    rows = [
        (Mark(name, _against(record)), [_cell(record, *reader) for reader in readers])
        for name, record in plots.names(run)
    ]
    return Grid(columns, rows)


def _is(figure: Figure, name: str, task: str | None, boundary: str | None) -> bool:
    return (figure.name, figure.task, figure.boundary) == (name, task, boundary)


def _cell(record: Record, name: str, task: str | None, boundary: str | None, size: int | None) -> Cell:
    figure, show = record.figure(name, task, boundary, size), FORMATS[name]
    if figure is None:
        return Cell("n/m", reason=f"{record.status}: {record.error}" if record.error else "not part of this run")
    if figure.value is None:
        return Cell("n/m", reason=figure.reason or record.error or "no reason was recorded")
    if figure.low is not None and figure.high is not None and figure.unit in ABSOLUTE:
        return Cell(f"{show(figure.value)} ±{(figure.high - figure.low) / 2:.4f}", figure.value)
    return Cell(show(figure.value) + spread(figure), figure.value)


def _against(record: Record) -> tuple[str, ...]:
    found = []
    if record.status != "ok":
        found.append(status(record))
    if record.parity is not None and not record.parity.comparable:
        found.append(parity(record))
    if record.disturbance.disturbed:
        found.append(f"disturbed: {record.disturbance.reason}")
    return tuple(found)


def notes(rows: Sequence[tuple[Mark, list[Cell]]]) -> list[str]:
    """Every reason for which something was not measured, once."""
    return list(dict.fromkeys(cell.reason for _, cells in rows for cell in cells if cell.reason))
