"""Commands that judge: ``check``, ``baseline``, ``bisect``."""

from __future__ import annotations

import hashlib
import json
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import quantities
from bench.cli import options
from bench.errors import BenchError, UsageError

baseline = typer.Typer(help="Named baselines for bench check --against NAME.", no_args_is_help=True)

DEFAULTS: dict[str, Any] = {
    "backend": "all",
    "workload": "article-keras/digits/article-keras",
    "task": "all",
    "device": "auto",
    "batch_size": 128,
    "figure": "throughput,latency,memory",
    "boundary": "end-to-end",
}
"""What is measured where neither an option nor a saved baseline says so."""
LONGER = 3
"""A bisection measures a midpoint that stays inconclusive so many times as long."""
LONGER_LOOKS = (8, 16, 32, 48, 64)
INTERRUPTED = 130
INCONCLUSIVE = {None: 3, "pass": 0, "fail": 1}

JobBackend = Annotated[str | None, typer.Option("--backend", help="all, or a list such as pytorch,keras [all].")]
JobTask = Annotated[str | None, typer.Option("--task", help="What to time: train, infer or all [all].")]
JobDevice = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:N, or a list [auto].")]
JobBatchSize = Annotated[
    int | None, typer.Option("--batch-size", min=1, help="Batch size of throughput figures [128].")
]
JobFigure = Annotated[
    str | None,
    typer.Option("--figure", metavar="LIST", help="Of throughput, latency, memory, accuracy [the first three]."),
]
JobBoundary = Annotated[str | None, typer.Option("--boundary", help="Of speeds: end-to-end or device [end-to-end].")]
Budget = Annotated[str, typer.Option("--budget", metavar="TIME", help="The most time for measuring pairs.")]
Margin = Annotated[
    list[str] | None, typer.Option("--margin", metavar="FIGURE=PERCENT", help="What is no change (repeatable).")
]
Margins = Annotated[Path | None, typer.Option("--margins", metavar="FILE", help="TOML file with a table [margins].")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(check)
    baseline.command("save")(save)
    baseline.command("list")(list_)
    baseline.command("delete")(delete)
    app.add_typer(baseline, name="baseline")
    app.command()(bisect)


def check(
    against: Annotated[
        str,
        typer.Option(metavar="BASE", help="Interpreter, requirements such as torch==2.13.0, git:REV, or a baseline."),
    ],
    backend: JobBackend = None,
    workload: options.WorkloadName = None,
    task: JobTask = None,
    device: JobDevice = None,
    batch_size: JobBatchSize = None,
    figure: JobFigure = None,
    boundary: JobBoundary = None,
    margin: Margin = None,
    margins: Margins = None,
    budget: Budget = "10m",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings per side, for accuracy.")] = 1,
    inconclusive: Annotated[
        str | None, typer.Option(metavar="pass|fail", help="Exit 0 or 1 instead of 3 where it stays open.")
    ] = None,
    profile: options.Profile = "precise",
    threads: options.Threads = None,
    cpus: options.Cpus = None,
    allocator: options.Allocator = None,
    seed: options.Seed = 0,
    timeout: options.Timeout = 600.0,
    data_dir: options.DataDir = None,
    python: options.Pythons = None,
    cache: options.Cache = None,
    store: options.StoreUrl = None,
    format_: options.Format = "simple",
) -> None:
    """Measure BASE and the present environment now, as live pairs that take turns, and judge every figure.

    Exit code: 0; 1 regression; 2 error; 3 inconclusive; 4 invalid (disturbed, changed meanwhile, or not sound).
    """
    try:
        code = _check(**locals())
    except BenchError as error:  # exit code 1 would say: a regression
        print(f"bench: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


def _check(
    against: str,
    margin: list[str] | None,
    margins: Path | None,
    budget: str,
    seeds: int,
    inconclusive: str | None,
    python: list[str] | None,
    cache: Path | None,
    store: str | None,
    format_: str,
    **others: Any,
) -> int:
    from bench import bases
    from bench import check as checking
    from bench.gate import PRESENT
    from bench.plan import Side
    from bench.store import Store
    from reports import tables, verdicts

    tables.check_format(format_)
    if inconclusive not in INCONCLUSIVE:
        raise UsageError(f"--inconclusive {inconclusive}: pass or fail")
    opened = Store(store)
    saved = bases.load_baseline(opened, against)
    given = _given(others)
    job = _job(given, None if saved is None else saved.job, against)
    criteria = _criteria(job, margin, margins, budget, seeds)
    request = _request(job, others, options.pythons(python))
    plan, dataset = _plan(request)
    if saved is not None and saved.data != dataset.sha256:
        raise BenchError(
            f"baseline {against} was saved on other data ({saved.data[:12]}); this is {dataset.sha256[:12]}"
        )
    names = sorted({row.job.backend for row in plan.rows if row.problem is None})
    base = bases.resolve(against, names, opened, cache or bases.default_cache())
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sides = (base, Side(PRESENT, "this environment"))
    found = checking.check(plan, dataset, opened, criteria, sides, options.command_line())
    print(verdicts.text(found.check, format_))
    print(f"\n{found.check.name} in {found.stored_in}")
    return INTERRUPTED if found.interrupted else found.check.exit_code(INCONCLUSIVE[inconclusive])


def save(
    name: Annotated[str, typer.Argument(help="Of the baseline.")],
    backend: JobBackend = None,
    workload: options.WorkloadName = None,
    task: JobTask = None,
    device: JobDevice = None,
    batch_size: JobBatchSize = None,
    figure: JobFigure = None,
    boundary: JobBoundary = None,
    data_dir: options.DataDir = None,
    store: options.StoreUrl = None,
) -> None:
    """Keep this environment's lock, the job and the data's hash under a name."""
    from bench import bases, environments
    from bench.machine import git_commit
    from bench.schema import BASELINES
    from bench.store import Store

    if not name or not name[0].isalpha() or any(character in name for character in "=<>~!@:/\\ ") or len(name) > 64:
        raise UsageError(f"baseline '{name}': begin with a letter; none of = < > ~ ! @ : / and no blank")
    job = _job(_given(locals()), None, name)
    _criteria(job, None, None, "10m", 1)
    plan, dataset = _plan(_request(job, {"data_dir": data_dir}, {}))
    lock = environments.present(sorted({row.job.backend for row in plan.rows if row.problem is None}))
    kept = bases.Baseline(name, lock, job, dataset.sha256, git_commit())
    opened = Store(store)
    opened.put(BASELINES, name, json.dumps(kept.to_dict()))
    print(f"baseline {name}: {len(lock.pins)} packages; bench check --against {name}")


def list_(store: options.StoreUrl = None, format_: options.Format = "simple") -> None:
    """Saved baselines."""
    from bench import bases
    from bench.schema import BASELINES
    from bench.store import Store
    from reports import tables

    tables.check_format(format_)
    opened = Store(store)
    found = [kept for name in opened.names(BASELINES) if (kept := bases.load_baseline(opened, name)) is not None]
    rows = [
        [
            kept.name,
            kept.lock.python,
            ", ".join(f"{root} {kept.lock.pins[root]}" for root in kept.lock.roots),
            ", ".join(f"{key} {value}" for key, value in kept.job.items()),
            kept.data[:12],
            (kept.commit or "none")[:12],
        ]
        for kept in found
    ]
    headers = ["baseline", "Python", "packages", "job", "data", "commit"]
    print(tables.Table("Baselines", headers, rows).render(format_) if rows else "none; bench baseline save NAME")


def delete(name: Annotated[str, typer.Argument(help="Of the baseline.")], store: options.StoreUrl = None) -> None:
    """Forget a baseline."""
    from bench.schema import BASELINES
    from bench.store import Store

    opened = Store(store)
    if opened.get(BASELINES, name) is None:
        raise UsageError(f"no baseline '{name}'; bench baseline list shows all")
    opened.remove(BASELINES, name)
    print(f"deleted baseline {name}")


def bisect(
    package: Annotated[str, typer.Option(help="The distribution whose releases are searched.")],
    good: Annotated[str, typer.Option(metavar="VERSION", help="A release that is fast.")],
    bad: Annotated[str, typer.Option(metavar="VERSION", help="A later one that is slower.")],
    figure: Annotated[str, typer.Option(help="throughput, latency or memory.")] = "throughput",
    backend: JobBackend = None,
    workload: options.WorkloadName = None,
    task: JobTask = None,
    device: JobDevice = None,
    batch_size: JobBatchSize = None,
    boundary: JobBoundary = None,
    margin: Margin = None,
    margins: Margins = None,
    budget: Budget = "5m",
    restart: Annotated[bool, typer.Option("--restart", help="Forget what an earlier search found.")] = False,
    threads: options.Threads = None,
    cpus: options.Cpus = None,
    seed: options.Seed = 0,
    timeout: options.Timeout = 600.0,
    data_dir: options.DataDir = None,
    cache: options.Cache = None,
    store: options.StoreUrl = None,
    format_: options.Format = "simple",
) -> None:
    """Which release made it slower: every midpoint against --good, by the gate. Run again, it goes on where it was.

    Exit code: 0 if the first bad release was found, or there is none; 3 if several are left or --bad could not be
    judged; 130 on Ctrl-C.
    """
    from bench import bases, bisection, environments
    from bench.judging import Judge
    from bench.machine import fingerprint
    from bench.schema import BISECTIONS
    from bench.store import Store
    from reports import tables, verdicts

    tables.check_format(format_)
    options.one_of("figure", figure, ("throughput", "latency", "memory"))
    job = _job(_given(locals()), None, "")
    criteria = _criteria(job, margin, margins, budget, 1)
    plan, dataset = _plan(_request(job, {**locals(), "profile": "precise", "allocator": None}, {}))
    opened = Store(store)
    versions = bisection.candidates(environments.released(package), good, bad)
    lock = environments.present(sorted({row.job.backend for row in plan.rows if row.problem is None}))
    placed = asdict(plan.request.placement)
    decides = [package, versions[0], versions[-1], job, dict(criteria.margins), placed, seed, dataset.sha256]
    decides += [fingerprint()["id"], lock.to_dict()]
    key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
    begun = bisection.Bisection(package=package, figure=figure, versions=versions)
    known = None if restart else opened.read(BISECTIONS, key, bisection.Bisection)
    if known is not None:
        begun = begun.model_copy(update={"steps": known.steps})
    longer = (LONGER_LOOKS, LONGER * criteria.budget)
    command = options.command_line()
    where = cache or bases.default_cache()
    judge = Judge(plan, dataset, opened, criteria, package, versions[0], lock, where, command, longer)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        found = bisection.search(begun, judge, lambda now: opened.put(BISECTIONS, key, now.model_dump_json()))
    except KeyboardInterrupt:
        print("bench: interrupted; the same command goes on where it was", file=sys.stderr)
        sys.exit(INTERRUPTED)
    print(verdicts.bisection(found, format_))
    newest = found.outcome(versions[-1])
    sys.exit(3 if newest == "skipped" or (newest == "bad" and len(found.suspects) > 2) else 0)


def _given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a job that the user gave."""
    return {name: arguments[name] for name in DEFAULTS if arguments.get(name) is not None}


def _job(given: Mapping[str, Any], saved: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    """What is measured; a saved baseline says it, and an option may not say otherwise."""
    for option, value in given.items() if saved is not None else ():
        if saved is not None and saved.get(option) != value:
            told = option.replace("_", "-")
            raise UsageError(f"baseline {name} was saved with --{told} {saved.get(option)}; leave out --{told} {value}")
    return {**DEFAULTS, **(saved or {}), **given}


def _criteria(job: Mapping[str, Any], flags: list[str] | None, file: Path | None, budget: str, seeds: int) -> Any:
    from bench import margins as tolerances
    from bench.targets import FIGURES, Criteria

    figures = options.split(job["figure"])
    for name in figures:
        options.one_of("figure", name, FIGURES)
    options.one_of("boundary", job["boundary"], ("end-to-end", "device"))
    if seeds > 1 and "accuracy" not in figures:
        raise UsageError("--seeds repeats the training for accuracy; add --figure accuracy")
    return Criteria(
        figures=figures,
        boundary=job["boundary"],
        margins=tolerances.read(flags or [], file),
        budget=quantities.seconds("--budget", budget),
        seeds=seeds,
    )


def _request(job: Mapping[str, Any], others: Mapping[str, Any], pythons: dict[str, str]) -> Any:
    from bench.plan import Request
    from bench.profiles import place

    how = {name: others.get(name) for name in ("cpus", "threads", "allocator")}
    told = {name: others[name] for name in ("seed", "timeout", "data_dir") if name in others}
    return Request(
        backends=options.split(job["backend"]),
        workload=options.workload(job["workload"], None, None, None),
        task=options.one_of("task", job["task"], ("train", "infer", "all")),
        devices=job["device"],
        batch_size=job["batch_size"],
        placement=place(others.get("profile", "precise"), **how),
        pythons=pythons,
        **told,
    )


def _plan(request: Any) -> tuple[Any, Any]:
    """The plan and its data set."""
    from bench.datasets import DATASETS
    from bench.plan import make

    return make(request), DATASETS[request.workload.dataset](request.data_dir)
