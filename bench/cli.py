"""The command line: ``bench run``, ``list``, ``report``, ``export``, ``gpu-check``. Imports stay inside commands, so
that ``bench --help`` is quick."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from bench import quantities
from bench.errors import BenchError, UsageError, unknown

app = typer.Typer(
    help="The same CNN in every framework: proven equal, timed, tabulated.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

StoreOption = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="Database URL or SQLite file (default: BENCH_STORE, user data)."),
]
FormatOption = Annotated[str, typer.Option("--format", help="Table format of tabulate: simple, github, grid, ...")]
RunArgument = Annotated[str | None, typer.Argument(metavar="RUN", help="A run's name or its beginning [last].")]


@app.command("run")
def run_(
    backend: Annotated[str, typer.Option(help="all, or a list such as pytorch,keras.")] = "all",
    workload: Annotated[str | None, typer.Option(metavar="MODEL/DATASET/RECIPE", help="Instead of the three.")] = None,
    model: Annotated[str | None, typer.Option(help="Model [article-keras].")] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set [digits].")] = None,
    recipe: Annotated[str | None, typer.Option(help="Training recipe [article-keras].")] = None,
    task: Annotated[str, typer.Option(help="What to time: train, infer or all.")] = "all",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N, or a list: one row each.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Batch size of throughput figures.")] = 128,
    profile: Annotated[
        str, typer.Option(help="deploy (as users run it) or precise (pinned, for small effects).")
    ] = "deploy",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads [the profile's physical cores].")] = None,
    cpus: Annotated[str | None, typer.Option(metavar="LIST", help="Pin workers to CPUs such as 0,2-3.")] = None,
    allocator: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="system, arena (glibc keeps memory) or a library's path."),
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Fresh processes per row [deploy 3, precise 5].")] = None,
    precision_target: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Add rounds until the ratios' half-width is this, such as 2%.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="The most time for --precision-target, such as 90s, 5m [5m].")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, batches and the order of rounds.")] = 0,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds until a silent worker is killed.")] = 600.0,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of a data set that is read from disk.")] = None,
    python: Annotated[
        list[str] | None, typer.Option(metavar="BACKEND=PATH", help="Interpreter for a backend (repeatable).")
    ] = None,
    store: StoreOption = None,
    format_: FormatOption = "simple",
) -> None:
    """Certify, train, export and time backends on one workload, and tabulate them.

    Exit code: 0; 1 if a row that was asked for is not ok and comparable; 2 usage; 130 on Ctrl-C.
    """
    from bench.plan import Request
    from bench.profiles import place

    if budget is not None and precision_target is None:
        raise UsageError("--budget bounds --precision-target; give both, or --rounds alone")
    target = None if precision_target is None else quantities.fraction("--precision-target", precision_target)
    request = Request(
        backends=tuple(name.strip() for name in backend.split(",") if name.strip()),
        workload=_workload(workload, model, dataset, recipe),
        task=_one_of("task", task, ("train", "infer", "all")),
        devices=device,
        batch_size=batch_size,
        placement=place(profile, cpus, threads, allocator),
        rounds=rounds,
        precision_target=target,
        budget=None if budget is None else quantities.seconds("--budget", budget),
        seed=seed,
        timeout=timeout,
        data_dir=data_dir,
        pythons=dict(_python(entry) for entry in python or []),
    )
    sys.exit(_run(request, store, format_))


def _run(request: Any, store_url: str | None, format_name: str) -> int:
    from bench.datasets import DATASETS
    from bench.plan import make
    from bench.run import run
    from bench.store import Store, without_password
    from reports import tables

    tables.check_format(format_name)
    plan = make(request)
    dataset = DATASETS[request.workload.dataset](request.data_dir)
    store = Store(store_url)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    finished = run(plan, dataset, store, shlex.join(["bench", *without_password(sys.argv[1:])]))
    print(tables.text(finished.run, format_name))
    print(f"\nrun {finished.run.name} in {finished.stored_in}")
    return finished.exit_code


@app.command("list")
def list_() -> None:
    """Backends (available or why not, versions, devices), models, recipes and data sets."""
    from bench import catalogue
    from reports import listing

    print(listing.text(catalogue.backends(), catalogue.gpus_here()))


@app.command()
def report(
    run_name: RunArgument = None,
    format_: Annotated[str, typer.Option("--format", help="markdown, or a table format of tabulate.")] = "markdown",
    timing: Annotated[bool, typer.Option("--timing", help="Only where the run's wall time went.")] = False,
    store: StoreOption = None,
) -> None:
    """A stored run with the definition of every column, the machine, versions, data and parity."""
    from reports import markdown, tables
    from reports.timing import timing_table

    found = _load(run_name, store)
    if timing:
        name = "github" if format_ == "markdown" else tables.check_format(format_)
        print(timing_table(found).render(name))
    elif format_ == "markdown":
        print(markdown.render(found), end="")
    else:
        print(tables.text(found, tables.check_format(format_)))


@app.command()
def export(
    run_name: RunArgument = None,
    format_: Annotated[str, typer.Option("--format", help="json.")] = "json",
    store: StoreOption = None,
) -> None:
    """A stored run's records on standard output."""
    from bench.job import export as to_json

    _one_of("format", format_, ("json",))
    print(to_json(_load(run_name, store)))


