"""The most arithmetic that a row's hardware can do: a step that is faster did not do the model's work.

An upper bound that needs no measurement: it holds on every machine, and sees only what is impossible.
"""

from __future__ import annotations

from backends.model import ModelSpec
from bench.worker.protocol import Job, TimedMetric

CORE = 64 * 6e9
"""FLOP/s of a CPU core in float32: two fused multiply-adds of 16 values per cycle (AVX-512), at 6 GHz."""
GPU = 5e15
"""FLOP/s of any one GPU in any precision."""
LOWER_PRECISION = 64
"""How many times faster a core is in bfloat16, float16 or int8, with tiles of a matrix (AMX)."""
TRAINING = 2
"""FLOPs of a training step over those of inference, at least: forward, and backward to the weights."""


def least_seconds(model: ModelSpec, job: Job, metric: TimedMetric) -> float:
    """The least seconds of a step: its FLOPs over the rate that no hardware of this kind exceeds. A batch of an input
    pipeline has no FLOPs."""
    if metric.task == "input" and not metric.trains:
        return 0.0  # it computes nothing of the model
    flops = model.flops * metric.batch_size * (TRAINING if metric.trains else 1)
    if job.device != "cpu":
        return flops / (GPU * (job.processes or 1))
    return flops / (job.all_threads * CORE * (1 if job.precision in ("fp32", "fp64") else LOWER_PRECISION))


def why_impossible(model: ModelSpec, job: Job, metric: TimedMetric, step_seconds: float) -> str:
    """Why a step cannot be as fast as it was seen to be; empty if it can."""
    least = least_seconds(model, job, metric)
    if step_seconds >= least:
        return ""
    gpus = "one GPU" if job.processes in (None, 1) else f"{job.processes} GPUs"
    where = f"{job.all_threads} threads" if job.device == "cpu" else gpus
    return (
        f"self-check impossible: {step_seconds:.3g} s for a step of {metric.task} at batch {metric.batch_size};"
        f" {where} cannot do its FLOPs in less than {least:.3g} s: it is not done when it is said to end"
    )
