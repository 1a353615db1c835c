"""The Markdown of a pull-request comment: the verdict first, all else folded, within GitHub's length limit."""

from __future__ import annotations

from collections.abc import Sequence

from bench.records.gate_result import Check
from bench.records.record import Run
from reports.content import advice, answers, details, footnotes, tables, verdicts
from reports.content.notes import Notes
from reports.pages.markdown import code
from reports.render.text import body, in_markdown
from reports.table import Table

LONGEST = 60_000
"""Characters; GitHub allows 65,536."""
MARKS = {"regression": "🔴", "invalid": "⚠️", "inconclusive": "🟡", "improvement": "🟢", "no change": "🟢"}


def check_comment(check: Check) -> str:
    """The comment of a check: its verdict, the metrics, then the environments and the notes."""
    document = verdicts.document(check)
    shown = [f"## {MARKS[check.verdict]} {in_markdown(document.headline or '')}"]
    first, *others = document.tables
    if check.figures:
        shown.append(body(first.without((6, 7, 8)), "github"))
    else:
        others = list(document.tables)
    folded = [_folded(table.title, body(table, "github")) for table in ([first, *others] if check.figures else others)]
    folded.append(_folded("How to read it", _list(document.notes)))
    return _within([*shown, f"`{code(check.command)}`"], folded)


def run_comment(run: Run) -> str:
    """The comment of a run: the answers, the outcome, then everything else."""
    notes = Notes()
    outcome, *others = tables.build(run, notes)
    shown = [f"## Benchmark {in_markdown(run.name)}"]
    answered = [f"- **{in_markdown(one.question)}:** {in_markdown(one.sentence)}" for one in answers.answer_all(run)]
    shown += ["\n".join(answered)] if answered else []
    shown += [body(outcome, "github"), f"`{code(run.command)}`"]
    folded = [_folded(table.title, body(table, "github")) for table in others]
    suggestions = [f"{one.text} {one.evidence}. {one.command}".strip() for one in advice.apply_rules(run)]
    folded += [_folded("Advice", _list(suggestions))] if suggestions else []
    folded.append(_folded("Notes", _list([*notes.lines(), *footnotes.lines(run)])))
    folded += [_folded(table.title, body(table, "github")) for table in _detail_tables(run)]
    return _within(shown, folded)


def _detail_tables(run: Run) -> list[Table]:
    return [*details.tables(run), *details.trainings(run)]


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {in_markdown(line)}" for line in lines)


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{in_markdown(title)}</summary>\n\n{content}\n\n</details>"


def _within(shown: Sequence[str], folded: Sequence[str]) -> str:
    """Add folded parts while they fit, whole parts only; a last line says how many were left out."""
    kept, length, left = list(shown), sum(len(part) + 2 for part in shown), 0
    for part in folded:
        if left or length + len(part) + 200 > LONGEST:
            left += 1
        else:
            kept.append(part)
            length += len(part) + 2
    if left:
        kept.append(f"{left} more parts are left out for length; `bench report` shows all.")
    return "\n\n".join(kept)[:LONGEST]
