"""What stands below the tables: how the rows were run, what is to be doubted, where they differ by nature."""

from __future__ import annotations

import math

from bench.analysis.ratios import widest
from bench.records.metrics import decisive
from bench.records.record import Ratio, Record, Run, label
from reports.content import modes
from reports.content.cells import percent, process_count

LEAST_ARENA_GAIN = 1.05
"""Gain of the arena allocator from which on the report tells of it."""


def lines(run: Run) -> list[str]:
    """What a reader of the tables must know."""
    told = [*_conditions(run), *modes.lines(run), *_doubts(run)]
    counted = process_count(run.records)
    if counted == "n = 1 process":
        told.append("no intervals: one process has no spread between processes; --rounds 3 gives one")
    told += form_differences(run)
    for record in run.records:
        if record.data.note and f"data: {record.data.note}" not in told:
            told.append(f"data: {record.data.note}")
    return told


def _conditions(run: Run) -> list[str]:
    """How the rows were run, where it is alike for all; and what a precision target came to."""
    ways = {(r.job.profile, r.job.threads, tuple(r.job.cpus or ()), r.job.allocator) for r in run.records}
    lines = []
    for profile, threads, cpus, allocator in sorted(ways):
        pinned = f"pinned to CPU {','.join(map(str, cpus))}" if cpus else "not pinned"
        lines.append(f"profile {profile}: {threads} thread{'s' * (threads > 1)}, {pinned}, allocator {allocator}")
    if run.precision_target is not None:
        lines.append(_precision(run, run.precision_target))
    return lines


def _precision(run: Run, target: float) -> str:
    reached = widest(run.records)
    after = f"after {run.rounds} rounds"
    if reached is None:
        return f"precision target ±{percent(target)}: no ratio to narrow"
    width, whose = reached
    shown = "no interval yet" if math.isinf(width) else f"±{percent(width)}"
    if width <= target:
        return f"precision target ±{percent(target)} reached {after}: widest ratio {shown} ({whose})"
    spent = f"{after}, budget {run.budget or 0:g} s"
    return f"precision target ±{percent(target)} NOT reached {spent}: widest ratio {shown} ({whose})"


def _doubts(run: Run) -> list[str]:
    """Disturbed rows, metrics that never got steady, and allocations that cost."""
    lines = []
    jobs = [record.job for record in run.records]
    for record in run.records:
        name = label(record.job, jobs)
        told = record.disturbance
        if told.disturbed:
            lines.append(f"(!) {name} was disturbed: {told.reason}; {told.marked} of {told.slices} slices are marked")
        elif told.disturbed is None and told.slices:
            lines.append(f"{name}: disturbance {told.reason}")
        unsteady = [f for f in record.figures if any(sample.steady is False for sample in f.samples)]
        if unsteady:
            kept = [f for f in unsteady if f.name in decisive()]  # percentiles share the warm-up of the first
            what = ", ".join(f"{f.task} {f.name.partition('_')[0]} {f.boundary}" for f in kept)
            lines.append(f"{name} never got steady in warm-up: {what}")
        for ratio in record.arena:
            if ratio.value > LEAST_ARENA_GAIN and (ratio.low is None or ratio.low > 1):
                lines.append(_arena(name, record, ratio))
    return lines


def _arena(name: str, record: Record, ratio: Ratio) -> str:
    figure = record.figure(ratio.name, ratio.task, ratio.boundary, ratio.batch_size)
    per_step = None if figure is None else figure.faults_per_step
    faults = "" if per_step is None else f"; {per_step:,.0f} page faults per step without"
    interval = f"95% interval {ratio.low:.3g} to {ratio.high:.3g}, n = {ratio.n}" if ratio.low else "n = 1, no interval"
    bounds = f"{ratio.value:.3g} times, {interval}"
    gain = f"{100 * (ratio.value - 1):.0f}% higher with --allocator arena"
    return f"{name}: {ratio.task} {ratio.name} {ratio.boundary} is {gain} ({bounds}{faults})"


FORMS = {
    "adam_form": "Adam's epsilon enters differently ({who}): with the same settings their losses differ by {apart}",
    "momentum_form": "the rate enters momentum differently ({who}): as it changes their losses differ by {apart}",
    "variance": "batch normalization keeps another variance ({who}): the running ones differ by {apart}",
}
"""Detail of a check that names the published form which a backend follows, to what is said where rows differ in it."""

RELATIVE = "(relative) within 5 steps"
"""What ``off_other_form`` is in records that do not say it: a share of the losses themselves."""


def form_differences(run: Run) -> list[str]:
    """A sentence for everything that rows of a run do in different published forms."""
    jobs, told = [record.job for record in run.records], []
    for detail, sentence in FORMS.items():
        followed: dict[str, list[str]] = {}
        apart, of = 0.0, RELATIVE
        for record in run.records:
            for check in record.parity.checks if record.parity else []:
                if detail in check.details:
                    followed.setdefault(check.details[detail], []).append(label(record.job, jobs))
                    apart = max(apart, check.details["off_other_form"])
                    of = check.details.get("of", RELATIVE)
        if len(followed) > 1:
            who = "; ".join(f"{form}: {', '.join(names)}" for form, names in sorted(followed.items()))
            said = sentence.format(who=who, apart=f"up to {apart:.1e} {of}")
            told.append(f"{said}; each agrees with its own form (see parity)")
    return told
