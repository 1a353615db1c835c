"""Outputs of steps that were timed, held against the float64 reference with the row's own weights.

The parent draws the inputs' seed just before a slice, asks for outputs when the clock has stopped, and computes what
they must be in its own memory, from its own copy of the images: nothing of it is in a worker's reach.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

import backends
from backends.base import Images
from backends.model import ModelSpec, Weights
from backends.reference import Network
from bench.runner.judges.result import Result, relative_l2_of_all
from bench.runner.judges.tolerances import adapter_tolerances, add_origin, tolerance
from bench.runner.judges.training_steps import are_of
from bench.runner.plan import Row
from bench.runner.worker_process import WorkerError
from bench.values import Missing
from bench.worker.protocol import TimedMetric
from bench.worker.timed_inputs import Draw

if TYPE_CHECKING:
    from bench.runner.interleaving import Kept, MeasuredRound, SliceReading
    from bench.runner.load import Served

Logits: TypeAlias = npt.NDArray[np.float64]
Pixels: TypeAlias = Callable[[npt.NDArray[np.int64]], Images]
"""A function from places in a split to its normalized images."""
NAME, LOGITS_NAME = "timed_outputs", "test_logits"
SLICES_CHECKED = 2
"""Slices of a metric in a round whose outputs are computed anew, drawn when all are done."""
ROWS, FLOPS = 8, 2e9
"""Rows of an output that are asked for: so many, and fewer of a large model (all of them in about so many FLOPs)."""


def rows_asked(model: ModelSpec, batch_size: int) -> tuple[int, ...]:
    """Random rows of a batch."""
    count = max(1, min(ROWS, batch_size, int(FLOPS / max(model.flops, 1))))
    return tuple(sorted(secrets.SystemRandom().sample(range(batch_size), count)))


@dataclass
class TimedOutputs:
    """Judges the outputs of a run's rows. ``images``: the sample that timed inputs are drawn from, (N, H, W, C)."""

    model: ModelSpec
    images: Images
    _networks: dict[str, Network] = field(default_factory=dict)
    _by_digest: dict[str, Network] = field(default_factory=dict)
    """Rows that are not trained have the same weights: they are held once."""

    def keep_weights(self, fit_id: str, weights: Weights) -> None:
        """The weights that the rows of this training compute with.

        Raises:
            WorkerError: they are not the model's.
        """
        if not are_of(self.model, weights):
            raise WorkerError("failed", "the trained weights do not have the names and shapes of the model's")
        digest = hashlib.sha256()
        for name in sorted(weights):
            digest.update(np.ascontiguousarray(weights[name]).tobytes())
        key = digest.hexdigest()
        if key not in self._by_digest:
            self._by_digest[key] = Network(self.model, weights)
        self._networks[fit_id] = self._by_digest[key]

    def judge(self, row: Row, fit_id: str, measured: MeasuredRound) -> Result | Missing:
        """The error of a round's outputs of inference, relative as the certificate's logits: of the worst metric."""
        network, errors, count = self._networks.get(fit_id), dict[str, float](), 0
        if network is None:
            return Missing("the weights are not known")
        for readings in measured.metrics:
            metric = readings.metric
            pairs = [pair for one in chosen(readings.slices) for pair in self._pairs(network, metric, one)]
            if metric.task == "infer" and pairs:
                count += sum(len(want) for _, want in pairs)
                errors[f"{metric.name} {metric.boundary}, batch {metric.batch_size}"] = relative_l2_of_all(pairs)
        if pairs := [self._served(network, test.served) for test in measured.load if test.served is not None]:
            count += sum(len(want) for _, want in pairs)
            errors["tests under load"] = relative_l2_of_all(pairs)
        if not count:
            return Missing("no outputs were kept")
        worst = max(errors, key=lambda place: errors[place])
        return self.result(NAME, row, errors[worst], f"{count} outputs of timed steps; worst in {worst}")

    def judge_logits(
        self, row: Row, weights: Weights | None, logits: npt.NDArray[Any], images: Pixels
    ) -> Result | Missing:
        """The error of a row's logits on the test split, of some images that are drawn now: so they are of the weights
        that are timed. ``images``: a function from places to normalized images; ``weights`` None: those of its source.
        """
        network = self._networks.get(row.source.fit_id if row.source else row.fit_id)
        if weights is not None:
            network = Network(self.model, weights)
        if network is None:
            return Missing("the weights are not known")
        places = np.asarray(rows_asked(self.model, len(logits)))
        error = relative_l2_of_all([(logits[places], network.logits(images(places)))])
        return self.result(LOGITS_NAME, row, error, f"{len(places)} images of the test split")

    def result(self, name: str, row: Row, error: float, note: str) -> Result:
        """A check with the tolerance of a certificate's logits.

        Raises:
            Unsupported: the row's precision has none.
        """
        check = "logits" if row.source is None else "logits_of_source"
        stated = adapter_tolerances(backends.describe(row.job.backend), row.job.precision)
        allowed = tolerance(row.job.precision, row.job.device, check, self.model.normalizes, stated)
        return Result(name, error, allowed, add_origin(note, stated, check))

    def _pairs(self, network: Network, metric: TimedMetric, kept: Kept) -> list[tuple[Logits, Logits]]:
        """What the worker's steps made, and what they should have."""
        outputs, rows = kept.outputs, np.asarray(kept.asked.rows)
        draw = Draw.of(kept.seed, len(self.images), metric.batch_size, outputs.count)
        return [
            (np.asarray(values), network.logits(draw.batch(self.images, batch, rows)))
            for batch, values in zip(outputs.batches, outputs.values, strict=True)
        ]

    def _served(self, network: Network, served: Served) -> tuple[Logits, Logits]:
        """What was answered under load, and what should have been."""
        rows = np.asarray(served.outputs.steps)
        batch = Draw.of(served.seed, len(self.images), served.drawn, 1).batch(self.images, 0, rows)
        return np.asarray(served.outputs.values[0]), network.logits(batch)


def chosen(slices: list[SliceReading]) -> list[Kept]:
    """Slices whose outputs are judged."""
    known = [reading.kept for reading in slices if reading.kept is not None and reading.kept.outputs.values]
    return secrets.SystemRandom().sample(known, min(SLICES_CHECKED, len(known)))
