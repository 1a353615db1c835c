"""Parse quantities of the command line."""

from __future__ import annotations

import re

from bench.errors import UsageError


def split_commas(text: str) -> tuple[str, ...]:
    """The non-empty parts of a comma-separated list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(option: str, text: str) -> float:
    """``90``, ``90s``, ``15ms``, ``5m``, ``1.5h`` to seconds.

    Raises:
        UsageError: anything else, or nothing.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|[smhd]?)", text.strip())
    value = float(match[1]) * _SECONDS[match[2] or "s"] if match else 0.0
    if value <= 0:
        raise UsageError(f"{option} {text}: not a time such as 90s, 5m or 1h")
    return value


_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def size(option: str, text: str) -> int:
    """``500MB``, ``2GiB``, ``1.5G`` to bytes.

    Raises:
        UsageError: anything else, or nothing.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?", text.strip().lower())
    unit = _BYTES.get(match[2]) if match else None
    value = int(float(match[1]) * unit) if match and unit else 0
    if value <= 0:
        raise UsageError(f"{option} {text}: not a size such as 500MB or 2GiB")
    return value


def fraction(option: str, text: str) -> float:
    """``2%`` or ``0.02`` to a fraction between 0 and 1.

    Raises:
        UsageError: anything else.
    """
    match = re.fullmatch(r"(\d*\.?\d+)\s*(%?)", text.strip())
    value = float(match[1]) / (100 if match[2] else 1) if match else 0.0
    if not 0 < value < 1:
        raise UsageError(f"{option} {text}: not a percentage such as 2% (or a fraction such as 0.02)")
    return value
