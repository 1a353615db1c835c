"""The output of a command, independent of its format: tables of text cells, and the notes below them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Table:
    """A titled table of text cells."""

    title: str
    headers: list[str]
    rows: list[list[str]]
    numbers_from: int | None = None
    """Index of the first column of numbers, which are aligned right; None: all columns are text."""
    optional_columns: tuple[int, ...] = ()
    """Columns that a narrow terminal may leave out, in the order in which it drops them."""

    @property
    def texts(self) -> int:
        """Number of text columns; they are the leftmost."""
        return len(self.headers) if self.numbers_from is None else self.numbers_from

    def without(self, columns: Sequence[int]) -> Table:
        """A copy of the table without these columns."""
        kept = [i for i in range(len(self.headers)) if i not in columns]
        return replace(
            self,
            headers=[self.headers[i] for i in kept],
            rows=[[row[i] for i in kept] for row in self.rows],
            numbers_from=sum(i < self.texts for i in kept),
            optional_columns=(),
        )


@dataclass(frozen=True)
class Document:
    """The whole output of a command, in this order: headline, tables, notes."""

    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    headline: str | None = None


def printable(text: str) -> str:
    """Foreign text on one line; control characters (terminal escapes, line breaks) become blanks."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else " " for character in text)
