"""The definitions of all metrics and terms: the last part of every report, and of docs/metrics.md."""

from __future__ import annotations

from bench.records.metrics import METRICS, Metric


def definitions() -> dict[str, str]:
    """The definitions by name: first all metrics, then all terms."""
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
    """The stored unit, and the unit in tables if it is another one."""
    shown = metric.quantity.shown_unit
    return metric.unit if shown in ("", metric.unit) else f"{metric.unit} (in tables {shown})"


def direction(metric: Metric) -> str:
    """Which direction is better: ``lower is better``."""
    return "neither direction is better" if metric.direction is None else f"{metric.direction} is better"


def interval(metric: Metric) -> str:
    """``95%, student-t over seeds``, or ``none``."""
    return "none" if metric.interval is None else f"{100 * (metric.confidence or 0):g}%, {metric.interval}"


def margin(metric: Metric) -> str:
    """The default margin of the gate: ``0.5%`` or ``0.5 points``."""
    if metric.margin is None:
        return "not judged"
    return f"{100 * metric.margin:g}" + (" points" if metric.quantity.absolute else "%")


TERMS = {
    "row": "one backend with its device, precision and mode; for a runtime also the framework whose exported model it"
    " runs. A row is one line of the tables.",
    "round": "one fresh worker process of every row. The workers of a round are alive together, as far as memory"
    " allows, and are measured in turns.",
    "slice": "four steps, clamped to 60 to 150 ms (one step if it takes longer; of an input pipeline half a second or"
    " more), between two fences (device synchronized). The slices of live workers alternate; only one worker runs at"
    " a time.",
    "pair": "bench check only: two fresh workers of one row, alive together, one in the base environment and one in the"
    " present one. Their slices alternate.",
    "n/m": "not measured; the note with the same letter gives the reason.",
    "end-to-end": "from images in host memory (N, H, W, C) to logits in host memory: layout, copies and model. For"
    " training: from images and labels in host memory to the update.",
    "device": "inputs are already on the device in the framework's own layout, and results stay there. On a CPU the"
    " difference to end-to-end is the copies and the layout.",
    "± and n": "half-width of the 95% interval of the geometric mean over n fresh processes (Student's t on"
    " logarithms), as a percentage. With n = 1 there is no interval. Of latencies: of the median over processes,"
    " between order statistics (Conover 1999), since their distribution has a long tail; it takes six processes. With"
    " fewer, p50 has Student's, p90 and p99 have none.",
    "groups": "the processes of a row fall into two, at least two in each, if their throughputs (over the geometric"
    " mean of the other rows' in the same round) leave a gap of at least 10% and of five times the range of either.",
    "× fastest": "ratio to the fastest comparable row. In each turn of a round every worker runs one slice; the ratio"
    " of a round is the median over its turns of the ratio of two slices that follow one another (for tail latencies"
    " and starts: the ratio of the two processes' values). The ratio shown is the geometric mean over rounds (for tail"
    " latencies the median) with its 95% interval. Throughput below 1 and time above 1 are slower. A slow period of the"
    " machine affects both slices of a turn. So this ratio can differ from the ratio of the two values, and its"
    " interval is narrower.",
    "warm-up": "steps before timing, until the step times are steady by MSER-5 (White 1997; White, Cobb & Spratt 2000):"
    " the cut that minimizes the standard error of the remaining steps lies in the first half. At least 3 steps and"
    " 0.2 s, at most 2 s. Where the number of unsteady steps is known, from the row's first process or from the other"
    " boundary, these, and 3 steps and 0.05 s more.",
    "(!) disturbed": "more than half of the slices of one process and metric were above a limit"
    " (bench/machine/slice_noise.py): steal, other processes on its cores, waiting for a core, pages read from disk,"
    " falling clocks. Slices above a limit are marked and measured again (at most as many more as there are slices)."
    " Marked slices count only if no others are left. The record keeps all slices.",
    "steal, others, waited": "steal and others are shares of the CPU time of the row's cores during its slices: taken"
    " by the hypervisor; used by other processes and interrupts. waited is a share of the time in which the worker's"
    " own threads were running or ready to run: the share in which they had no core.",
    "page faults per step": "minor and major page faults of the worker's process in its slices, divided by the steps in"
    " them.",
    "same accuracy": "two one-sided t tests (Schuirmann 1987) over paired seeds: the 90% interval of the mean"
    " difference lies within the margin. DIFFERENT: it lies entirely outside. Inconclusive: neither.",
    "comparable": "every check of the parity certificate passed: the row does the same computation as the float64"
    " reference, within the tolerances shown.",
}
"""The definitions of the terms in reports, by term."""
