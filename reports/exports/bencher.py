"""A run in Bencher Metric Format: benchmark to measure to value with bounds (bencher.dev, "Bencher Metric Format").

``throughput`` is in images per second and ``latency`` in nanoseconds, as Bencher's own measures of these names; all
else is in the unit that its name ends with. Bounds are the 95% interval over processes.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from bench.records.record import Figure, Run, label

MEASURES: dict[str, tuple[str, Callable[[float], float]]] = {
    "throughput": ("throughput", lambda value: value),
    "latency_p50": ("latency", lambda value: 1e9 * value),
    "latency_p90": ("latency-p90-ns", lambda value: 1e9 * value),
    "latency_p99": ("latency-p99-ns", lambda value: 1e9 * value),
    "cold_start": ("cold-start-ns", lambda value: 1e9 * value),
    "first_call": ("first-call-ns", lambda value: 1e9 * value),
    "fit": ("fit-ns", lambda value: 1e9 * value),
    "export": ("export-ns", lambda value: 1e9 * value),
    "accuracy": ("accuracy-fraction", lambda value: value),
    "loss": ("loss-nats", lambda value: value),
    "peak_rss": ("peak-rss-bytes", lambda value: value),
    "peak_device_memory": ("peak-device-memory-bytes", lambda value: value),
    "model_size": ("model-size-bytes", lambda value: value),
}


def document(run: Run) -> str:
    """JSON."""
    jobs = [record.job for record in run.records]
    found: dict[str, dict[str, dict[str, float]]] = {}
    for record in run.records:
        for figure in record.figures:
            if figure.name in MEASURES and figure.value is not None and record.comparable:
                job = record.job
                parts = (f"{job.model}/{job.dataset}/{job.recipe}", label(job, jobs), figure.task, figure.boundary)
                name = " ".join(part for part in parts if part)
                if figure.batch_size is not None:
                    name += f" batch={figure.batch_size}"
                measure, convert = MEASURES[figure.name]
                found.setdefault(name, {})[measure] = _metric(figure, convert)
    return json.dumps(found, allow_nan=False, indent=1)


def _metric(figure: Figure, convert: Callable[[float], float]) -> dict[str, float]:
    bounds = {"value": figure.value, "lower_value": figure.low, "upper_value": figure.high}
    return {name: convert(value) for name, value in bounds.items() if value is not None}
