"""A run as Markdown: tables, parity, machine, versions, data, and the definition of every column."""

from __future__ import annotations

import re
from dataclasses import replace

from bench.job import Record, Run, label
from reports import tables
from reports.definitions import FIGURES, TERMS


def render(run: Run) -> str:
    """The whole report, GitHub-flavoured."""
    notes = tables.Notes()
    parts = [f"# {run.name}", f"`{run.command}`, {run.started_at}, {run.rounds} rounds"]
    for table in tables.build(run, notes):
        parts += [f"## {table.title}", _table(table)]
    below = [*notes.lines(), *tables.footnotes(run)]
    if below:
        parts.append("\n".join(f"- {_escape(line)}" for line in below))
    parts += [_parity(run), _machine(run), _rows(run), _definitions()]
    return "\n\n".join(part for part in parts if part) + "\n"


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
    return "## Parity certificate\n\n" + _table(tables.Table("", headers, rows))


def _machine(run: Run) -> str:
    if not run.records:
        return ""
    machine, data = run.records[0].machine, run.records[0].data
    gpus = ", ".join(gpu["name"] for gpu in machine["gpus"]) or "none"
    lines = [
        f"- machine: {machine['cpu']}, {machine['cores']} physical cores, {machine['memory'] / 1e9:.1f} GB,"
        f" GPUs: {gpus}; {machine['system']} {machine['kernel']}; fingerprint {machine['id']}",
        f"- data: {data.name}, {data.train:,} training and {data.test:,} test images, SHA-256 {data.sha256}"
        + (f"; {data.note}" if data.note else ""),
        f"- commit: {run.records[0].commit or 'not in a git repository'}",
    ]
    return "## Machine and data\n\n" + "\n".join(_escape(line) for line in lines)


def _rows(run: Run) -> str:
    headers = ["row", "device", "precision", "mode", "threads", "versions", "how it runs"]
    rows = [
        [
            name,
            record.job.device,
            record.job.precision,
            record.job.mode,
            f"{record.job.threads} asked, {record.settings.get('threads', 'not read')} in force",
            ", ".join(f"{package} {version}" for package, version in record.versions.items()),
            _how(record),
        ]
        for name, record in _named(run)
    ]
    return "## Rows\n\n" + _table(tables.Table("", headers, rows))


def _how(record: Record) -> str:
    told = {key: value for key, value in record.settings.items() if key not in ("threads", "fast_path")}
    details = ", ".join(f"{key}: {value}" for key, value in told.items())
    return str(record.settings.get("fast_path", "not known")) + (f" ({details})" if details else "")


def _definitions() -> str:
    lines = [f"- **{name}**: {text}" for name, text in {**FIGURES, **TERMS}.items()]
    return "## Definitions\n\n" + "\n".join(lines)


def _named(run: Run) -> list[tuple[str, Record]]:
    jobs = [record.job for record in run.records]
    return [(label(record.job, jobs), record) for record in run.records]


def _table(table: tables.Table) -> str:
    escaped = replace(table, rows=[[_escape(cell) for cell in row] for row in table.rows])
    return escaped.body("github")


def _escape(text: str) -> str:
    """Markup and table borders of foreign text shown as text."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\|`*_\[\]])", r"\\\1", tables.printable(text))