@app.command()
def doctor() -> None:
    """What on this machine will spoil a measurement, and what to do about it."""
    from bench.doctor import examine
    from reports import listing

    print(listing.doctor(examine()))


@app.command("gpu-check")
def gpu_check(
    backend: Annotated[str, typer.Option(help="all, or a list such as pytorch,keras.")] = "all",
    python: Annotated[
        list[str] | None, typer.Option(metavar="BACKEND=PATH", help="Interpreter for a backend (repeatable).")
    ] = None,
) -> None:
    """Whether the CUDA figures of each backend can be trusted on this machine; needs a GPU."""
    from bench.gpu_run import check
    from reports import listing

    pythons = dict(_python(entry) for entry in python or [])
    findings = check([name.strip() for name in backend.split(",")], pythons)
    print(listing.gpu_findings(findings))
    sys.exit(any(finding.passed is False for finding in findings))


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(f"evenbench {version('evenbench')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """The same CNN in every framework: proven equal, timed, tabulated."""


def _load(name: str | None, store: str | None) -> Any:
    from bench.ratios import with_ratios
    from bench.store import Store

    found = Store(store).load(name)
    return found.model_copy(update={"records": with_ratios(found.records)})


def _workload(workload: str | None, model: str | None, dataset: str | None, recipe: str | None) -> Any:
    from bench.datasets import DATASETS
    from bench.workloads import DEFAULT_WORKLOAD, MODELS, RECIPES, Workload

    if workload is not None and (model or dataset or recipe):
        raise UsageError("--workload names model, data set and recipe together; leave out the other three")
    parts = (workload or DEFAULT_WORKLOAD).split("/")
    if len(parts) != 3:
        raise UsageError(f"--workload {workload}: not MODEL/DATASET/RECIPE, such as {DEFAULT_WORKLOAD}")
    asked = [given or default for given, default in zip((model, dataset, recipe), parts, strict=True)]
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("model", MODELS),
        ("data set", dict(DATASETS)),
        ("recipe", RECIPES),
    ]
    for (kind, known), name in zip(kinds, asked, strict=True):
        if name not in known:
            raise unknown(kind, name, known)
    return Workload(MODELS[asked[0]], asked[1], RECIPES[asked[2]])


def _one_of(kind: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise UsageError(f"unknown {kind} '{value}'; one of {', '.join(known)}")
    return value


def _python(entry: str) -> tuple[str, str]:
    name, separator, path = entry.partition("=")
    if not (name and separator and path):
        raise UsageError(f"--python {entry}: not BACKEND=PATH, such as keras=.venv-keras/bin/python")
    return name, path


def _fail(message: object, code: int) -> NoReturn:
    print(f"bench: {message}", file=sys.stderr)
    sys.exit(code)


def main() -> None:
    """Entry point: one line and an exit code for what the user can act on."""
    try:
        app()
    except BenchError as error:
        _fail(error, error.exit_code)


if __name__ == "__main__":
    main()
