"""Reasons why a side of a check gets no verdict: it did not run, is not comparable, or is not the intended code."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bench.runner.plan import Row, Side
from bench.runner.record_builder import to_record
from bench.runner.results import Results


@dataclass
class Validity:
    """Validates a check's rows. A row's answer is cached until its result changes: building a record is slow."""

    results: Results
    base: Side
    work_tree: str | None = None
    """The repository whose revision the base is (``--against git:REV``); None: the base is no revision."""
    _answers: dict[str, tuple[tuple[str, int], str]] = field(default_factory=dict)
    """By row id: the state of the result (status, rounds), and the problem."""

    def problem(self, row: Row) -> str:
        """The reason why a row's side gets no verdict; empty if there is none."""
        state = self._state(row)
        cached = self._answers.get(row.id)
        if cached is not None and cached[0] == state:
            return cached[1]
        problem = self._problem(row)
        self._answers[row.id] = self._state(row), problem  # an invalid record changes the status of its row
        return problem

    def _state(self, row: Row) -> tuple[str, int]:
        result = self.results[row]
        return result.status, len(result.rounds)

    def _problem(self, row: Row) -> str:
        record = to_record(self.results[row], self.results.context)
        if record.status != "ok":
            return f"{row.name} is {record.status}: {record.error}"
        if problem := self._other_adapter(row):
            return problem
        if not record.comparable:
            return f"{row.name} is not comparable: its parity certificate failed"
        return ""

    def _other_adapter(self, row: Row) -> str:
        """Each side must run the adapter that it names: a side with its own folders the one in them; the other, against
        a git revision, the one of this repository."""
        if self.work_tree is not None and row.side is not None and not row.side.path:
            return self._installed_adapter(row, Path(self.work_tree).resolve())
        folders = () if row.side is None else row.side.path
        certified = self.results[row].certified
        files = () if certified is None else certified.adapter_files
        inside = any(Path(file).is_relative_to(Path(folder).resolve()) for folder in folders for file in files)
        if not folders or inside:
            return ""
        missing = f"{row.name} runs an adapter that {self.base.label} does not have"
        return f"{missing}: both sides are the same ({', '.join(files)})"

    def _installed_adapter(self, row: Row, tree: Path) -> str:
        certified = self.results[row].certified
        files = () if certified is None else certified.adapter_files
        inside = [Path(file).relative_to(tree) for file in files if Path(file).is_relative_to(tree)]
        if any("site-packages" not in file.parts for file in inside):
            return ""
        return f"{row.name} runs the installed adapter ({', '.join(files)}), not that of {tree}: pip install -e {tree}"

    def changed_versions(self, row: Row) -> str:
        """The first package whose version differs from that of the side's first worker; empty if none does."""
        changed = self.results[row].changed_versions()
        return f"changed during the check: {changed}" if changed else ""
