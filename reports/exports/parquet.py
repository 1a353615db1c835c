"""Runs as Parquet: a file of figures and a file of samples (``reports.exports.long_tables``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.records.record import Run
from reports.exports import long_tables
from reports.exports.optional import package


def write(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write ``figures.parquet`` and ``samples.parquet``; they replace earlier ones.

    Raises:
        UsageError: pyarrow is not installed.
    """
    parquet = package("pyarrow.parquet", "parquet")
    tables = {"figures.parquet": long_tables.figures(runs), "samples.parquet": long_tables.samples(runs)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        beside = folder / f".{name}.part"
        parquet.write_table(table, beside)
        beside.replace(folder / name)
    return [folder / name for name in tables]
