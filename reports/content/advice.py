"""Advice from the numbers of a run, with the evidence and the command. All rules are in this module.

A rule is a function of the run. No rule reacts to noise: a gain counts only if the whole 95% interval of its ratio is
above ``gains.LEAST_GAIN``. A single process has no interval, so it yields no advice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.analysis import equivalence
from bench.analysis.ratios import ratio_between
from bench.records.record import Figure, Record, Run, label
from bench.values import Measured
from reports.content.footnotes import form_differences
from reports.content.gains import PLACES, clear_gain, comparable, gains, is_clear, row_name, times, usual_modes


@dataclass(frozen=True)
class Advice:
    """``text``: what to do or know. ``evidence``: the values behind it. ``command``: the command to run, or empty."""

    text: str
    evidence: str
    command: str = ""


def apply_rules(run: Run) -> list[Advice]:
    """The advice of all rules, in the order of ``RULES``."""
    return [advice for rule in RULES for advice in rule(run)]


def faster_mode(run: Run) -> Iterator[Advice]:
    """Another mode of the same backend is faster than its default."""
    for usual, other, task, verb, gain in gains(run, "mode"):
        yield Advice(
            f"{other.job.mode} {verb} {gain.value:.2g} times as fast as {usual.job.mode} in {row_name(other.job)}.",
            f"throughput of {task}, end-to-end: {times(gain)}",
            f"bench run --backend {other.job.backend} --mode {other.job.mode}",
        )


def faster_precision(run: Run) -> Iterator[Advice]:
    """A lower precision is faster; its cost in accuracy is stated."""
    for usual, other, task, verb, gain in gains(run, "precision"):
        yield Advice(
            f"{other.job.precision} {verb} {gain.value:.2g} times as fast as {usual.job.precision} in"
            f" {row_name(other.job)}; {_accuracy_beside(usual, other)}.",
            f"throughput of {task}, end-to-end: {times(gain)}",
            f"bench run --backend {other.job.backend} --precision {other.job.precision}",
        )


def exported_model(run: Run) -> Iterator[Advice]:
    """A runtime serves a framework's exported model faster than the framework itself."""
    rows = {(r.job.backend, r.job.source, r.job.precision, r.job.device): r for r in usual_modes(run)}
    for record in rows.values():
        own = rows.get((record.job.source or "", None, record.job.precision, record.job.device))
        if own is None:
            continue
        for name, ahead in (("latency_p50", "at batch 1"), ("throughput", "in bulk")):
            gain = clear_gain(record, own, name, "infer", "end-to-end")
            if gain is not None:
                yield Advice(
                    f"{record.job.backend} serves {record.job.source}'s exported model {gain.value:.2g} times as fast"
                    f" as {record.job.source} {ahead}.",
                    f"{name} of inference, end-to-end: {times(gain)}",
                    f"bench run --backend {record.job.source},{record.job.backend}",
                )


def larger_batch(run: Run) -> Iterator[Advice]:
    """Another batch size of a sweep has a clearly higher throughput than the smallest one."""
    for record in comparable(run):
        for task, boundary, verb in PLACES:
            place = ("throughput", task, boundary)
            figures = [f for f in record.figures if (f.name, f.task, f.boundary) == place and f.value]
            figures.sort(key=lambda figure: figure.batch_size or 0)
            best = max(figures, key=lambda figure: figure.value or 0.0, default=None)
            if best is None or best is figures[0]:
                continue
            gain = ratio_between(best, figures[0])
            if gain is not None and is_clear(gain):
                yield Advice(
                    f"{row_name(record.job)} {verb} fastest at batch {best.batch_size} of those tried, {gain.value:.2g}"
                    f" times as fast as at batch {figures[0].batch_size}.",
                    f"throughput of {task}, {boundary}: {times(gain)}",
                    f"bench run --backend {record.job.backend} --task {task} --batch-size {best.batch_size}",
                )


def arena(run: Run) -> Iterator[Advice]:
    """Page faults slow a row down: the allocator that keeps memory makes it faster."""
    for record in comparable(run):
        for ratio in record.arena:
            gain = Measured(ratio.value, ratio.low, ratio.high, ratio.n)
            if is_clear(gain):
                figure = record.figure(ratio.name, ratio.task, ratio.boundary, ratio.batch_size)
                faults = None if figure is None else figure.faults_per_step
                counted = "" if faults is None else f"; {faults:,.0f} page faults per step without"
                yield Advice(
                    f"page faults cost {row_name(record.job)} {100 * (1 - 1 / ratio.value):.0f}% of its speed in"
                    f" {ratio.task}.",
                    f"{ratio.name} with an allocator that keeps memory: {times(gain)}{counted}",
                    f"bench run --backend {record.job.backend} --allocator arena",
                )


def published_forms(run: Run) -> Iterator[Advice]:
    """Frameworks follow different published forms: the same settings then give different losses."""
    for sentence in form_differences(run):
        yield Advice(sentence[0].upper() + sentence[1:] + ".", "the parity certificate, check by check", "bench report")


def accuracy_not_settled(run: Run) -> Iterator[Advice]:
    """The number of seeds that would settle whether the accuracy is the same."""
    jobs = [record.job for record in run.records]
    for a, b, verdict in equivalence.judge_pairs(run.records, run.accuracy_margin):
        if verdict.kind == "inconclusive" and verdict.seeds_needed is not None:
            yield Advice(
                f"{label(a.job, jobs)} and {label(b.job, jobs)}: {verdict.n} seeds do not settle whether their accuracy"
                f" is the same; about {verdict.seeds_needed} would.",
                f"difference {100 * verdict.difference:+.2f} points, margin {100 * run.accuracy_margin:g} points",
                f"bench run --backend {','.join(dict.fromkeys((a.job.backend, b.job.backend)))}"
                f" --seeds {verdict.seeds_needed}",
            )


def disturbed(run: Run) -> Iterator[Advice]:
    """Other processes disturbed the measurement."""
    jobs = [record.job for record in run.records]
    rows = [label(record.job, jobs) for record in run.records if record.disturbance.disturbed]
    if rows:
        marked = [r.disturbance for r in run.records if r.disturbance.disturbed]
        yield Advice(
            f"{', '.join(rows)}: the machine was not quiet; measure again when it is.",
            "; ".join(dict.fromkeys(disturbance.reason for disturbance in marked)),
            "bench doctor",
        )


def no_interval(run: Run) -> Iterator[Advice]:
    """With one process per row, the spread between processes is unknown."""
    counts = {f.n for r in run.records for f in r.figures if f.name == "throughput" and f.value is not None}
    if counts == {1}:
        yield Advice(
            "One process per row: differences here may be chance.", "n = 1, so no interval", "bench run --rounds 3"
        )


RULES: tuple[Callable[[Run], Iterator[Advice]], ...] = (
    faster_mode,
    faster_precision,
    exported_model,
    larger_batch,
    arena,
    published_forms,
    accuracy_not_settled,
    disturbed,
    no_interval,
)


def _accuracy_beside(usual: Record, other: Record) -> str:
    figures: Sequence[Figure | None] = [usual.figure("accuracy"), other.figure("accuracy")]
    if any(figure is None or figure.value is None for figure in figures):
        return "its accuracy was not measured"
    before, after = (figure.value or 0.0 for figure in figures if figure is not None)
    return f"accuracy {100 * (after - before):+.2f} points ({100 * before:.2f}% to {100 * after:.2f}%)"
