"""Each speed of a run against the fastest comparable row's, from pairs measured in the same round."""

from __future__ import annotations

from collections.abc import Sequence

from bench import stats
from bench.job import Figure, Ratio, Record, label

LOWER_IS_BETTER = frozenset({"latency_p50", "latency_p90", "latency_p99", "cold_start", "first_call"})
SPEEDS = LOWER_IS_BETTER | {"throughput"}


def with_ratios(records: Sequence[Record]) -> list[Record]:
    """Records with each speed's ratio to the fastest comparable row, from pairs of the same round."""
    return [record.model_copy(update={"ratios": _ratios(record, records)}) for record in records]


def _ratios(record: Record, records: Sequence[Record]) -> list[Ratio]:
    ratios = []
    for figure in record.figures:
        if figure.name in SPEEDS and figure.value is not None and figure.task and record.comparable:
            ratio = _ratio(figure, records)
            if ratio is not None:
                ratios.append(ratio)
    return ratios


def _ratio(figure: Figure, records: Sequence[Record]) -> Ratio | None:
    rivals = [(other, peer) for peer in records if peer.comparable and (other := _same(figure, peer)) is not None]
    choose = min if figure.name in LOWER_IS_BETTER else max
    best, fastest = choose(rivals, key=lambda rival: rival[0].value or 0.0)
    theirs = {sample.round: sample.value for sample in best.samples}
    pairs = [(sample.value, theirs[sample.round]) for sample in figure.samples if sample.round in theirs]
    if not pairs:
        return None
    estimate = stats.paired_ratio(*zip(*pairs, strict=True))
    return Ratio.model_validate(
        {
            "name": figure.name,
            "task": figure.task,
            "batch_size": figure.batch_size,
            "boundary": figure.boundary,
            "value": estimate.value,
            "low": estimate.low,
            "high": estimate.high,
            "n": estimate.n,
            "against": label(fastest.job, [peer.job for peer in records]),
        }
    )


def _same(figure: Figure, record: Record) -> Figure | None:
    """The figure of another record under the same key, if it was measured."""
    found = (other for other in record.figures if other.key == figure.key and other.value is not None)
    return next(found, None)
