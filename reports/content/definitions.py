"""What every metric and every term means: the text under each report, and docs/metrics.md."""

from __future__ import annotations

from bench.records.metrics import METRICS, Metric


def definitions() -> dict[str, str]:
    """Of every metric by its name, then of every term."""
    return {name: metric_definition(metric) for name, metric in METRICS.items()} | TERMS


def metric_definition(metric: Metric) -> str:
    """``latency p50, in seconds; lower is better. Median of ... Interval: ...``"""
    parts = [f"{metric.title}, {unit(metric)}; {direction(metric)}.", metric.definition]
    if metric.interval is not None:
        parts.append(f"Interval: {interval(metric)}.")
    if metric.gate is not None:
        parts.append(f"bench check calls it {metric.gate}, margin {margin(metric)}.")
    return " ".join(parts)


def unit(metric: Metric) -> str:
    """The stored unit, and the one in tables where it is another."""
    shown = metric.quantity.shown_unit
    return metric.unit if shown in ("", metric.unit) else f"{metric.unit} (in tables {shown})"


def direction(metric: Metric) -> str:
    """Which values are better."""
    return "neither direction is better" if metric.direction is None else f"{metric.direction} is better"


def interval(metric: Metric) -> str:
    """``95%, student-t over seeds``, or that there is none."""
    return "none" if metric.interval is None else f"{100 * (metric.confidence or 0):g}%, {metric.interval}"


def margin(metric: Metric) -> str:
    """The gate's default, ``0.5%`` or ``0.5 points``."""
    if metric.margin is None:
        return "not judged"
    return f"{100 * metric.margin:g}" + (" points" if metric.quantity.absolute else "%")


TERMS = {
    "end-to-end": "from images in host memory (N, H, W, C) to logits in host memory: layout, copies, model. For"
    " training: from host images and labels to the update.",
    "device": "inputs already on the device in the framework's own layout, results left there; on a CPU the copies"
    " and layout are what differs.",
    "± and n": "half-width of the 95% interval of the geometric mean over n fresh processes (Student t on"
    " logarithms), as a percentage; with n = 1 there is none.",
    "× fastest": "ratio to the fastest comparable row: per round the median over the turns, of slices that followed"
    " one another (of tails and starts, the ratio of the two processes' values); over rounds the geometric mean with"
    " its 95% interval. Throughput below 1 and time above 1 are slower. A slow stretch of the machine falls on both"
    " slices of a turn: so it may differ from the ratio of the two values, and is narrower.",
    "warm-up": "steps until their times are steady by MSER-5 (White 1997; White, Cobb & Spratt 2000): the cut that"
    " minimizes the standard error of the rest lies in the first half. At least 3 steps and 0.2 s, at most 2 s.",
    "slice": "four steps, at least 60 and at most 150 ms of them (one step if it takes longer), between two fences;"
    " slices of live workers alternate, and only one runs.",
    "(!) disturbed": "more than half of one process' slices of a metric were above a limit"
    " (bench/machine/slice_noise.py): steal, other processes on its cores, waiting for a core, pages read from disk,"
    " falling clocks. Marked slices are measured again (up to as many more as there are slices) and count only where"
    " nothing else is left; all are in the record.",
    "steal, others, waited": "shares of the CPU time of the row's cores during its slices: taken by the hypervisor;"
    " used by other processes and interrupts. waited: share of the time in which the worker's own threads ran or were"
    " ready, in which they had no core.",
    "page faults per step": "minor and major faults of the worker's process in its slices, over the steps in them.",
    "same accuracy": "two one-sided t tests (Schuirmann 1987) over paired seeds: the 90% interval of the mean"
    " difference lies within the margin. DIFFERENT: it lies wholly outside; inconclusive: neither.",
    "comparable": "every check of the parity certificate passed: the row does the same computation as the float64"
    " reference, within the tolerance shown.",
    "n/m": "not measured, for the reason given in the note of that letter.",
}
