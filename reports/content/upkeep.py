"""The output of ``bench store check``."""

from __future__ import annotations

from collections.abc import Sequence

from reports.table import Document, Table


def document(findings: Sequence[tuple[str, str, Sequence[str]]]) -> Document:
    """A line per question: what was looked at, and the problems; then every problem."""
    rows = [
        [question, looked_at, f"{len(problems):,} problem{'s' * (len(problems) != 1)}" if problems else "ok"]
        for question, looked_at, problems in findings
    ]
    notes = [f"{question}: {problem}" for question, _, problems in findings for problem in problems]
    if notes:
        notes.append("bench store backup FILE copies it; bench history delete NAME removes what cannot be read")
    return Document([Table("Store", ["what", "looked at", "state"], rows)], notes)
