"""Read the margins of a check: defaults, overridden by TOML files, overridden by flags."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import quantities
from bench.errors import UsageError
from bench.gate.gated_metric import MARGINS

PROJECT = Path("pyproject.toml")
"""File in the current folder; its table ``[tool.evenbench.margins]`` applies to every check there."""


def read(flags: Sequence[str], file: Path | None = None, project: Path = PROJECT) -> dict[str, float]:
    """Margins by metric, as fractions. ``file`` is a TOML file with a table ``[margins]``; ``flags`` are
    ``throughput=1%``.

    Raises:
        UsageError: a missing file, invalid TOML, an unknown metric, or not a percentage.
    """
    margins = dict(MARGINS)
    if project.is_file():
        table: Any = _toml(project)
        for key in ("tool", "evenbench", "margins"):
            table = table.get(key, {}) if isinstance(table, dict) else {}
        margins |= _parse(table, str(project))
    if file is not None:
        margins |= _parse(_toml(file).get("margins", {}), str(file))
    for flag in flags:
        name, separator, text = flag.partition("=")
        if not separator:
            raise UsageError(f"--margin {flag}: not METRIC=PERCENT, such as throughput=1%")
        margins |= _parse({name.strip(): text}, "--margin")
    return margins


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error


def _parse(given: Mapping[str, Any], where: str) -> dict[str, float]:
    if not isinstance(given, dict):
        raise UsageError(f"{where}: margins is not a table such as throughput = '1%'")
    unknown = sorted(set(given) - set(MARGINS))
    if unknown:
        raise UsageError(f"{where}: no margin '{unknown[0]}'; one of {', '.join(MARGINS)}")
    return {name: quantities.fraction(f"{where} {name}", str(value)) for name, value in given.items()}
