"""Outputs of a user's file that were timed, beside those of the unoptimized runtime for the same inputs.

A worker that times nothing computes those, after the round: nobody foresees which steps and elements are asked for. The
file's certificate has held the unoptimized runtime against ``onnx.reference``.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.runner.judges.result import Result, relative_l2
from bench.runner.judges.timed_outputs import NAME, chosen
from bench.worker.file_outputs import LARGEST
from bench.worker.protocol import Drawn, Recomputed

if TYPE_CHECKING:
    from bench.runner.interleaving import MeasuredRound

SECONDS = 5.0
"""The time for the outputs of a round; at least one is computed."""
WHOLE_SHARE = 0.1
"""Share of whole numbers, such as places of boxes, that rounding may decide otherwise in a correct runtime."""
Elements = tuple[float, ...]


def timed(measured: MeasuredRound) -> list[tuple[Drawn, Elements, str]]:
    """Batches of steps that were timed, in a random order, the elements of their outputs, and the metric's name."""
    found = []
    for readings in measured.metrics:
        metric = readings.metric
        place = f"{metric.name} {metric.boundary}, batch {metric.batch_size}"
        for kept in chosen(readings.slices):
            outputs, seed = kept.outputs, kept.asked.elements
            for batch, values in zip(outputs.batches, outputs.values, strict=True):
                if seed is not None and values:
                    drawn = Drawn(
                        seed=kept.seed, size=metric.batch_size, count=outputs.count, batch=batch, elements=seed
                    )
                    found.append((drawn, values[0], place))
    secrets.SystemRandom().shuffle(found)
    return found


def judge(found: Sequence[tuple[Drawn, Elements, str]], recomputed: Recomputed, allowed: float) -> Result | None:
    """The worst error of all outputs that were computed anew; None: none was."""
    pairs = zip(found, recomputed.values, strict=False)
    errors = [(error_of(got, want, allowed), place) for (_, got, place), want in pairs]
    if not errors:
        return None
    worst, place = max(errors)
    return Result(NAME, worst, allowed, f"{len(errors)} outputs of timed steps; worst in {place}")


def error_of(got: Elements, want: Elements, allowed: float) -> float:
    """The relative error of elements (``file_outputs.elements``). Of whole numbers: the share that differs, scaled so
    that ``WHOLE_SHARE`` is what is allowed. Infinite if other elements are not finite."""
    if want[1]:
        if got[:2] != want[:2] or len(got) != len(want):
            fewer, more = sorted((got[0], want[0]))
            return allowed * (1 - fewer / more) / WHOLE_SHARE if got[1] and more else float("inf")
        unequal = float(np.mean(np.asarray(got[2:]) != np.asarray(want[2:]))) if len(want) > 2 else 0.0
        return allowed * unequal / WHOLE_SHARE
    if got[:2] != want[:2] or len(got) != len(want):
        return float("inf")
    ours, theirs = np.asarray(got[2:]), np.asarray(want[2:])
    finite = theirs != LARGEST
    if not np.array_equal(finite, ours != LARGEST):
        return float("inf")
    return relative_l2(ours[finite], theirs[finite])
