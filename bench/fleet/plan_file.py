"""A fleet's plan: several jobs in a TOML file.

    on = "ray"
    retries = 1

    [[jobs]]
    nodes = "kinds"
    backend = "pytorch,keras"
    matrix = { device = ["cpu", "cuda"] }

A job has the options of its command by their names, beside the keys of ``JobEntry``. Each combination of its matrix is
a job of its own.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.fleet.target import Selection
from bench.workloads import toml_files

TOP = ("on", "retries", "slurm", "jobs")
COMMANDS = ("run", "check")
MOST_JOBS = 10_000


@dataclass(frozen=True)
class JobEntry:
    """One job of a plan."""

    where: str
    """The plan, and which job of it."""
    command: str = "run"
    nodes: str | None = None
    python: str | None = None
    environment: str | None = None
    arguments: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class PlanFile:
    """What a plan says."""

    jobs: list[JobEntry]
    on: str | None = None
    retries: int | None = None
    slurm: list[str] = field(default_factory=list)
    """``KEY=VALUE``."""


def read(path: Path) -> PlanFile:
    """The plan of a file.

    Raises:
        UsageError: it cannot be read, or an entry is wrong; the message says which.
    """
    plain = toml_files.read(path)[1]
    unknown = sorted(set(plain) - set(TOP))
    if unknown:
        raise UsageError(f"{path}: a plan has no '{unknown[0]}'; it has {', '.join(TOP)}")
    entries = plain.get("jobs")
    if not isinstance(entries, list) or not entries or not all(isinstance(each, dict) for each in entries):
        raise UsageError(f"{path}: no [[jobs]]; each has options of bench run, such as backend = 'pytorch,keras'")
    retries, on, slurm = plain.get("retries"), plain.get("on"), plain.get("slurm", {})
    if retries is not None and (type(retries) is not int or retries < 0):
        raise UsageError(f"{path}: retries = {retries!r} is no number from 0 on")
    if on is not None and not isinstance(on, str):
        raise UsageError(f"{path}: on = {on!r} is no target, such as 'ray'")
    if not isinstance(slurm, dict):
        raise UsageError(f"{path}: slurm is no table, such as {{ partition = 'gpu' }}")
    jobs = [job for number, entry in enumerate(entries, 1) for job in _expanded(f"{path}, job {number}", entry)]
    if len(jobs) > MOST_JOBS:
        raise UsageError(f"{path}: {len(jobs):,} jobs; a plan has at most {MOST_JOBS:,}")
    return PlanFile(jobs, on, retries, [f"{key}={value}" for key, value in slurm.items()])


def _expanded(where: str, entry: dict[str, Any]) -> list[JobEntry]:
    """A job for every combination of its matrix."""
    matrix = entry.get("matrix", {})
    if not isinstance(matrix, dict) or not all(isinstance(values, list) and values for values in matrix.values()):
        raise UsageError(f"{where}: matrix is no table of lists, such as {{ device = ['cpu', 'cuda'] }}")
    common = {key: value for key, value in entry.items() if key != "matrix"}
    both = sorted(set(matrix) & set(common))
    if both:
        raise UsageError(f"{where}: '{both[0]}' stands in the job and in its matrix")
    combinations = itertools.product(*matrix.values())
    return [_job(where, {**common, **dict(zip(matrix, values, strict=True))}) for values in combinations]


def _job(where: str, entry: dict[str, Any]) -> JobEntry:
    own = {key: entry.pop(key, None) for key in ("command", "nodes", "python", "environment")}
    for key, value in own.items():
        if value is not None and not isinstance(value, str | int):
            raise UsageError(f"{where}: {key} = {value!r} is no text")
    command = "run" if own["command"] is None else str(own["command"])
    if command not in COMMANDS:
        raise UsageError(f"{where}: command = {command!r}; one of {', '.join(COMMANDS)}")
    nodes, python, environment = (
        None if own[key] is None else str(own[key]) for key in ("nodes", "python", "environment")
    )
    Selection.parse(nodes)
    arguments = [argument for key, value in entry.items() for argument in _arguments(where, key, value)]
    return JobEntry(where, command, nodes, python, environment, arguments)


def _arguments(where: str, key: str, value: Any) -> list[str]:
    """An option as it is typed: a flag, a value, or one after the other."""
    option = f"--{key.replace('_', '-')}"
    if isinstance(value, bool):
        return [option] if value else []
    if isinstance(value, list):
        return [argument for each in value for argument in _arguments(where, key, each)]
    if not isinstance(value, str | int | float):
        raise UsageError(f"{where}: {key} = {value!r} is no value of an option")
    return [f"{option}={value}"]
