"""What ``evenbench.run``, ``check`` and ``load`` return. In a notebook each shows itself as the report's tables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from bench.records.gate_result import Check, Kind, MetricVerdict
from bench.records.record import Record, Run
from reports.content import history, tables, verdicts
from reports.exports import long_tables
from reports.render.text import render

if TYPE_CHECKING:
    import pyarrow

    from bench.records.series import Listed
    from reports.table import Document


class _Shown(ABC):
    """Shows itself as tables: as HTML in a notebook, as text elsewhere."""

    @abstractmethod
    def _document(self) -> Document: ...

    def _repr_html_(self) -> str:
        return render(self._document(), "html")

    def __str__(self) -> str:
        return render(self._document(), "simple")


class _Tabular(ABC):
    """Figures and samples of runs as tables of Arrow."""

    @abstractmethod
    def _runs(self) -> Sequence[Run]: ...

    @property
    def figures(self) -> pyarrow.Table:
        """A row for every figure (``reports.exports.long_tables.FIGURES`` has the columns). What was not measured, or
        belongs to a row that is not certified, has no ``value``, and says why in ``reason``. Other data frames read the
        table through Arrow's or the dataframe interchange protocol, without a copy where they can.

        Raises:
            UsageError: pyarrow is not installed (``evenbench[parquet]``).
        """
        return long_tables.figures(self._runs())

    @property
    def samples(self) -> pyarrow.Table:
        """A row for every process, or training, behind a figure (``SAMPLES`` has the columns).

        Raises:
            UsageError: pyarrow is not installed (``evenbench[parquet]``).
        """
        return long_tables.samples(self._runs())


@dataclass(frozen=True, repr=False)
class RunResult(_Shown, _Tabular):
    """A run: what ``evenbench.run`` measured, or a stored one."""

    run: Run
    exit_code: int | None = None
    """That of ``bench run``: 0; 1 if a row that was asked for is not ok and comparable; 2 if it could not be stored.
    None: it was loaded."""
    stored_in: str = ""
    """The store, or why there is none."""

    @property
    def name(self) -> str:
        """By which every command finds the run."""
        return self.run.name

    @property
    def records(self) -> list[Record]:
        """One for each row."""
        return self.run.records

    def page(self) -> str:
        """The page of the run: HTML that stands alone."""
        from reports.pages.html import run_page

        return run_page(self.run)

    def _runs(self) -> Sequence[Run]:
        return [self.run]

    def _document(self) -> Document:
        return tables.document(self.run)

    def __repr__(self) -> str:
        return f"RunResult({self.name!r}, {len(self.records)} rows)"


@dataclass(frozen=True, repr=False)
class CheckResult(_Shown):
    """A check: the verdicts of ``evenbench.check``."""

    check: Check
    exit_code: int
    """That of ``bench check``: 0; 1 regression; 3 inconclusive, or as ``inconclusive`` says; 4 invalid."""
    stored_in: str = ""

    @property
    def name(self) -> str:
        """By which ``bench history show`` finds the check."""
        return self.check.name

    @property
    def verdict(self) -> Kind:
        """The one that decides the exit code."""
        return self.check.verdict

    @property
    def verdicts(self) -> list[MetricVerdict]:
        """One for each metric of each row."""
        return self.check.figures

    def page(self) -> str:
        """The page of the check: HTML that stands alone."""
        from reports.pages.html import check_page

        return check_page(self.check)

    def _document(self) -> Document:
        return verdicts.document(self.check)

    def __repr__(self) -> str:
        return f"CheckResult({self.name!r}, {self.verdict!r})"


@dataclass(frozen=True, repr=False)
class History(_Shown, _Tabular, Sequence[RunResult]):
    """Stored runs, the newest first."""

    runs: tuple[RunResult, ...]
    listed: tuple[Listed, ...]
    """What the list of runs shows of each."""

    @property
    def records(self) -> list[Record]:
        """Of all runs."""
        return [record for one in self.runs for record in one.records]

    @overload
    def __getitem__(self, index: int) -> RunResult: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[RunResult]: ...

    def __getitem__(self, index: int | slice) -> Any:
        return self.runs[index]

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[RunResult]:
        return iter(self.runs)

    def _runs(self) -> Sequence[Run]:
        return [one.run for one in self.runs]

    def _document(self) -> Document:
        return history.runs(self.listed, len(self.listed) + 1)

    def __repr__(self) -> str:
        return f"History({len(self)} runs)"
