"""A run as Markdown: tables, parity, machine, versions, data, and the definition of every column."""

from __future__ import annotations

import re
from dataclasses import replace

from bench.job import Record, Run, label
from reports import accuracy, footnotes, tables
from reports.definitions import FIGURES, TERMS
from reports.table import Table, printable

SHOWN_APART = ("threads", "cpus", "allocator", "fast_path")
"""Settings that have a column, or a row, of their own."""


def render(run: Run) -> str:
    """The whole report, GitHub-flavoured."""
    notes = tables.Notes()
    parts = [f"# {run.name}", f"`{run.command}`, {run.started_at}, {run.rounds} rounds"]
    for table in tables.build(run, notes):
        parts += [f"## {table.title}", _table(table)]
    below = [*notes.lines(), *footnotes.lines(run)]
    if below:
        parts.append("\n".join(f"- {_escape(line)}" for line in below))
    parts += [_trainings(run), _disturbance(run), _parity(run), _machine(run), _rows(run), _definitions()]
    return "\n\n".join(part for part in parts if part) + "\n"


def _trainings(run: Run) -> str:
    """Curves and classes, row by row."""
    found = [
        table
        for name, record in _named(run)
        for table in (accuracy.curve(name, record), accuracy.classes(name, record), accuracy.confusion(name, record))
        if table is not None
    ]
    return "\n\n".join(f"### {_escape(table.title)}\n\n{_table(table)}" for table in found)


def _disturbance(run: Run) -> str:
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
        for name, record in _named(run)
        if record.disturbance.slices
    ]
    if not rows:
        return ""
    return "## Disturbance\n\n" + _table(Table("", headers, rows, numbers_from=2))


def _share(value: float | None) -> str:
    return "not visible" if value is None else f"{100 * value:.1f}%"


def _number(value: float | None) -> str:
    return "not visible" if value is None else f"{value:,.0f}"


def _faults(record: Record, task: str) -> str:
    """Of the device-resident throughput, batch by batch."""
    figure = record.figure("throughput", task, "device")
    return "-" if figure is None or figure.value is None else _number(figure.faults_per_step)


def _warm_up(record: Record) -> str:
    """Fewest and most steps before the first slice of a figure."""
    steps = [s.warm_up_steps for f in record.figures for s in f.samples if s.warm_up_steps is not None]
    return f"{min(steps)} to {max(steps)}" if steps else "not recorded"


def _parity(run: Run) -> str:
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
        for name, record in _named(run)
        for check in (record.parity.checks if record.parity else [])
    ]
    if not rows:
        return ""
    return "## Parity certificate\n\n" + _table(Table("", headers, rows))


def _machine(run: Run) -> str:
    if not run.records:
        return ""
    machine, data = run.records[0].machine, run.records[0].data
    gpus = ", ".join(gpu["name"] for gpu in machine["gpus"]) or "none"
    lines = [
        f"- machine: {machine['cpu']}, {machine['cores']} physical cores, {machine['memory'] / 1e9:.1f} GB,"
        f" GPUs: {gpus}; {machine['system']} {machine['kernel']}; fingerprint {machine['id']}",
        f"- data: {data.name}, {data.train:,} training, {data.validation:,} validation"
        f" and {data.test:,} test images, SHA-256 {data.sha256}" + (f"; {data.note}" if data.note else ""),
        f"- commit: {run.records[0].commit or 'not in a git repository'}",
    ]
    return "## Machine and data\n\n" + "\n".join(_escape(line) for line in lines)


def _rows(run: Run) -> str:
    headers = ["row", "device", "precision", "mode", "threads", "CPUs", "allocator", "versions", "how it runs"]
    rows = [
        [
            name,
            record.job.device,
            record.job.precision,
            record.job.mode,
            f"{record.job.threads} asked, {record.settings.get('threads', 'not read')} in force",
            "not pinned" if record.job.cpus is None else ",".join(map(str, record.job.cpus)),
            record.job.allocator,
            ", ".join(f"{package} {version}" for package, version in record.versions.items()),
            _how(record),
        ]
        for name, record in _named(run)
    ]
    return "## Rows\n\n" + _table(Table("", headers, rows))


def _how(record: Record) -> str:
    told = {key: value for key, value in record.settings.items() if key not in SHOWN_APART}
    details = ", ".join(f"{key}: {value}" for key, value in told.items())
    return str(record.settings.get("fast_path", "not known")) + (f" ({details})" if details else "")


def _definitions() -> str:
    lines = [f"- **{name}**: {text}" for name, text in {**FIGURES, **TERMS}.items()]
    return "## Definitions\n\n" + "\n".join(lines)


def _named(run: Run) -> list[tuple[str, Record]]:
    jobs = [record.job for record in run.records]
    return [(label(record.job, jobs), record) for record in run.records]


def _table(table: Table) -> str:
    escaped = replace(table, rows=[[_escape(cell) for cell in row] for row in table.rows])
    return escaped.body("github")


def _escape(text: str) -> str:
    """Markup and table borders of foreign text shown as text."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\|`*_\[\]])", r"\\\1", printable(text))
