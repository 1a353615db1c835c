"""Details of a run as tables: trainings, disturbance, parity certificate, settings of the rows, machine and data."""

from __future__ import annotations

from typing import Any

from bench.records.record import Record, Run
from reports.content import accuracy
from reports.content.plots import named_rows
from reports.table import Table

SHOWN_APART = ("threads", "cpus", "allocator", "denormals", "fast_path")
"""Settings that have a column or a row of their own."""


def tables(run: Run) -> list[Table]:
    """The tables of details that are not empty."""
    return [table for table in (_disturbance(run), _parity(run), _rows(run)) if table.rows]


def trainings(run: Run) -> list[Table]:
    """Curves, classes and confusion of every row."""
    return [
        table
        for name, record in named_rows(run)
        for table in (accuracy.curve(name, record), accuracy.classes(name, record), accuracy.confusion(name, record))
        if table is not None
    ]


def classes(run: Run) -> list[Table]:
    """Precision, recall and F1 per class, one table per row."""
    of_rows = (accuracy.classes(name, record) for name, record in named_rows(run))
    return [table for table in of_rows if table is not None]


def _disturbance(run: Run) -> Table:
    headers = ["row", "disturbed", "slices", "marked", "steal", "others", "waited", "switches/s"]
    headers += ["faults/step train", "faults/step infer", "warm-up steps"]
    rows = [
        [
            name,
            {True: "YES", False: "no", None: "not visible here"}[record.disturbance.disturbed],
            str(record.disturbance.slices),
            str(record.disturbance.marked),
            *(_share(getattr(record.disturbance, part)) for part in ("steal", "others", "waited")),
            _number(record.disturbance.switches),
            *(_faults(record, task) for task in ("train", "infer")),
            _warm_up(record),
        ]
        for name, record in named_rows(run)
        if record.disturbance.slices
    ]
    return Table("Disturbance", headers, rows, numbers_from=2)


def _share(value: float | None) -> str:
    return "not visible" if value is None else f"{100 * value:.1f}%"


def _number(value: float | None) -> str:
    return "not visible" if value is None else f"{value:,.0f}"


def _faults(record: Record, task: str) -> str:
    """Page faults per step of the throughput at boundary ``device``."""
    figure = record.figure("throughput", task, "device")
    return "-" if figure is None or figure.value is None else _number(figure.faults_per_step)


def _warm_up(record: Record) -> str:
    """The fewest and the most warm-up steps of a metric's samples."""
    steps = [s.warm_up_steps for f in record.figures for s in f.samples if s.warm_up_steps is not None]
    return f"{min(steps)} to {max(steps)}" if steps else "not recorded"


def _parity(run: Run) -> Table:
    headers = ["row", "check", "value", "tolerance", "passed", "note"]
    rows = [
        [
            name,
            check.name,
            f"{check.value:.2e}",
            f"{check.tolerance:.0e}",
            "yes" if check.passed else "NO",
            check.note,
        ]
        for name, record in named_rows(run)
        for check in (record.parity.checks if record.parity else [])
    ]
    return Table("Parity certificate", headers, rows)


def _rows(run: Run) -> Table:
    headers = [
        "row",
        "device",
        "precision",
        "mode",
        "threads",
        "CPUs",
        "allocator",
        "denormals",
        "versions",
        "how it runs",
    ]
    rows = [
        [
            name,
            record.job.device,
            record.job.precision,
            record.job.mode,
            f"{record.job.threads} requested, {record.settings.get('threads', 'not read')} used",
            "not pinned" if record.job.cpus is None else ",".join(map(str, record.job.cpus)),
            record.job.allocator,
            record.settings.get("denormals", "not known"),
            ", ".join(f"{package} {version}" for package, version in record.versions.items()),
            _how_it_runs(record),
        ]
        for name, record in named_rows(run)
    ]
    return Table("Rows", headers, rows)


def _how_it_runs(record: Record) -> str:
    others = {key: value for key, value in record.settings.items() if key not in SHOWN_APART}
    details = ", ".join(f"{key}: {value}" for key, value in others.items())
    return str(record.settings.get("fast_path", "not known")) + (f" ({details})" if details else "")


def machine(run: Run) -> dict[str, str]:
    """Machine, data and commit, one line each; empty if the run has no rows."""
    if not run.records:
        return {}
    machine, data = run.records[0].machine, run.records[0].data
    return {
        "machine": _machine_facts(machine),
        "data": f"{data.name}, {data.train:,} training, {data.validation:,} validation"
        f" and {data.test:,} test images, SHA-256 {data.sha256}" + (f"; {data.note}" if data.note else ""),
        "commit": run.records[0].commit or "not in a git repository",
    }


def _machine_facts(machine: dict[str, Any]) -> str:
    """The facts of a machine; records of older versions, or from elsewhere, lack some."""
    gpus = ", ".join(gpu["name"] for gpu in machine.get("gpus", [])) or "none"
    memory = f"{machine['memory'] / 1e9:.1f} GB" if "memory" in machine else "memory not recorded"
    cpu, cores = machine.get("cpu", "CPU not recorded"), machine.get("cores", "unknown number of")
    system = " ".join(machine[name] for name in ("system", "kernel") if name in machine) or "system not recorded"
    return (
        f"{cpu}, {cores} physical cores, {memory}, GPUs: {gpus}; {system}; fingerprint {machine.get('id', 'unknown')}"
    )
