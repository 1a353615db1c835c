"""What a command shows: tables of text cells and the notes below them, apart from any format."""

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
    """Columns from this one on hold numbers and are aligned right; None: all are text."""
    optional_columns: tuple[int, ...] = ()
    """Columns that a narrow terminal may leave out, the first of them first."""

    @property
    def texts(self) -> int:
        """Number of columns, from the left, that are text."""
        return len(self.headers) if self.numbers_from is None else self.numbers_from

    def without(self, columns: Sequence[int]) -> Table:
        """The table less these columns."""
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
    """All that a command shows, in order: a headline, tables, notes."""

    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    headline: str | None = None


def printable(text: str) -> str:
    """Foreign text on one line, control characters (terminal escapes, line breaks) as blanks."""
    return "".join(character if character.isprintable() else " " for character in text)
