"""``bench baseline``: named baselines for ``bench check --against NAME``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from bench.cli import check_options, measuring, options
from bench.cli.grouped import command
from bench.cli.options import DeviceOptions, MetricOptions, RowOptions, WorkloadOptions
from bench.errors import UsageError

app = typer.Typer(help="Named baselines for bench check --against NAME.", no_args_is_help=True)


def register(parent: typer.Typer) -> None:
    """Add the commands to the application."""
    command(app, "save")(save)
    app.command("list")(list_)
    app.command("delete")(delete)
    parent.add_typer(app, name="baseline")


def save(
    name: Annotated[str, typer.Argument(help="Of the baseline.")],
    rows: RowOptions,
    workload: WorkloadOptions,
    metrics: MetricOptions,
    device: DeviceOptions,
    store: options.StoreUrl = None,
) -> None:
    """Keep this environment's lock, the job and the data's hash under a name."""
    from bench.gate import baselines, environments
    from bench.gate.check_job import CheckJob
    from bench.machine.host import git_commit
    from bench.store.schema import BASELINES
    from bench.store.store import Store

    if not name or not name[0].isalpha() or any(character in name for character in "=<>~!@:/\\ ") or len(name) > 64:
        raise UsageError(f"baseline '{name}': begin with a letter; none of = < > ~ ! @ : / and no blank")
    job = CheckJob().with_options(check_options.given(rows, workload, device, metrics))
    plan, data = measuring.plan_on_data(check_options.request(job, "precise", device))
    lock = environments.current_lock(sorted({row.job.backend for row in plan.rows if row.problem is None}))
    kept = baselines.Baseline(name, lock, job, data.sha256, git_commit())
    Store(store).put(BASELINES, name, json.dumps(kept.to_dict()))
    print(f"baseline {name}: {len(lock.pins)} packages; bench check --against {name}")


def list_(store: options.StoreUrl = None, format_: options.Format = "simple") -> None:
    """Saved baselines."""
    from bench.gate import baselines
    from bench.store.schema import BASELINES
    from bench.store.store import Store
    from reports.render.terminal import show
    from reports.table import Document, Table

    opened = Store(store)
    saved = [kept for name in opened.names(BASELINES) if (kept := baselines.load_baseline(opened, name)) is not None]
    rows = [
        [
            kept.name,
            kept.lock.python,
            ", ".join(f"{root} {kept.lock.pins[root]}" for root in kept.lock.roots),
            kept.job.describe(),
            kept.data[:12],
            (kept.commit or "none")[:12],
        ]
        for kept in saved
    ]
    headers = ["baseline", "Python", "packages", "job", "data", "commit"]
    nothing = Document(headline="none; bench baseline save NAME")
    show(Document([Table("Baselines", headers, rows)]) if rows else nothing, format_)


def delete(name: Annotated[str, typer.Argument(help="Of the baseline.")], store: options.StoreUrl = None) -> None:
    """Forget a baseline."""
    from bench.store.schema import BASELINES
    from bench.store.store import Store

    opened = Store(store)
    if opened.get(BASELINES, name) is None:
        raise UsageError(f"no baseline '{name}'; bench baseline list shows all")
    opened.remove(BASELINES, name)
    print(f"deleted baseline {name}")
