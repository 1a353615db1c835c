"""evenbench's harness: plan, run, certify, measure, keep. ``bench.cli`` is the top; ``load`` reads results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.records.record import Run


def load(store_or_file: str | Path | None = None, run: str | None = None) -> Run:
    """A run as typed records: of a file that ``bench export`` wrote, or of a store.

    ``store_or_file``: the path of that file, or a database URL or SQLite file (None: ``BENCH_STORE``, else the user's
    own history). ``run``: of a store, its name or the beginning of it, a tag, a commit, or ``last~N`` (None: the last).

    Raises:
        bench.errors.BenchError: it cannot be read, or there is no such run.
    """
    from bench.store.loading import load_run

    return load_run(store_or_file, run)
