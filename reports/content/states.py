"""The state of a row in a few words: its status, its certificate, whether it was disturbed."""

from __future__ import annotations

from bench.records.record import Record


def status(record: Record) -> str:
    """``ok``, or another status with its reason."""
    return record.status if record.error is None else f"{record.status}: {record.error}"


def parity(record: Record) -> str:
    """``comparable``, or the first two failed checks with their values and tolerances."""
    if record.parity is None:
        return "not certified"
    failed = [check for check in record.parity.checks if not check.passed]
    if not failed and record.parity.uncertified is not None:
        return f"not certified: {record.parity.uncertified}"
    if not failed:
        return "comparable"
    shown = "; ".join(f"{check.name} {check.value:.1e} > {check.tolerance:.0e}" for check in failed[:2])
    return f"not comparable: {shown}" + (f" and {len(failed) - 2} more" if len(failed) > 2 else "")


def mark(record: Record) -> str:
    """`` (!)`` if the row stayed disturbed, else empty; the footnotes give the reason."""
    return " (!)" if record.disturbance.disturbed else ""
