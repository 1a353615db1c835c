"""Documents in some formats of tabulate, as CSV and as JSON; foreign text in them is made harmless."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Callable, Sequence

from tabulate import LATEX_ESCAPE_RULES, tabulate

from bench.errors import UsageError, unknown
from reports.table import Document, Table, printable

DEFAULT_FORMAT = "simple"
FORMATS = ("simple", "plain", "grid", "github", "html", "latex", "tsv", "csv", "json")
"""The last three are ours, the others tabulate's; of those with a markup each needs an escaping that is tested."""

Escape = Callable[[str], str]


def check_format(name: str) -> str:
    """The name, if there is such a format.

    Raises:
        UsageError: there is none.
    """
    if name not in FORMATS:
        error = unknown("format", name, FORMATS)
        raise UsageError(str(error).replace("bench list shows all", f"one of {', '.join(FORMATS)}"))
    return name


def render(document: Document, format_name: str = DEFAULT_FORMAT) -> str:
    """The whole document; JSON is one object, CSV has an empty line between its parts."""
    if format_name == "json":
        return _json(document)
    if format_name == "csv":
        return _csv(document)
    show = _PROSE.get(format_name, printable)
    parts = [] if document.headline is None else [show(document.headline)]
    parts += [f"{show(table.title)}\n\n{body(table, format_name)}" for table in document.tables]
    parts += ["\n".join(map(show, document.notes))] * bool(document.notes)
    return "\n\n".join(parts)


def body(table: Table, format_name: str, widths: Sequence[int | None] | None = None) -> str:
    """The table alone, in a format of tabulate; cells stay as they are written (no number parsing), wrapped where
    ``widths`` says so."""
    alignment = ["left"] * table.texts + ["right"] * (len(table.headers) - table.texts)
    show = _CELL.get(format_name, printable)
    rows, headers = [[show(cell) for cell in row] for row in table.rows], [show(cell) for cell in table.headers]
    if format_name == "tsv":  # tabulate cuts off the tab before a last cell that is empty
        return "\n".join("\t".join(line) for line in (headers, *rows))
    if widths is None:
        return tabulate(rows, headers, format_name, disable_numparse=True, colalign=alignment)
    return tabulate(rows, headers, format_name, disable_numparse=True, colalign=alignment, maxcolwidths=list(widths))


def _json(document: Document) -> str:
    tables = [{"title": t.title, "columns": t.headers, "rows": t.rows} for t in document.tables]
    plain = {"headline": document.headline, "tables": tables, "notes": list(document.notes)}
    return json.dumps(plain, indent=1)


def _csv(document: Document) -> str:
    parts = [] if document.headline is None else [[[document.headline]]]
    parts += [[[table.title], table.headers, *table.rows] for table in document.tables]
    parts += [[[note] for note in document.notes]] * bool(document.notes)
    written = []
    for part in parts:
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([[in_spreadsheet(cell) for cell in row] for row in part])
        written.append(out.getvalue().rstrip("\n"))
    return "\n\n".join(written)


_NUMBER = re.compile(r"[+-]?[\d.,]+(e[+-]?\d+)?%?|-")


def in_spreadsheet(text: str) -> str:
    """Foreign text that no spreadsheet takes for a formula (OWASP, CSV injection): an apostrophe before what begins
    like one and is no number."""
    text = printable(text)
    begins_like_one = text.lstrip()[:1] in tuple("=+-@")
    return f"'{text}" if begins_like_one and not _NUMBER.fullmatch(text.strip()) else text


def in_markdown(text: str) -> str:
    """Foreign text that neither ends its cell nor is markup."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\|`*_\[\]])", r"\\\1", text)


def _in_html(text: str) -> str:
    return html.escape(printable(text))


def _in_latex(text: str) -> str:
    return "".join(LATEX_ESCAPE_RULES.get(character, character) for character in printable(text))


_CELL: dict[str, Escape] = {"github": in_markdown, "tsv": in_spreadsheet}
"""What tabulate does not escape itself (it does in html and latex)."""
_PROSE: dict[str, Escape] = {
    "github": in_markdown,
    "html": lambda text: f"<p>{_in_html(text)}</p>",
    "latex": _in_latex,
    "tsv": in_spreadsheet,
}
"""Titles and notes."""
