"""Whether a row's processes fall into two groups: one build can settle in two states, which an average would hide."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.records.record import Figure, Record, Sample

LEAST_GAP = math.log(1.1)
"""Groups nearer than 10% are none to speak of."""
GAP_OVER_RANGE = 5.0
"""The gap is at least so many times the range of either group. Of six normal values at most 1 set in 300 has one."""
FEWEST = 2
"""Processes in a group: one that is off is a bad process, not a state."""
MORE_FAULTS = 1.2
"""Page faults explain the groups where the slow one has so many times as many per step."""


@dataclass(frozen=True)
class Group:
    """Processes of one state."""

    rounds: tuple[int, ...]
    """From 0."""
    value: float
    """Geometric mean."""
    faults_per_step: float | None


@dataclass(frozen=True)
class Groups:
    """The two states of a row in one metric."""

    figure: Figure
    slow: Group
    fast: Group

    @property
    def by_page_faults(self) -> bool:
        """Whether the slow processes have more page faults, which an allocator decides."""
        slow, fast = self.slow.faults_per_step, self.fast.faults_per_step
        return slow is not None and fast is not None and slow > MORE_FAULTS * fast and slow > 1


def of_row(record: Record, records: Sequence[Record]) -> list[Groups]:
    """The throughputs in which a row's processes fall into groups. Each process is seen against the other rows of its
    round: a slow period of the machine makes no groups."""
    found = []
    for figure in record.figures:
        if figure.name != "throughput" or len(figure.samples) < 2 * FEWEST:
            continue
        relative = _relative(figure, [other for other in records if other is not record])
        split = split_at_gap(relative) if relative else None
        if split is not None:
            low, high = ([figure.samples[i] for i in part] for part in split)
            found.append(Groups(figure, _group(figure, low), _group(figure, high)))
    return found


def split_at_gap(values: Sequence[float]) -> tuple[list[int], list[int]] | None:
    """The places of the low and of the high values, if a wide gap parts them; None if not."""
    order = sorted(range(len(values)), key=lambda place: values[place])
    logs = [math.log(values[place]) for place in order]
    gaps = [(logs[i] - logs[i - 1], i) for i in range(FEWEST, len(logs) - FEWEST + 1)]
    gap, at = max(gaps, default=(0.0, 0))
    widest = max(logs[at - 1] - logs[0], logs[-1] - logs[at]) if at else math.inf
    if gap < LEAST_GAP or gap < GAP_OVER_RANGE * widest:
        return None
    return sorted(order[:at]), sorted(order[at:])


def _relative(figure: Figure, others: Sequence[Record]) -> list[float]:
    """A figure's samples over the geometric mean of the other rows' in the same round; empty if there are none."""
    peers: dict[int, list[float]] = {}
    for other in others:
        for same in other.figures:
            if same.key == figure.key:
                for sample in same.samples:
                    peers.setdefault(sample.round, []).append(sample.value)
    if any(sample.round not in peers for sample in figure.samples):
        return []
    return [sample.value / statistics.geometric_mean(peers[sample.round]) for sample in figure.samples]


def _group(figure: Figure, samples: Sequence[Sample]) -> Group:
    value = statistics.geometric_mean([sample.value for sample in samples])
    part = figure.model_copy(update={"samples": list(samples)})
    return Group(tuple(sample.round for sample in samples), value, part.faults_per_step)
