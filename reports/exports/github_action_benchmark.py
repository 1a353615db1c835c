"""A run as github-action-benchmark reads it: its tools ``customBiggerIsBetter`` and ``customSmallerIsBetter``.

That action alarms on the ratio of two single numbers (its default is 200%); ``bench check`` is the gate.
"""

from __future__ import annotations

import json

from bench.records.record import Figure, Run, label

BIGGER = frozenset({"throughput", "accuracy"})
LEFT_OUT = frozenset({"parameters", "flops"})
"""They are the model's, not the machine's."""


def document(run: Run, bigger: bool) -> str:
    """JSON: the figures of which more is better, or those of which less is."""
    jobs = [record.job for record in run.records]
    entries = []
    for record in run.records:
        job = record.job
        for figure in record.figures:
            wanted = (figure.name in BIGGER) is bigger and figure.name not in LEFT_OUT
            if wanted and figure.value is not None and record.comparable:
                workload = f"{job.model}/{job.dataset}/{job.recipe}"
                parts = (workload, label(job, jobs), figure.task, figure.name, figure.boundary)
                name = " ".join(part for part in parts if part)
                size = f", batch {figure.batch_size}" if figure.batch_size is not None else ""
                extra = f"n = {figure.n}, run {run.name}"
                entry = {"name": name + size, "unit": figure.unit, "value": figure.value, "extra": extra}
                entries.append({**entry, **_range(figure)})
    return json.dumps(entries, allow_nan=False, indent=1)


def _range(figure: Figure) -> dict[str, str]:
    if figure.low is None or figure.high is None or not figure.value:
        return {}
    return {"range": f"{figure.low:.6g} to {figure.high:.6g} (95%)"}
