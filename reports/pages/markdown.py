"""A run as Markdown: tables, parity, machine, versions, data, and all definitions."""

from __future__ import annotations

from collections.abc import Sequence

from bench.records.record import Run
from reports.content import details, footnotes, tables
from reports.content.definitions import definitions
from reports.content.notes import Notes
from reports.render.text import body, in_markdown
from reports.table import Table, printable


def render(run: Run) -> str:
    """The whole report in GitHub's Markdown."""
    notes = Notes()
    parts = [f"# {in_markdown(run.name)}", f"`{code(run.command)}`, {run.started_at}, {run.rounds} rounds"]
    parts += _tables(tables.build(run, notes), level=2)
    below = [*notes.lines(), *footnotes.lines(run)]
    if below:
        parts.append("\n".join(f"- {in_markdown(line)}" for line in below))
    parts += _tables(details.trainings(run), level=3)
    parts += _tables(details.tables(run), level=2)
    facts = details.machine(run)
    if facts:
        lines = [f"- {name}: {in_markdown(text)}" for name, text in facts.items()]
        parts.append("## Machine and data\n\n" + "\n".join(lines))
    defined = [f"- **{name}**: {text}" for name, text in definitions().items()]
    return "\n\n".join([*parts, "## Definitions\n\n" + "\n".join(defined)]) + "\n"


def _tables(shown: Sequence[Table], level: int) -> list[str]:
    return [f"{'#' * level} {in_markdown(table.title)}\n\n{body(table, 'github')}" for table in shown]


def code(text: str) -> str:
    """Foreign text for use inside backticks: its own backticks are replaced, so that they cannot end the code."""
    return printable(text).replace("`", "'")
