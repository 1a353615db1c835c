"""Generate the documentation of commands and metrics from their definitions in the code.

    python docs/generate.py

``commands.md`` comes from the command line's own help (``typer utils docs``), ``metrics.md`` from
``bench.records.metrics`` and ``reports.content.definitions``. A test fails if the files differ.
"""

from __future__ import annotations

import html
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


def _margin(metric: Metric) -> str:
    from reports.content import definitions

    return "" if metric.gate is None else f"{metric.gate}: {definitions.margin(metric)}"


def _list(definitions: dict[str, str]) -> str:
    return "\n".join(f"- **{name}**: {text}" for name, text in definitions.items())


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    (HERE / "commands.md").write_text(commands())
    (HERE / "metrics.md").write_text(metrics())
