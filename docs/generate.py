"""Writes what the documentation says of commands, metrics and records from where they are defined.

    python docs/generate.py

``commands.md`` from the command line's own help (``typer utils docs``), ``metrics.md`` from
``bench.records.metrics`` and ``reports.content.definitions``, ``run.schema.json`` and ``check.schema.json`` (JSON
Schema) from the models of records. A test fails where the files say something else.
"""

from __future__ import annotations

import html
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.records.metrics import Metric

HERE = Path(__file__).parent


def commands() -> str:
    """Every command with every option."""
    command = [
        sys.executable,
        "-m",
        "typer",
        "bench.cli.main",
        "utils",
        "docs",
        "--name",
        "bench",
        "--title",
        "Commands",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE.parent)
    return html.unescape(done.stdout)


def metrics() -> str:
    """Every metric and term."""
    from bench.records.metrics import METRICS
    from reports.content import definitions

    table = ["| metric | in text | unit | better | interval | margin of `bench check` |", "|---|---|---|---|---|---|"]
    table += [
        f"| `{name}` | {metric.title} | {definitions.unit(metric)} | {metric.direction or 'neither'}"
        f" | {definitions.interval(metric)} | {_margin(metric)} |"
        for name, metric in METRICS.items()
    ]
    parts = [
        "# What every metric means",
        "\n".join(table),
        "`margin` is the default of `--margin`, under the name that `bench check` has for the metric.",
        "## Definitions",
        _list({f"`{name}`": metric.definition for name, metric in METRICS.items()}),
        "## Terms",
        _list(definitions.TERMS),
    ]
    return "\n\n".join(parts) + "\n"


def run_schema() -> str:
    """Of what ``bench export`` writes."""
    from bench.records import export

    return json.dumps(export.run_schema(), indent=1) + "\n"


def check_schema() -> str:
    """Of what ``bench check --format json`` writes."""
    from bench.records import export

    return json.dumps(export.check_schema(), indent=1) + "\n"


WRITTEN = {
    "commands.md": commands,
    "metrics.md": metrics,
    "run.schema.json": run_schema,
    "check.schema.json": check_schema,
}


def _margin(metric: Metric) -> str:
    from reports.content import definitions

    return "" if metric.gate is None else f"{metric.gate}: {definitions.margin(metric)}"


def _list(definitions: dict[str, str]) -> str:
    return "\n".join(f"- **{name}**: {text}" for name, text in definitions.items())


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    for name, content in WRITTEN.items():
        (HERE / name).write_text(content())
