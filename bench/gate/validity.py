"""What keeps a side of a check from a verdict: it did not run, is not comparable, or is not what it should be."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bench.runner.plan import Row, Side
from bench.runner.record_builder import to_record
from bench.runner.results import Results


@dataclass
class Validity:
    """Of the rows of a check. A row's answer is kept until its result changes: a record takes long to make."""

    results: Results
    base: Side
    _answers: dict[str, tuple[tuple[str, int], str]] = field(default_factory=dict)
    """By row id: the state of the result (status, rounds), and the problem."""

    def problem(self, row: Row) -> str:
        """What keeps a side from a verdict; empty if nothing does."""
        state = self._state(row)
        known = self._answers.get(row.id)
        if known is not None and known[0] == state:
            return known[1]
        problem = self._problem(row)
        self._answers[row.id] = self._state(row), problem  # a record that does not hold ends its row
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
            return f"{row.name} is not comparable: its parity certificate does not hold"
        return ""

    def _other_adapter(self, row: Row) -> str:
        """A side with folders of its own must run the adapter that is there, or both sides are the same."""
        folders = () if row.side is None else row.side.path
        certified = self.results[row].certified
        files = () if certified is None else certified.adapter_files
        inside = any(Path(file).is_relative_to(Path(folder).resolve()) for folder in folders for file in files)
        if not folders or inside:
            return ""
        return (
            f"{row.name} runs an adapter that {self.base.label} has not: both sides are the same ({', '.join(files)})"
        )

    def changed_versions(self, row: Row) -> str:
        """Versions of a side that are no longer those of its first worker; empty if all are."""
        reports = [report.versions for _, _, report in self.results[row].reports if report.versions]
        for package, version in (reports[-1] if reports else {}).items():
            if reports[0].get(package, version) != version:
                return f"changed during the check: {package} {reports[0][package]} became {version}"
        return ""
