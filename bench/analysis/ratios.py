"""Each speed of a run against the fastest comparable row's, from slices that followed one another."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from bench.analysis import intervals
from bench.records.metrics import METRICS, Metric, decisive
from bench.records.record import Figure, Ratio, Record, Sample, Slice, label
from bench.values import Measured


def with_ratios(records: Sequence[Record]) -> list[Record]:
    """Records with each speed's ratio to the fastest comparable row, from pairs of the same round."""
    return [record.model_copy(update={"ratios": _ratios(record, records)}) for record in records]


def widest(records: Sequence[Record]) -> tuple[float, str] | None:
    """The largest 95% half-width of the decisive ratios, as a fraction, and whose it is; infinite while one has no
    interval, None where there is nothing to compare."""
    widths = [
        (
            _half_width(ratio),
            f"{label(record.job, [peer.job for peer in records])}, {ratio.task} {ratio.name} {ratio.boundary}",
        )
        for record in records
        for ratio in record.ratios
        if ratio.name in decisive() and ratio.against != record.id
    ]
    return max(widths, default=None)


def _half_width(ratio: Ratio) -> float:
    if ratio.low is None or ratio.high is None or ratio.low <= 0:
        return math.inf
    return math.sqrt(ratio.high / ratio.low) - 1


def _ratios(record: Record, records: Sequence[Record]) -> list[Ratio]:
    ratios = []
    for figure in record.figures:
        metric = METRICS.get(figure.name)
        if metric and metric.compared and figure.value is not None and figure.task and record.comparable:
            ratio = _ratio(metric, record, figure, records)
            if ratio is not None:
                ratios.append(ratio)
    return ratios


def may_be_compared(record: Record, other: Record) -> bool:
    """Whether two comparable rows may be set against one another: what no judge could certify, only with rows of the
    same file."""
    return (record.certified and other.certified) or record.data.sha256 == other.data.sha256


def _ratio(metric: Metric, record: Record, figure: Figure, records: Sequence[Record]) -> Ratio | None:
    """To the fastest contender; to the fastest row where no contender was measured."""
    peers = [peer for peer in records if peer.comparable and may_be_compared(record, peer)]
    measured = [(other, peer) for peer in peers if (other := _same(figure, peer)) is not None]
    rivals = [(other, peer) for other, peer in measured if peer.contender] or measured
    choose = min if metric.lower_is_better else max
    best, fastest = choose(rivals, key=lambda rival: rival[0].value or 0.0)
    estimate = ratio_between(figure, best)
    if estimate is None:
        return None
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
            "against": fastest.id,
        }
    )


def ratio_between(ours: Figure, theirs: Figure) -> Measured | None:
    """Ratio of two figures of one run from the rounds that both were measured in; None where there is none."""
    others = {sample.round: sample for sample in theirs.samples}
    pairs = [(sample, others[sample.round]) for sample in ours.samples if sample.round in others]
    if not pairs:
        return None
    metric = METRICS.get(ours.name)
    summary = (
        intervals.median if metric is not None and metric.ranked and not metric.decisive else intervals.geometric_mean
    )
    return summary([round_ratio(ours.name, a, b) for a, b in pairs])


def round_ratio(name: str, ours: Sample, theirs: Sample) -> float:
    """Ratio of a round: the median over its turns, of slices that followed one another and were not disturbed, so that
    neither a drift nor a burst on one slice moves it; of the two values where there are no turns to compare."""
    ratios = turn_ratios(name, ours, theirs) if name in decisive() else []
    return statistics.median(ratios) if ratios else ours.value / theirs.value


def turn_ratios(name: str, ours: Sample, theirs: Sample) -> list[float]:
    """The ratio of two slices of each turn, of the turns in which neither was disturbed; of all turns if there is no
    such turn."""
    metric = METRICS[name]
    other = {piece.turn: piece for piece in theirs.slices if piece.turn is not None}
    turns = [(piece, other[piece.turn]) for piece in ours.slices if piece.turn in other]
    clean = [(a, b) for a, b in turns if not a.disturbed and not b.disturbed]
    return [_value(metric, a) / _value(metric, b) for a, b in clean or turns]


def _value(metric: Metric, piece: Slice) -> float:
    """The value in one slice: of a rate its images per second, of a time the median of its calls."""
    if metric.is_rate:
        return piece.images / piece.seconds
    return intervals.percentile(sorted(piece.latencies or []), 50)


def _same(figure: Figure, record: Record) -> Figure | None:
    """The figure of another record under the same key, if it was measured."""
    key = figure.key
    measured = (other for other in record.figures if other.value is not None and other.key == key)
    return next(measured, None)
