"""Whether a run or check that stopped may go on here: what it was begun with, beside what there is now."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import psutil

import backends
from backends.model import ModelSpec
from bench.errors import BenchError, UsageError
from bench.machine.host import git_commit
from bench.records.record import Resumption
from bench.runner.plan import Plan
from bench.store.checkpoints import BEGUN
from bench.store.store import Store
from bench.worker.coding import decode, encode

CHECK, SWEEP, SERVE = "check-", "sweep-", "serve-"
"""The names of checks, sweeps and runs under load begin with these; those of other runs with their time."""


@dataclass(frozen=True)
class Circumstances:
    """What decides whether figures of two sittings may stand in one run."""

    rows: tuple[str, ...]
    """Their ids."""
    work: str
    """A hash of model, recipe, files and metrics: what the same options may come to when files have changed."""
    data: str
    """The data set's hash."""
    machine: str
    commit: str | None
    versions: Mapping[str, str]
    """Of this interpreter's packages; workers of others say theirs themselves."""

    def changes(self, then: Circumstances) -> list[str]:
        """What is no longer as it was ``then``, one phrase each; the work apart.

        Raises:
            BenchError: other rows or other work, which no option can join.
        """
        if (self.rows, self.work) != (then.rows, then.work):
            before, now = set(then.rows), set(self.rows)
            rows = "; ".join(
                f"{what} {', '.join(sorted(which))}"
                for what, which in (("new", now - before), ("gone", before - now))
                if which
            )
            what = f"the rows are others ({rows})" if rows else "its model, recipe or files are others"
            raise BenchError(f"it cannot go on: {what}; begin anew without --resume")
        changed = [
            f"{name} {_short(old)} became {_short(new)}"
            for name in ("machine", "data", "commit")
            if (old := getattr(then, name)) != (new := getattr(self, name))
        ]
        return changed + [
            f"{name} {then.versions.get(name, 'none')} became {self.versions.get(name, 'none')}"
            for name in sorted(self.versions.keys() | then.versions.keys())
            if self.versions.get(name) != then.versions.get(name)
        ]


def _short(text: str | None) -> str:
    return "none" if text is None else text[:12]


@dataclass(frozen=True)
class Owner:
    """The process that measures."""

    machine: str
    process: int
    began: float
    """Seconds of the epoch."""

    @property
    def lives(self) -> bool:
        """Whether that process runs on this machine."""
        try:
            return abs(psutil.Process(self.process).create_time() - self.began) < 1.0
        except psutil.Error:
            return False


@dataclass(frozen=True)
class Begun:
    """What a run or check was begun with."""

    options: Mapping[str, Any]
    """The groups of options of its command; none: a larger search has begun it, and goes on with it."""
    at: str
    """When."""
    folder: str
    """The working folder, for relative paths."""
    circumstances: Circumstances
    owner: Owner

    def part(self) -> dict[str, bytes]:
        """As the store keeps it: names of files may be no UTF-8."""
        return {BEGUN: json.dumps(encode(self)).encode()}

    @classmethod
    def read(cls, part: bytes) -> Begun:
        """The inverse of ``part``.

        Raises:
            ValueError: it is damaged, or of another version.
        """
        try:
            begun: Begun = decode(cls, json.loads(part))
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        return begun


@dataclass(frozen=True)
class Resumed:
    """A run or check that goes on."""

    name: str
    parts: Mapping[str, bytes]
    changed: list[str]
    """What is no longer the same; empty: nothing."""


