"""The step of one row, by layer and by operator."""

from __future__ import annotations

from bench.records.explanation import PartTime, StepProfile
from reports.table import Document, Table

MOST_OPERATORS = 3
"""Of a layer, in its cell."""


def document(profile: StepProfile) -> Document:
    """A table of the layers, with notes on what is remarkable."""
    cells = [_cells(part, profile) for part in profile.parts if part.seconds > 0]
    kind = "training" if profile.task == "train" else "inference"
    heading = f"{profile.name}: a step of {kind}, batch {profile.batch_size} (n = {profile.processes} processes, 95%)"
    table = Table(heading, ["layer", "time [us]", "interval", "share", "operators"], cells, numbers_from=1)
    return Document([table], _notes(profile))


def _cells(part: PartTime, profile: StepProfile) -> list[str]:
    name = f"{part.layer} backward" if part.backward else part.layer
    interval = "n/m" if part.low is None or part.high is None else f"[{1e6 * part.low:,.0f}, {1e6 * part.high:,.0f}]"
    names = ", ".join(f"{each.name} {1e6 * each.seconds:,.0f}" for each in part.operators[:MOST_OPERATORS])
    more = len(part.operators) - MOST_OPERATORS
    names += f" and {more} more" if more > 0 else ""
    return [name, f"{1e6 * part.seconds:,.0f}", interval, f"{100 * part.seconds / profile.step:.1f}%", names]


def _notes(profile: StepProfile) -> list[str]:
    """What is remarkable, and what the profiler costs."""
    notes = [
        f"the profiler adds {100 * profile.overhead:.0f}% to a step of {1e6 * profile.step:,.0f} us: shares are of that"
        " step; times are of operators without those that they call",
        "(unmapped): operators of no layer that is known; (between operators): the step's time in which none ran",
    ]
    for part in profile.parts:
        for each in part.operators:
            if each.note:
                notes.append(f"{each.name} ({each.kind or part.layer}): {each.note}, {1e6 * each.seconds:,.0f} us")
    return notes
