"""Reasons why values are missing: a letter in the cell, the reason below the tables."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Notes:
    """The reasons of the ``n/m`` cells; each new reason gets the next letter."""

    reasons: list[str] = field(default_factory=list)

    def mark(self, reason: str, text: str = "n/m") -> str:
        """The cell of a value that was not measured: ``n/m [a]``, or another text with that letter."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        return f"{text} [{_letter(self.reasons.index(reason))}]"

    def lines(self) -> list[str]:
        """One line per reason."""
        return [f"[{_letter(i)}] not measured: {reason}" for i, reason in enumerate(self.reasons)]


def _letter(index: int) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return letters[index] if index < len(letters) else letters[index // len(letters) - 1] + letters[index % 26]
