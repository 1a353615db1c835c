"""``evenbench.run``, ``check`` and ``load``: what the commands of the same names do, for programs and notebooks."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.cli import check as check_command
from bench.cli import grouped
from bench.cli import run as run_command
from bench.errors import UsageError, closest
from bench.file_names import readable
from bench.machine import speed_variables
from bench.records.record import label
from bench.records.series import Listed
from bench.secrecy import hide
from bench.store import queries
from bench.store.loading import EXPORT_SUFFIX, load_run, load_stored
from bench.store.store import Store
from bench.workloads.workload import parts
from evenbench.results import CheckResult, History, RunResult

NOT_HERE = {
    "on": "jobs on other machines are the command line's: bench {command} --on",
    "format": "a result shows itself: print(result), or leave it at the end of a cell",
    "output": "write result.page() to a file",
    "summary": "bench report --summary has it",
    "junit": "bench export --format junit has it",
}
"""Options of the commands that a function does not take, with what does it instead."""


def run(*, store: str | Path | None = None, **options: Any) -> RunResult:
    """Certify, train, export and time backends on one workload, as ``bench run`` does.

    Args:
        store: database URL or SQLite file; None: as for the command.
        options: those of ``bench run``, such as ``backend="pytorch"``, ``batch_size=[8, 32]``, ``rounds=6``,
            ``set={"epochs": 2}``, ``tensorboard="runs"``. A list is joined by commas or, where an option can be
            repeated, repeated; so is a dict, as ``NAME=VALUE``. ``resume=True`` goes on with the last that stopped.

    Raises:
        UsageError: an unknown option, or a value that the command would refuse.
        BenchError: it cannot run.
        KeyboardInterrupt: it was interrupted; what was measured is stored, and the message says how it goes on.
    """
    arguments = _arguments("run", run_command.run, options)
    groups = grouped.parse(run_command.run, arguments)
    resume, where, name, watch = (groups.pop(each) for each in ("resume", "where", "name", "watch"))
    del groups["output"]
    chosen = run_command.Chosen(**groups)
    resume.check(chosen, "run")
    where.check()
    name.check()
    with speed_variables.unbound():
        opened = Store(None if store is None else str(store))
        finished = run_command.carry_out(chosen, resume, name, watch, opened, _command_line("run", arguments))
    if finished.goes_on:
        raise KeyboardInterrupt(f"run {finished.run.name} is not whole: {finished.goes_on} does what is missing")
    return RunResult(finished.run, finished.exit_code, finished.stored_in)


def check(against: str | Path | None = None, *, store: str | Path | None = None, **options: Any) -> CheckResult:
    """Measure ``against`` and the present environment as live pairs, and judge every metric, as ``bench check`` does.

    Args:
        against: an interpreter, requirements such as ``torch==2.13.0``, ``git:REV``, or a saved baseline; None only
            with ``resume``.
        store: database URL or SQLite file; None: as for the command.
        options: those of ``bench check``, as for ``run``.

    Raises:
        UsageError: an unknown option, or a value that the command would refuse.
        BenchError: it cannot run.
        KeyboardInterrupt: it was interrupted; what was measured is stored, and the message says how it goes on.
    """
    arguments = _arguments("check", check_command.check, {"against": against, **options})
    groups = grouped.parse(check_command.check, arguments)
    resume, where, name = (groups.pop(each) for each in ("resume", "where", "name"))
    del groups["output"], groups["file"]
    chosen = check_command.Chosen(**groups)
    resume.check(chosen, "check")
    where.check()
    name.check()
    with speed_variables.unbound():
        opened = Store(None if store is None else str(store))
        first, finished = check_command.carry_out(chosen, resume, name, opened, _command_line("check", arguments))
    if finished.interrupted:
        raise KeyboardInterrupt(f"check {finished.check.name} is not whole: {finished.goes_on} does what is missing")
    code = finished.check.exit_code(first.care.inconclusive_code)
    return CheckResult(finished.check, code, finished.stored_in)


def load(
    store: str | Path | None = None,
    *,
    run: str | None = None,
    backend: str | None = None,
    workload: str | None = None,
    machine: str | None = None,
    commit: str | None = None,
    since: str | None = None,
    limit: int = 50,
) -> History:
    """Stored runs, the newest first.

    Args:
        store: database URL or SQLite file; or a file of ``bench export``, ``.json``, which is one run. None: as for the
            command.
        run: one run, by its name or its beginning, tag, commit or ``last~N``; then no filter may be given.
        backend: runs with a row of this backend.
        workload: runs of ``MODEL/DATASET/RECIPE``.
        machine: fingerprint, or its beginning.
        commit: Git commit, or its beginning.
        since: ``2026-01-31``, or a time before now such as ``30d``.
        limit: the newest so many.

    Raises:
        UsageError: no such run, or a filter that cannot be read.
        BenchError: the store cannot be read.
    """
    which = queries.Filter(
        backend=backend,
        workload=None if workload is None else parts(workload),
        machine=machine,
        commit=commit,
        since=None if since is None else queries.parse_since(since),
    )
    if run is not None and which != queries.Filter():
        raise UsageError("run names one run; leave out the filters")
    if str(store).endswith(EXPORT_SUFFIX):
        return _of_file(str(store), run, which)
    opened = Store(None if store is None else str(store))
    if run is not None:
        name = opened.load(run).name
        listed = [one for one in queries.runs(opened, which, limit=2**31) if one.name == name]
    else:
        listed = queries.runs(opened, which, limit)
    results = tuple(RunResult(load_stored(opened, one.name), stored_in=opened.shown_url) for one in listed)
    return History(results, tuple(listed))


def _of_file(file: str, run: str | None, which: queries.Filter) -> History:
    """The run of a file of ``bench export``.

    Raises:
        UsageError: something is chosen, where there is one run.
    """
    if run is not None or which != queries.Filter():
        raise UsageError(f"{file} is one run; leave out what chooses some")
    exported = load_run(file)
    jobs = [record.job for record in exported.records]
    listed = Listed(
        name=exported.name,
        started_at=exported.started_at,
        rows=tuple(label(job, jobs) for job in jobs),
        workloads=tuple(dict.fromkeys(f"{job.model}/{job.dataset}/{job.recipe}" for job in jobs)),
        machines=tuple(dict.fromkeys(str(record.machine.get("id")) for record in exported.records)),
        commits=tuple(dict.fromkeys(record.commit for record in exported.records if record.commit is not None)),
        tags=(),
        acknowledged=None,
    )
    return History((RunResult(exported, stored_in=file),), (listed,))


def _command_line(command: str, arguments: list[str]) -> str:
    """The command that repeats it, secrets hidden."""
    return hide(readable(shlex.join(["bench", command, *arguments])))


def _arguments(command: str, function: Callable[..., Any], options: Mapping[str, Any]) -> list[str]:
    """Keywords as arguments of the command.

    Raises:
        UsageError: an option that the command does not have, or that is not for functions.
    """
    flags = grouped.flags(function)
    arguments = []
    for name, value in options.items():
        if name in NOT_HERE and name in flags:
            raise UsageError(f"{name}: {NOT_HERE[name].format(command=command)}")
        if name not in flags:
            raise UsageError(f"{command}() has no option '{name}'{closest(name, flags) or ''}")
        arguments += _typed(*flags[name], name, value)
    return arguments


def _typed(flag: str, repeated: bool, name: str, value: Any) -> list[str]:
    if value is None or value is False:
        return []
    if value is True:
        return [f"{flag}="] if flag in grouped.ALONE else [flag]
    if isinstance(value, Mapping):
        value = [f"{key}={one}" for key, one in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        texts = [str(one) for one in value]
        return [f"{flag}={text}" for text in texts] if repeated else [f"{flag}={','.join(texts)}"]
    return [f"{flag}={value}"]
