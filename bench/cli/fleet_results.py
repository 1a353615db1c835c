"""What became of a fleet's jobs: for reports, as logs, and the list of fleets."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bench.errors import BenchError, UsageError

if TYPE_CHECKING:
    from bench.fleet.jobs import FleetJob
    from bench.records.placed import Placed, Price
    from bench.store.store import Store
    from reports.table import Document


def placed(store: Store, jobs: Sequence[FleetJob]) -> list[Placed]:
    """What became of every job, with its run or check, for reports."""
    from bench.records.gate_result import Check
    from bench.records.placed import Placed
    from bench.store.schema import CHECKS

    found = []
    price = _prices()
    for job in jobs:
        last, run, check = job.last, None, None
        if last is not None and last.node:
            try:
                check = store.read(CHECKS, last.result, Check) if job.command == "check" else None
                run = store.load(last.result) if job.command == "run" else None
            except BenchError:
                run = None  # it ended before it stored anything
        lost = [attempt.lost for attempt in job.attempts if attempt.lost]
        log = next((attempt.log for attempt in reversed(job.attempts) if attempt.log), [])
        failed = log[-1] if log and job.code == 2 and not lost else ""
        node = last.node if last is not None and last.node else job.node_name
        machine = "" if last is None else str(last.machine.get("id", ""))
        found.append(
            Placed(
                number=job.number, job=shlex.join([job.command, *job.arguments]), node=node, machine=machine,
                status=job.status, code=None if last is None else last.code, attempts=len(job.attempts),
                why="; ".join(lost) or failed, log=tuple(log), result="" if last is None else last.result, run=run,
                check=check, price=price(node, machine),
            )
        )  # fmt: skip
    return found


def _prices() -> Callable[[str, str], Price | None]:
    """The price of a machine, by its node's name or its fingerprint, from ``[tool.evenbench.prices]``."""
    from bench.records import placed as records
    from bench.workloads import toml_files

    try:
        by_name, currency = records.prices(toml_files.project_table("prices"))
    except ValueError as error:
        raise UsageError(f"{toml_files.PROJECT}, tool.evenbench.prices: {error}") from error

    def price(node: str, machine: str) -> Price | None:
        amount = by_name.get(node, by_name.get(machine))
        return None if amount is None else records.Price(amount, currency)

    return price


def print_logs(store: Store, name: str) -> None:
    """What nodes wrote last, by attempt."""
    from bench.fleet import jobs as kept
    from reports.table import printable

    fleet, jobs = kept.load(store, name)
    told = [(job, attempt) for job in jobs for attempt in job.attempts if attempt.log]
    for job, attempt in told:
        why = attempt.lost or f"exit code {attempt.code}"
        print(f"== job {job.number}, attempt {attempt.number + 1}, {attempt.node or 'no node'}: {printable(why)}")
        print("\n".join(map(printable, attempt.log)))
    if not told:
        print(f"no attempt of {fleet.name} failed")


def listing(store: Store) -> Document:
    """A table of all fleets, the newest first."""
    from bench.fleet import jobs as kept
    from bench.store.schema import FLEETS
    from reports.table import Document, Table

    rows = []
    for name in store.names(FLEETS):
        fleet, jobs = kept.load(store, name)
        done = sum(job.status == "done" for job in jobs)
        rows.append([fleet.name, fleet.began, fleet.target, f"{done} of {len(jobs)}", fleet.line])
    if not rows:
        return Document(headline="No fleet; bench run --on ray begins one.")
    return Document([Table("Fleets", ["fleet", "began", "target", "jobs done", "command"], rows)])
