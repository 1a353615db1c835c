"""A run as pytest-benchmark stores its own: ``pytest-benchmark compare`` and ``--benchmark-compare`` read it.

Every benchmark is a time: of a throughput the seconds of one batch. One entry of ``data`` is one process (its summary).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from bench.errors import UsageError
from bench.records.record import Figure, Record, Run, label

TIMES = ("throughput", "latency_p50", "latency_p90", "latency_p99", "cold_start", "first_call", "fit", "export")
BESIDE = ("accuracy", "loss", "peak_rss", "peak_device_memory", "model_size", "parameters", "flops")
"""Figures that are no times: in ``extra_info``."""


def document(run: Run) -> str:
    """JSON.

    Raises:
        UsageError: pytest-benchmark is not installed.
    """
    try:
        from pytest_benchmark import __version__
    except ImportError as error:
        raise UsageError("pytest-benchmark is not installed; pip install 'evenbench[pytest]'") from error
    jobs = [record.job for record in run.records]
    benchmarks = [
        _benchmark(run, record, label(record.job, jobs), figure)
        for record in run.records
        for figure in record.figures
        if figure.name in TIMES and figure.samples and record.comparable
    ]
    whole = {
        "machine_info": _machine(run),
        "commit_info": _commit(run),
        "benchmarks": benchmarks,
        "datetime": run.started_at,
        "version": __version__,
    }
    return json.dumps(whole, allow_nan=False, indent=1)


def _benchmark(run: Run, record: Record, row: str, figure: Figure) -> dict[str, Any]:
    from pytest_benchmark.stats import Stats

    stats = Stats()
    for value in seconds(figure):
        stats.update(value)
    job = record.job
    place = [part for part in (figure.task, figure.name, figure.boundary) if part]
    group = " ".join([f"{job.model}/{job.dataset}/{job.recipe}", *place])
    params = {**asdict(job), "batch_size": figure.batch_size}
    del params["cpus"]  # pytest-benchmark compares parameters as texts
    name = f"{'_'.join(place)}[{row}]"
    return {
        "group": group,
        "name": name,
        "fullname": f"{job.model}/{job.dataset}/{job.recipe}::{name}",
        "params": params,
        "param": row,
        "extra_info": _extra(run, record),
        "options": {"timer": "evenbench worker", "disable_gc": False, "warmup": True},
        "stats": {**stats.as_dict(), "data": stats.data, "iterations": 1},
    }


def seconds(figure: Figure) -> list[float]:
    """One per process: of a throughput those of a batch, of all else the value itself."""
    if figure.name == "throughput":
        return [(figure.batch_size or 1) / sample.value for sample in figure.samples]
    return [sample.value for sample in figure.samples]


def _extra(run: Run, record: Record) -> dict[str, Any]:
    others = {"_".join(filter(None, (f.task, f.name))): f.value for f in record.figures if f.name in BESIDE}
    told = {name: value for name, value in others.items() if value is not None}
    return {**told, "run": run.name, "versions": record.versions, "disturbed": record.disturbance.disturbed}


def _machine(run: Run) -> dict[str, Any]:
    machine = run.records[0].machine if run.records else {}
    return {
        "node": machine.get("hostname", ""),
        "machine": machine.get("architecture", ""),
        "processor": machine.get("cpu", ""),
        "system": machine.get("system", ""),
        "release": machine.get("kernel", ""),
        "cpu": {"brand_raw": machine.get("cpu", ""), "count": machine.get("cpus")},
        "evenbench": machine,
    }


def _commit(run: Run) -> dict[str, Any]:
    commit = run.records[0].commit if run.records else None
    identity, _, dirty = (commit or "").partition("+")
    return {
        "id": identity or None,
        "time": None,
        "author_time": None,
        "dirty": bool(dirty),
        "project": "",
        "branch": "",
    }
