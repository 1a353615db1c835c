"""``bench export``: a stored run or check in the formats of other tools."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, overload

import typer

from bench.cli import options
from bench.cli.output import put
from bench.errors import BenchError, UsageError

if TYPE_CHECKING:
    from bench.records.record import Run
    from bench.store.store import Store

TEXTS = ("json", "pytest-benchmark", "bencher", "customBiggerIsBetter", "customSmallerIsBetter", "openmetrics")
"""One run as a text."""
FOLDERS = ("parquet", "huggingface", "tensorboard")
"""Runs as files in a folder."""
MLFLOW, JUNIT, SCRIPT = "mlflow", "junit", "script"
FORMATS = (*TEXTS, JUNIT, SCRIPT, *FOLDERS, MLFLOW)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(export)


def export(
    which: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="A run (default: last); of junit a check; of script RUN:ROW or a row."),
    ] = None,
    format_: Annotated[str, typer.Option("--format", help=", ".join(FORMATS) + ".")] = "json",
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A file; of parquet, huggingface, tensorboard a folder; of mlflow a URI.",
        ),
    ] = None,
    all_runs: Annotated[
        bool, typer.Option("--all", help="Every stored run, in the formats of folders, and mlflow.")
    ] = False,
    inconclusive: Annotated[
        str | None,
        typer.Option(metavar="pass|fail", help="Of junit: what is inconclusive passes or fails (else skipped)."),
    ] = None,
    store: options.StoreUrl = None,
) -> None:
    """A stored run, check or row as other tools read it: a text on standard output or in a file, or files in a folder.
    On standard error stands what the format leaves out."""
    from bench.store.loading import load_run
    from bench.store.store import Store

    options.one_of("format", format_, FORMATS)
    if inconclusive is not None and format_ != JUNIT:
        raise UsageError("--inconclusive goes with --format junit, whose test cases it decides")
    if all_runs and (which is not None or format_ not in (*FOLDERS, MLFLOW)):
        raise UsageError("--all is every run, as parquet, huggingface, tensorboard or mlflow; name no run beside it")
    if format_ in FOLDERS and output is None:
        raise UsageError(f"--format {format_} writes files: --output DIR says where")
    if format_ in TEXTS:
        text, left_out = _text(load_run(store, which), format_)
        _put(text, output)
        _tell([left_out])
        return
    opened = Store(store)
    if format_ == JUNIT:
        _put(_junit(opened, which, inconclusive), output)
    elif format_ == SCRIPT:
        _put(script(opened, which), output)
    else:
        _many(_runs(opened, which, all_runs), format_, output)


def _put(text: str, output: str | None) -> None:
    put(text, None if output is None else Path(output), None)


def _text(run: Run, format_: str) -> tuple[str, dict[str, str]]:
    """A run in one of ``TEXTS``, and what that leaves out."""
    from bench.records.export import export as to_json
    from reports.exports import bencher, github_action_benchmark, openmetrics, pytest_benchmark

    if format_ == "json":
        return to_json(run), {}
    if format_ in github_action_benchmark.TOOLS.values():
        bigger = format_ == github_action_benchmark.TOOLS["higher"]
        return github_action_benchmark.document(run, bigger), github_action_benchmark.left_out(run, bigger)
    chosen = {"pytest-benchmark": pytest_benchmark, "bencher": bencher, "openmetrics": openmetrics}[format_]
    return chosen.document(run), chosen.left_out(run)


def _runs(store: Store, which: str | None, all_runs: bool) -> Sequence[Run]:
    """The chosen run, or all, the oldest first.

    Raises:
        UsageError: there is none.
    """
    from bench.store import queries
    from bench.store.loading import load_stored

    if not all_runs:
        return [load_stored(store, which)]
    names = [listed.name for listed in queries.runs(store, queries.Filter(), sys.maxsize)]
    if not names:
        raise UsageError(f"no run in {store.shown_url}; bench run --backend all makes one")
    return _Stored(store, names[::-1])


def _many(runs: Sequence[Run], format_: str, output: str | None) -> None:
    """Runs into a folder, or into MLflow."""
    from reports.exports import huggingface, mlflow, parquet, selection, tensorboard
    from reports.pages.html import run_page

    if format_ == MLFLOW:
        new = mlflow.log(runs, output, run_page)
        rows = sum(record.certified for run in runs for record in run.records)
        print(f"{len(new)} runs of MLflow are new, {rows - len(new)} were there")
        _tell(mlflow.left_out(run) for run in runs)
        return
    assert output is not None
    writers: dict[str, Callable[[Sequence[Run], Path], list[Path]]] = {
        "parquet": parquet.write, "huggingface": huggingface.write, "tensorboard": tensorboard.write,
    }  # fmt: skip
    try:
        written = writers[format_](runs, Path(output))
    except OSError as error:
        raise BenchError(f"cannot write to {output}: {error.strerror or error}; give another --output") from error
    print(
        f"{len(runs)} run{'s' * (len(runs) != 1)} in {', '.join(map(str, written[:3]))}{', ...' * (len(written) > 3)}"
    )
    _tell((tensorboard if format_ == "tensorboard" else selection).left_out(run) for run in runs)


def _tell(left_out: Iterable[Mapping[str, str]]) -> None:
    """What was left out, of every run, on standard error."""
    for of_run in left_out:
        for name, why in of_run.items():
            print(f"left out: {name}: {why}", file=sys.stderr)


def _junit(store: Store, name: str | None, inconclusive: str | None) -> str:
    """A check, the newest by default, as JUnit XML.

    Raises:
        UsageError: there is no such check.
    """
    from bench.records.gate_result import Check
    from bench.store.schema import CHECKS
    from reports.exports import junit

    chosen = name or next(iter(store.names(CHECKS)), None)
    check = None if chosen is None else store.read(CHECKS, chosen, Check)
    if check is None:
        what = "no check" if name is None else f"no check '{name}'"
        raise UsageError(f"{what} in {store.shown_url}; bench history checks lists them")
    return junit.document(check, junit.choice(inconclusive))


def script(store: Store, which: str | None) -> str:
    """A row as plain code of its framework. ``which``: ``RUN:ROW``, or a row of the last run; a name or an id.

    Raises:
        UsageError: no such run or row, or no code for it.
    """
    import backends
    from backends.base import Unsupported
    from backends.model import ModelSpec
    from bench.store.loading import load_stored
    from bench.workloads import toml_files
    from bench.workloads.datasets import registry
    from bench.workloads.recipe import split_name
    from bench.workloads.workload import make_workload
    from reports.exports import reproducer, selection

    first, colon, second = (which or "").partition(":")
    run, wanted = load_stored(store, first if colon else None), second if colon else first
    rows = {name: record for record, name in selection.rows(run)}
    found = [name for name, record in rows.items() if wanted in (name, record.id, name.replace(" ", ""))]
    if len(found) != 1:
        what = f"run {run.name} has no row '{wanted}'" if wanted else f"--format {SCRIPT} needs a row of run {run.name}"
        raise UsageError(f"{what}; its rows: {', '.join(rows)}")
    (row,) = found
    record = rows[row]
    job = record.job
    try:
        reproducer.throughput(record)
        dataset = registry.load(job.dataset, None)
        files = [toml_files.file_of(name) for name in (job.model, split_name(job.recipe)[0])]
        model = make_workload(files[0], job.dataset, files[1]).on(dataset).model
        assert isinstance(model, ModelSpec), "a workload has a model"
        if model.name != job.model:
            raise LookupError(f"{files[0]} has changed since the run")
        source = None
        for other in run.records if job.source is not None else ():
            if (other.job.backend, other.job.device) == (job.source, job.device):
                its = other.job
                source = backends.plain_code(its.backend, model, its.device, its.precision, its.mode, job.threads)
        code = backends.plain_code(job.backend, model, job.device, job.precision, job.mode, job.threads, source)
    except (Unsupported, LookupError) as error:
        raise UsageError(f"no script for {row}: {error}") from error
    return reproducer.document(run, record, row, code, dataset.train_x)


class _Stored(Sequence["Run"]):
    """Stored runs by name, each loaded when it is asked for: all of them together may not fit into memory."""

    def __init__(self, store: Store, names: Sequence[str]) -> None:
        self._store, self._names = store, names

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> Run: ...

    @overload
    def __getitem__(self, index: slice) -> _Stored: ...

    def __getitem__(self, index: int | slice) -> Any:
        from bench.store.loading import load_stored

        if isinstance(index, slice):
            return _Stored(self._store, self._names[index])
        return load_stored(self._store, self._names[index])
