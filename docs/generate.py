"""Writes what the documentation says of commands and figures from where they are defined.

    python docs/generate.py

``commands.md`` from the command line's own help (``typer utils docs``), ``metrics.md`` from
``reports.content.definitions``. A test fails where the files say something else.
"""

from __future__ import annotations

import html
import subprocess
import sys
from pathlib import Path

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
    """Every figure and term."""
    from reports.content.definitions import FIGURES, TERMS

    parts = ["# What every figure means", "## Figures", *_list(FIGURES), "## Terms", *_list(TERMS)]
    return "\n\n".join(parts) + "\n"


def _list(definitions: dict[str, str]) -> list[str]:
    return ["\n".join(f"- **{name}**: {text}" for name, text in definitions.items())]


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    (HERE / "commands.md").write_text(commands())
    (HERE / "metrics.md").write_text(metrics())