def circumstances(plan: Plan, data: str, machine: Mapping[str, Any], more: Any = None) -> Circumstances:
    """Those of a plan on this machine now. ``data``: hash of the data set; ``more``: what else decides the work."""
    request, versions = plan.request, {"evenbench": version("evenbench"), "python": sys.version.split()[0]}
    for row in plan.rows:
        if row.python == sys.executable and row.problem is None:
            versions |= backends.installed(backends.describe(row.job.backend))[0]
    model = request.workload.model
    content = [
        model.to_dict() if isinstance(model, ModelSpec) else None,
        asdict(request.workload.recipe),
        [(row.id, row.file, row.requested) for row in plan.rows],
        plan.metrics,
        request.load,
        request.started_from,
        more,
    ]
    work = hashlib.sha256(json.dumps(content, default=repr, sort_keys=True).encode()).hexdigest()
    rows = tuple(row.id for row in plan.rows)
    return Circumstances(
        rows=rows, work=work, data=data, machine=str(machine["id"]), commit=git_commit(), versions=versions
    )


def begun(options: Mapping[str, Any], now: Circumstances) -> Begun:
    """For a run or check that this process begins or goes on with."""
    process = Owner(now.machine, os.getpid(), psutil.Process().create_time())
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return Begun(options=dict(options), at=at, folder=os.getcwd(), circumstances=now, owner=process)


def kind_of(name: str) -> str:
    """The command: ``run``, ``check``, ``sweep`` or ``serve``."""
    return next((prefix[:-1] for prefix in (CHECK, SWEEP, SERVE) if name.startswith(prefix)), "run")


def command(name: str) -> str:
    """That goes on with a run, check or sweep that stopped."""
    return f"bench {kind_of(name)} --resume {name}"


def unended(store: Store) -> dict[str, Begun]:
    """What ``--resume`` can go on with, by name, the newest last; without what a larger search goes on with itself."""
    found = {}
    for name, content in store.unended().items():
        try:
            begun = Begun.read(content)
        except ValueError:
            continue  # of another version
        if begun.options:
            found[name] = begun
    return dict(sorted(found.items(), key=lambda each: each[1].at))


def unended_lines(store: Store) -> list[str]:
    """For every run, check and sweep that has not ended: the command that goes on, or that it is still going on."""
    lines = []
    for name, begun in unended(store).items():
        if begun.owner.machine == begun.circumstances.machine and begun.owner.lives:
            lines.append(f"{name} is still going on, in process {begun.owner.process}")
        else:
            lines.append(f"{name} stopped early: {command(name)} does what is missing")
    return lines


def find(store: Store, text: str, kind: str) -> tuple[str, Begun]:
    """The run, check or sweep (``kind``) that ``--resume`` names, by name or its beginning; empty: the newest that
    stopped.

    Raises:
        UsageError: there is none, or more than one.
    """
    found = {name: begun for name, begun in unended(store).items() if kind_of(name) == kind}
    fitting = list(found)[-1:] if not text else [name for name in found if name.startswith(text)]
    if len(fitting) != 1:
        which = f"'{text}' " if text else ""
        many = f"more than one {kind} begins with {text}: {', '.join(fitting)}"
        none = f"no {kind} {which}in {store.shown_url} can go on; bench history lists those that can"
        raise UsageError(many if fitting else none)
    return fitting[0], found[fitting[0]]


def goes_on(store: Store, name: str, now: Circumstances, anyway: bool) -> Resumed:
    """What a run or check goes on from.

    Raises:
        UsageError: it is still going on, or has ended.
        BenchError: what it was begun with has changed, and ``anyway`` is not said.
    """
    parts = store.parts(name)
    if BEGUN not in parts:
        raise UsageError(f"{name} has ended: nothing is missing; bench report {name} shows it")
    then = Begun.read(parts[BEGUN])
    owner = then.owner
    if owner.machine == now.machine and owner.process != os.getpid() and owner.lives:
        raise UsageError(f"{name} is still going on, in process {owner.process}")
    changed = now.changes(then.circumstances)
    if changed and not anyway:
        raise BenchError(
            f"{name} cannot go on as it was: {'; '.join(changed)}; --anyway goes on all the same, the record says so"
        )
    return Resumed(name, parts, changed)


def resumption(resumed: Resumed, rounds: int) -> Resumption:
    """For the record. ``rounds``: those that had been measured."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return Resumption(at=at, rounds=rounds, changed=resumed.changed)
