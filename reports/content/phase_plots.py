"""A plot of the phases of every worker."""

from __future__ import annotations

from collections.abc import Sequence

from bench.records.record import Phase, Record
from reports.plot import Axis, Plot, Series


def phases(named: Sequence[tuple[str, Record]]) -> list[Plot]:
    """The phases of every worker, one after the other; empty if no phases were recorded."""
    workers = [(name, phase) for name, record in named for phase in record.phases if phase.seconds]
    if not workers:
        return []
    workers.reverse()
    labels = tuple(_worker(i, name, phase) for i, (name, phase) in enumerate(reversed(workers), 1))[::-1]
    order = list(dict.fromkeys(phase for _, worker in reversed(workers) for phase in worker.seconds))
    order.sort(key=lambda phase: phase != "spawn")
    series = []
    begun = [0.0] * len(workers)
    for colour, phase in enumerate(order):
        spent = [worker.seconds.get(phase, 0.0) for _, worker in workers]
        rows = [i for i, seconds in enumerate(spent) if seconds > 0]
        series.append(
            Series(
                phase,
                "bars",
                tuple(begun[i] + spent[i] for i in rows),
                tuple(float(i) for i in rows),
                base=tuple(begun[i] for i in rows),
                colour=colour,
            )
        )
        begun = [before + seconds for before, seconds in zip(begun, spent, strict=True)]
    totals = {phase: sum(worker.seconds.get(phase, 0.0) for _, worker in workers) for phase in order}
    most = sorted(order, key=lambda phase: -totals[phase])[:3]
    summary = f"{len(workers)} workers; most of their time: {', '.join(f'{p} {totals[p]:.1f} s' for p in most)}"
    axes = Axis("seconds of work [s]"), Axis("worker", categories=labels)
    return [Plot("phases", "Phases of the workers", *axes, tuple(series), f"Phases of the workers: {summary}.")]


def _worker(number: int, name: str, phase: Phase) -> str:
    return f"{number}. {name}: {phase.kind}" + ("" if phase.round is None else f" {phase.round}")
