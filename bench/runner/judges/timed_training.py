"""Training steps that follow the timed ones: when the last slice of a training metric is over, the worker is asked,
unannounced, for a few more steps on inputs that it has not seen, with the weights before and after each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backends.base import Images, Labels, Training
from backends.model import ModelSpec, Weights
from bench.array_files import read_arrays
from bench.runner.judges.result import Result
from bench.runner.judges.training_steps import BACKWARD, StepJudge, TrainingSteps
from bench.worker.group import parts_of, processes_of, rank_folder
from bench.worker.protocol import Close, Closed, Job
from bench.worker.reference_outputs import LONG_PEAKS, bytes_needed, whole_parts
from bench.worker.timed_inputs import Draw

NAME = "timed_training"
STEPS = 3
FLOPS = 2e10
"""The reference computes a gradient of as many images as fit into so many FLOPs."""
MEMORY = 1e9
"""Bytes that it may take for that."""


def images_of_a_step(model: ModelSpec, batch_size: int) -> int:
    """The batch size of the steps: that of the timed ones, or what the reference can afford."""
    affordable = min(FLOPS / (BACKWARD * max(model.flops, 1)), MEMORY / bytes_needed(model, 1))
    return max(1, whole_parts(min(batch_size, int(affordable))))


def _check_equal(request: Close, processes: int) -> None:
    """Raise ValueError if processes that train together hold other weights than the first."""
    first = read_arrays(request.out)
    for rank in range(1, processes):
        other = read_arrays(rank_folder(request.out.parent, rank) / request.out.name)
        if set(other) != set(first) or any(not np.array_equal(first[name], other[name]) for name in first):
            raise ValueError(f"process {rank} of {processes} holds other weights than process 0")


@dataclass(frozen=True)
class TimedTraining:
    """Judges the closing steps of a run's rows. ``images``, ``labels``: the sample that their inputs are drawn from."""

    model: ModelSpec
    training: Training
    images: Images
    labels: Labels

    def judge(self, job: Job, request: Close, closed: Closed, earlier: int) -> Result:
        """The worst of all errors, each as a share of the largest allowed. ``earlier``: how many steps the worker's
        optimizer has made before these, at least."""
        precision = job.precision
        judge = StepJudge(self.model, self.training, parts_of(job, self.model.normalizes))
        try:
            steps = self._steps(request, closed, earlier)
            _check_equal(request, processes_of(job))
        except (ValueError, IndexError, OSError) as error:
            return Result(NAME, float("inf"), 1, f"its steps cannot be read: {error}")
        if judge.incomplete(steps):
            return Result(NAME, float("inf"), 1, "losses or weights are missing")
        shares = judge.shares(precision, steps, () if judge.has_own_masks else range(1, STEPS))
        shares |= judge.drops_nothing(precision, steps)
        worst = max(shares, key=lambda name: shares[name])
        note = f"{STEPS} steps after the timed ones, on {request.size} images each; worst: {worst}"
        return Result(NAME, shares[worst], 1, note)

    @property
    def rate(self) -> float:
        """The learning rate of the steps: one that moves float32 weights by many of their digits."""
        return LONG_PEAKS[self.training.optimizer.name]

    def _steps(self, request: Close, closed: Closed, earlier: int) -> TrainingSteps:
        """From the worker's answer and the file that it wrote."""
        weights: list[Weights] = [{} for _ in range(request.steps + 1)]
        for name, array in read_arrays(request.out).items():
            number, _, weight = name.partition(" ")
            weights[int(number)][weight] = array
        draw = Draw.of(request.seed, len(self.images), request.size, request.steps)
        batches = [(draw.batch(self.images, step), draw.labels(self.labels, step)) for step in range(request.steps)]
        return TrainingSteps(batches, [request.rate] * request.steps, earlier, closed.losses, weights)
