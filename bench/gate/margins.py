"""Read the margins of a check: defaults, overridden by TOML files, overridden by flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import quantities
from bench.errors import UsageError
from bench.gate.gated_metric import MARGINS
from bench.workloads import toml_files


def read(flags: Sequence[str], file: Path | None = None, project: Path = toml_files.PROJECT) -> dict[str, float]:
    """Margins by metric, as fractions. ``file`` is a TOML file with a table ``[margins]``; ``flags`` are
    ``throughput=1%``.

    Raises:
        UsageError: a missing file, invalid TOML, an unknown metric, or not a percentage.
    """
    margins = dict(MARGINS)
    if project.is_file():
        margins |= _parse(toml_files.project_table("margins", project), str(project))
    if file is not None:
        margins |= _parse(toml_files.read(file)[1].get("margins", {}), str(file))
    for flag in flags:
        name, separator, text = flag.partition("=")
        if not separator:
            raise UsageError(f"--margin {flag}: not METRIC=PERCENT, such as throughput=1%")
        margins |= _parse({name.strip(): text}, "--margin")
    return margins


def _parse(given: Mapping[str, Any], where: str) -> dict[str, float]:
    if not isinstance(given, dict):
        raise UsageError(f"{where}: margins is not a table such as throughput = '1%'")
    unknown = sorted(set(given) - set(MARGINS))
    if unknown:
        raise UsageError(f"{where}: no margin '{unknown[0]}'; one of {', '.join(MARGINS)}")
    return {name: quantities.fraction(f"{where} {name}", str(value)) for name, value in given.items()}
