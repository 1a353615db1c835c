"""Documents on standard output: coloured and fitted to the width of a terminal; plain and complete otherwise."""

from __future__ import annotations

import io
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console
from rich.text import Text

from reports.render.text import DEFAULT_FORMAT, body, render
from reports.table import Document, Table, printable

COLOURS = {
    "red": r"\bREGRESSION\b|\bregression\b|\bDIFFERENT\b|\bnot comparable\b|\bWILL SPOIL\b|\bFAILED\b|\bNOT reached\b|"
    r"\b(?:crashed|timeout|failed|out-of-memory|invalid)\b",
    "yellow": r"\(!\)|\binconclusive\b|\bn/m\b|\bnever got steady\b|\bunsupported\b|\bunavailable\b",
    "green": r"\bno change\b|\bimprovement\b|(?<!not )\bcomparable\b|\bsame accuracy\b",
}
"""Words to colour, wherever they occur. Foreign text may be coloured too, which is harmless."""
NARROWEST = 12
"""A text column is wrapped to this many characters at the least."""


def show(document: Document, format_name: str = DEFAULT_FORMAT, console: Console | None = None) -> None:
    """Print a document. A terminal gets colours (unless ``NO_COLOR`` is set) and may leave out columns."""
    if format_name == "html" and console is None:
        as_utf8()
    console = console or Console(highlight=False)
    plain = not console.is_terminal or format_name != DEFAULT_FORMAT
    text = Text(render(document, format_name) if plain else fit_to_width(document, console.width))
    if not plain:
        for colour, words in COLOURS.items():
            text.highlight_regex(words, style=colour)
    console.print(text, soft_wrap=True)


def as_utf8() -> None:
    """Standard output in UTF-8, whatever the locale: HTML is."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")


def fit_to_width(document: Document, width: int) -> str:
    """The document at most ``width`` wide: optional columns are left out, which a note says; then texts are wrapped."""
    parts = [] if document.headline is None else [_prose(document.headline, width)]
    notes = [_prose(note, width) for note in document.notes]
    for table in document.tables:
        columns = _columns_to_drop(table, width)
        kept = table.without(columns)
        parts.append(f"{_prose(table.title, width)}\n\n{body(kept, DEFAULT_FORMAT, _widths(kept, width))}")
        if columns:
            names = ", ".join(printable(table.headers[column]) for column in sorted(columns))
            title = printable(table.title).partition(" (")[0]
            note = f"left out of {title} to fit {width} columns: {names} (--format github shows all)"
            notes.append(_prose(note, width))
    return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])])


def _prose(text: str, width: int) -> str:
    return textwrap.fill(printable(text), width, break_on_hyphens=False)


def _columns_to_drop(table: Table, width: int) -> list[int]:
    """As few optional columns as necessary for the table to fit."""
    for count in range(len(table.optional_columns) + 1):
        if _width(table.without(table.optional_columns[:count])) <= width:
            return list(table.optional_columns[:count])
    return list(table.optional_columns)


def _width(table: Table) -> int:
    return max(map(len, body(table, DEFAULT_FORMAT).splitlines()), default=0)


def _widths(table: Table, width: int) -> Sequence[int | None] | None:
    """Widths of text columns: the widest is narrowed first, until the table fits or all columns are ``NARROWEST``."""
    longest = [max(len(printable(cell)) for cell in column) for column in zip(table.headers, *table.rows, strict=True)]
    narrowed: dict[int, int] = {}
    excess = _width(table) - width
    while excess > 0:
        candidates = [i for i in range(table.texts) if narrowed.get(i, longest[i]) > NARROWEST]
        if not candidates:
            break
        widest = max(candidates, key=lambda i: narrowed.get(i, longest[i]))
        now = narrowed.get(widest, longest[widest])
        narrowed[widest] = max(NARROWEST, now - excess)
        excess -= now - narrowed[widest]
    return [narrowed.get(i) for i in range(len(table.headers))] if narrowed else None


def with_notes(document: Document, *notes: str) -> Document:
    """The document with additional notes."""
    return replace(document, notes=[*document.notes, *notes])
