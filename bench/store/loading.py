"""Reading a run from wherever it is kept: an exported file or a store."""

from __future__ import annotations

from pathlib import Path

from bench.analysis.ratios import with_ratios
from bench.errors import BenchError
from bench.records.export import parse_export
from bench.records.record import Run
from bench.records.untrusted import LARGEST_FILE
from bench.store.store import Store

EXPORT_SUFFIX = ".json"


def load_run(store_or_file: str | Path | None, run: str | None = None) -> Run:
    """As ``bench.load``. Records of a store get their ratios, as ``bench export`` writes them.

    Raises:
        BenchError: it cannot be read.
        UsageError: there is no such run.
    """
    source = None if store_or_file is None else str(store_or_file)
    if source is not None and source.endswith(EXPORT_SUFFIX):
        return _exported(Path(source))
    return load_stored(Store(source), run)


def load_stored(store: Store, run: str | None = None) -> Run:
    """A stored run, selected as in ``Store.load``, with the ratios of its records.

    Raises:
        UsageError: there is no such run.
        BenchError: it cannot be read.
    """
    stored = store.load(run)
    return stored.model_copy(update={"records": with_ratios(stored.records)})


def _exported(path: Path) -> Run:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LARGEST_FILE + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    return parse_export(text, str(path))
