"""A run as metrics of Prometheus, for the textfile collector of its node exporter.

The text is OpenMetrics without timestamps, and at the same time the text format 0.0.4 that the collector reads:
https://prometheus.io/docs/instrumenting/exposition_formats/. Every metric is a gauge: what the last run measured.
"""

from __future__ import annotations

import re
from datetime import datetime

from bench.records.metrics import Metric, in_unit
from bench.records.record import Run
from reports.exports import selection
from reports.exports.optional import package
from reports.exports.selection import Value

UNITS = {
    "images/s": "images_per_second",
    "samples/s": "samples_per_second",
    "requests/s": "requests_per_second",
    "s": "seconds",
    "bytes": "bytes",
    "J/image": "joules_per_image",
    "nats": "nats",
    "fraction": "ratio",
    "ratio": "ratio",
    "count": "",
    "FLOP/image": "per_image",
    "bytes/image": "per_image",
}
"""Prometheus' own units (https://prometheus.io/docs/practices/naming/), and those that it has no word for."""
PLACES = ("row", "workload", "machine", "task", "boundary", "batch_size")
"""Labels of every value. The run is in ``evenbench_run_info``: as a label it would make new series each time."""
BOUNDS = {"": "value", "interval_low_": "low", "interval_high_": "high"}


def document(run: Run) -> str:
    """The text. A metric with an interval is three gauges: the value and both ends.

    Raises:
        UsageError: prometheus-client is not installed.
    """
    client = package("prometheus_client", "openmetrics")
    exposition = package("prometheus_client.openmetrics.exposition", "openmetrics")
    registry = client.CollectorRegistry()
    gauges = {}
    for one in selection.values(run):
        for what, field in BOUNDS.items():
            value = getattr(one.figure, field)
            if value is None:
                continue
            name = metric_name(in_unit(one.metric, one.figure.unit), what)
            if name not in gauges:
                end = {
                    "": "",
                    "interval_low_": " Lower end of its interval.",
                    "interval_high_": " Upper end of its interval.",
                }
                gauges[name] = client.Gauge(name, one.metric.definition + end[what], PLACES, registry=registry)
            gauges[name].labels(**_labels(one)).set(value)
    info = client.Gauge("evenbench_run_info", "The run that was exported.", ("run", "command"), registry=registry)
    info.labels(run=run.name, command=run.command).set(1)
    started = client.Gauge("evenbench_run_started_timestamp_seconds", "When the run began.", registry=registry)
    started.set(datetime.fromisoformat(run.started_at).timestamp())
    certified = client.Gauge(
        "evenbench_row_certified", "Whether a row is certified: 1, or 0.", ("row", "workload"), registry=registry
    )
    for record, row in selection.rows(run):
        certified.labels(row=row, workload=selection.workload(record)).set(int(record.certified))
    text: str = exposition.generate_latest(registry).decode()
    return text


def left_out(run: Run) -> dict[str, str]:
    """What the document leaves out, with the reason."""
    return selection.left_out(run)


def metric_name(metric: Metric, what: str = "") -> str:
    """``evenbench_latency_p50_seconds``, ``evenbench_throughput_interval_low_images_per_second``."""
    unit = UNITS.get(metric.unit, re.sub(r"[^a-z0-9]+", "_", metric.unit.lower()).strip("_"))
    name = metric.name.removesuffix(f"_{unit}")
    return "_".join(part for part in ("evenbench", name, what.rstrip("_"), unit) if part)


def _labels(one: Value) -> dict[str, str]:
    figure = one.figure
    return {
        "row": one.row,
        "workload": one.workload,
        "machine": str(one.record.machine.get("id", "")),
        "task": figure.task or "",
        "boundary": figure.boundary or "",
        "batch_size": "" if figure.batch_size is None else str(figure.batch_size),
    }
