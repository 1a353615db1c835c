"""A run in the format of github-action-benchmark: its tools ``customBiggerIsBetter`` and ``customSmallerIsBetter``.

That action alerts on the ratio of two single values (default 200%); the gate is ``bench check``.
"""

from __future__ import annotations

import json

from bench.records.record import Figure, Run
from reports.exports import selection
from reports.exports.selection import Value

TOOLS = {"higher": "customBiggerIsBetter", "lower": "customSmallerIsBetter"}
"""The tool for each direction of a metric."""


def document(run: Run, bigger: bool) -> str:
    """The JSON document: the metrics whose higher values are better (``bigger``), or those whose lower values are."""
    direction = "higher" if bigger else "lower"
    entries = [_entry(run, one) for one in selection.values(run) if one.metric.direction == direction]
    return json.dumps(entries, allow_nan=False, indent=1)


def left_out(run: Run, bigger: bool) -> dict[str, str]:
    """What the document leaves out, with the reason."""
    direction = "higher" if bigger else "lower"
    others = {one.metric.name: one.metric for one in selection.values(run) if one.metric.direction != direction}
    metrics = {
        name: "a property of the model, neither direction is better"
        if metric.direction is None
        else f"{metric.direction} is better: --format {TOOLS[metric.direction]} has it"
        for name, metric in others.items()
    }
    return metrics | selection.left_out(run)


def _entry(run: Run, one: Value) -> dict[str, str | float]:
    figure = one.figure
    parts = (one.workload, one.row, figure.task, figure.name, figure.boundary)
    name = " ".join(part for part in parts if part)
    size = f", batch {figure.batch_size}" if figure.batch_size is not None else ""
    extra = f"n = {figure.n}, run {run.name}"
    return {"name": name + size, "unit": figure.unit, "value": one.value, "extra": extra, **_range(figure)}


def _range(figure: Figure) -> dict[str, str]:
    if figure.low is None or figure.high is None or not figure.value:
        return {}
    return {"range": f"{figure.low:.6g} to {figure.high:.6g} (95%)"}
