"""A table of text cells in any format of tabulate, foreign text in it made harmless."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tabulate import tabulate, tabulate_formats

from bench.errors import UsageError, unknown

DEFAULT_FORMAT = "simple"


@dataclass(frozen=True)
class Table:
    """A titled table of text cells."""

    title: str
    headers: list[str]
    rows: list[list[str]]
    numbers_from: int | None = None
    """Columns from this one on hold numbers and are aligned right; None: all are text."""

    def render(self, format_name: str = DEFAULT_FORMAT) -> str:
        """Title and table."""
        return f"{self.title}\n\n{self.body(format_name)}"

    def body(self, format_name: str) -> str:
        """The table; cells stay as they are written (no number parsing), without control characters."""
        texts = len(self.headers) if self.numbers_from is None else self.numbers_from
        alignment = ["left"] * texts + ["right"] * (len(self.headers) - texts)
        show = _in_markdown if format_name in ("github", "pipe") else printable
        rows, headers = [[show(cell) for cell in row] for row in self.rows], [show(cell) for cell in self.headers]
        return tabulate(rows, headers, format_name, disable_numparse=True, colalign=alignment)


def printable(text: str) -> str:
    """Foreign text on one line, control characters (terminal escapes, line breaks) as blanks."""
    return "".join(character if character.isprintable() else " " for character in text)


def _in_markdown(text: str) -> str:
    """Foreign text that does not end its cell; what is escaped already stays as it is."""
    return re.sub(r"(?<!\\)\|", r"\|", printable(text))


def check_format(name: str) -> str:
    """The name, if tabulate has it.

    Raises:
        UsageError: it has not.
    """
    if name not in tabulate_formats:
        error = unknown("format", name, tabulate_formats)
        raise UsageError(str(error).replace("bench list shows all", f"one of {', '.join(tabulate_formats)}"))
    return name
