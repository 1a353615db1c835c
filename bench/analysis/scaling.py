"""How training scales: the efficiency of several processes that train together, from rounds in which they took turns
with one process.

Of N processes at a whole batch b: strong scaling is the rate over N times that of one process at the same batch b;
weak scaling is the rate over N times that of one process at a batch of b / N, which is what each of the N has.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis import intervals
from bench.records.metrics import METRICS
from bench.records.record import Figure, Record, Sample

STRONG, WEAK = "strong_efficiency", "weak_efficiency"


def with_scaling(records: Sequence[Record]) -> list[Record]:
    """Records of several processes with their efficiencies, where the row of one process was measured in the run."""
    single = {_of_one(record): record for record in records if record.job.processes == 1}
    return [_scaled(record, single.get(_of_one(record))) for record in records]


def _of_one(record: Record) -> str:
    """The id of the row with one process."""
    return record.job.row._replace(processes=1).id


def _scaled(record: Record, one: Record | None) -> Record:
    count = record.job.processes
    if count is None or count == 1:
        return record
    kept = [figure for figure in record.figures if figure.name not in (STRONG, WEAK)]
    rates = [figure for figure in kept if figure.name == "throughput" and figure.task == "train"]
    for figure in rates:
        assert figure.batch_size is not None, "a throughput has a batch size"
        kept.append(_efficiency(STRONG, figure, one, figure.batch_size, count))
        if one is None or _rate(one, figure, figure.batch_size // count) is not None:
            kept.append(_efficiency(WEAK, figure, one, figure.batch_size // count, count))
    return record.model_copy(update={"figures": kept})


def _rate(one: Record, like: Figure, batch_size: int) -> Figure | None:
    return one.figure("throughput", like.task, like.boundary, batch_size)


def _efficiency(name: str, figure: Figure, one: Record | None, batch_size: int, count: int) -> Figure:
    """From the pairs of the same round."""
    base = None if one is None else _rate(one, figure, batch_size)
    of_one = {} if base is None else {sample.round: sample.value for sample in base.samples}
    pairs = [(each.round, each.value / of_one[each.round] / count) for each in figure.samples if each.round in of_one]
    missing = Figure(
        name=name, task=figure.task, boundary=figure.boundary, batch_size=figure.batch_size, value=None,
        unit=METRICS[name].unit, reason=figure.reason or f"no row of one process was measured at batch {batch_size}",
    )  # fmt: skip
    if not pairs:
        return missing
    estimate = intervals.geometric_mean([ratio for _, ratio in pairs])
    found = {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": len(pairs), "reason": None}
    samples = [Sample(round=number, value=ratio) for number, ratio in pairs]
    return missing.model_copy(update={**found, "samples": samples})
