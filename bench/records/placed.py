"""What became of a job on a machine of a fleet, for reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.records.gate_result import Check
from bench.records.record import Run


@dataclass(frozen=True)
class Price:
    """Of a machine for an hour."""

    amount: float
    currency: str


@dataclass(frozen=True)
class Placed:
    """One job of a fleet."""

    number: int
    job: str
    """Its command and arguments."""
    node: str
    """Name of the last node; of a job that has not begun, the one that it is for; empty: any."""
    machine: str
    """That node's fingerprint; empty: the job has not begun."""
    status: str
    """``waiting``, ``running``, ``done`` or ``lost``."""
    code: int | None
    """Exit code of its command."""
    attempts: int
    why: str
    """Why an attempt was lost, or the command failed; empty: neither."""
    log: tuple[str, ...]
    """The last lines of standard error of an attempt that did not end with 0."""
    result: str
    run: Run | None
    check: Check | None
    price: Price | None


def prices(table: Mapping[str, object]) -> tuple[dict[str, float], str]:
    """Prices per hour by machine, and the currency, of ``[tool.evenbench.prices]``.

    Raises:
        ValueError: an entry that is no price.
    """
    currency = table.get("currency", "currency unit")
    found = {}
    for name, value in table.items():
        if name == "currency":
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ValueError(f"{name} = {value!r} is no price of an hour, such as 1.20")
        found[name] = float(value)
    if not isinstance(currency, str):
        raise ValueError(f"currency = {currency!r} is no name, such as 'EUR'")
    return found, currency
