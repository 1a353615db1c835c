"""The fastest mode of each backend that ran in several modes, and its first call, which includes compile time."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.ratios import ratio_between
from bench.records.metrics import METRICS, in_unit
from bench.records.record import Figure, Record, Run
from reports.content.cells import half_width

PLACES = (("train", "end-to-end"), ("infer", "end-to-end"))


def lines(run: Run) -> list[str]:
    """One line per backend, task and precision that ran in more than one mode, all else equal."""
    groups: dict[tuple[str | int | None, ...], list[Record]] = {}
    for record in run.records:
        job = record.job
        if record.comparable:
            groups.setdefault(job.row._replace(mode=""), []).append(record)
    notes = []
    for (backend, source, _, precision, *_), records in groups.items():
        name = backend if source is None else f"{backend} <- {source}"
        for task, boundary in PLACES if len(records) > 1 else ():
            line = _fastest(records, task, boundary)
            if line:
                notes.append(f"{name} {precision}, {task}: {line}")
    return notes


def _fastest(records: Sequence[Record], task: str, boundary: str) -> str:
    measured = [(r, f) for r in records if (f := r.figure("throughput", task, boundary)) is not None and f.value]
    if len(measured) < 2:
        return ""
    best, figure = max(measured, key=lambda pair: pair[1].value or 0)
    return (
        f"mode {best.job.mode} is the fastest"
        + "".join(f", {_times(figure, other)} {r.job.mode}" for r, other in measured if r is not best)
        + f"; first inference call {_first_call(best)}"
        + "".join(f", {r.job.mode} {_first_call(r)}" for r, _ in measured if r is not best)
    )


def _times(figure: Figure, other: Figure) -> str:
    ratio = ratio_between(figure, other)
    if ratio is None:
        return "no round in common with"
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.3g} times"
    tie = " (a tie)" if ratio.low <= 1 else ""
    return f"{ratio.value:.3g} times [{ratio.low:.3g}, {ratio.high:.3g}]{tie}"


def _first_call(record: Record) -> str:
    """Time of the first inference call; it includes compile time."""
    figure = record.figure("first_call", "infer", "end-to-end")
    if figure is None or figure.value is None:
        return "not measured"
    return in_unit(METRICS[figure.name], figure.unit).with_unit(figure.value) + half_width(figure)
