"""The notes below the tables: how the rows were run, which values are doubtful, where frameworks differ by design."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.analysis import groups
from bench.analysis.ratios import widest
from bench.machine.turn import HELD
from bench.records.metrics import METRICS, decisive
from bench.records.record import Ratio, Record, Resumption, Run, label
from reports.content import modes, roofs
from reports.content.cells import percent, process_count

GLOSSARY = (
    "row: one backend with its settings; n: fresh processes of a row, one per round; slice: some steps, rows in"
    " turns; n/m: not measured"
)
"""The words of the tables. The definitions of the full report are in ``reports.content.definitions``."""
LEAST_ARENA_GAIN = 1.05
"""The smallest gain of the arena allocator that is reported."""


def lines(run: Run) -> list[str]:
    """All notes that a reader of the tables must know."""
    notes = [*[GLOSSARY] * bool(run.records), *_conditions(run), *modes.lines(run), *_doubts(run)]
    counted = process_count(run.records)
    if counted == "n = 1 process":
        notes.append("no intervals: one process has no spread between processes; --rounds 3 gives one")
    notes += (
        _no_energy(run)
        + _pipelines(run)
        + roofs.lines(run.records)
        + _batches_above_the_data(run)
        + form_differences(run)
        + _all_right(run)
    )
    for record in run.records:
        if record.data.note and f"data: {record.data.note}" not in notes:
            notes.append(f"data: {record.data.note}")
    return notes


def _no_energy(run: Run) -> list[str]:
    """Why no row has an energy."""
    figures = [figure for record in run.records for figure in record.figures if figure.name == "energy"]
    if not figures or any(figure.value is not None for figure in figures):
        return []
    reasons = dict.fromkeys(figure.reason for figure in figures if figure.reason and "visible" in figure.reason)
    return [f"energy: not measured: {reason}" for reason in reasons]


def _pipelines(run: Run) -> list[str]:
    """What the input pipelines are made of, and what they do with which files."""
    texts: dict[str, list[str]] = {}
    for record in run.records:
        if text := record.settings.get("input_pipeline"):
            texts.setdefault(text, []).append(label(record.job, [peer.job for peer in run.records]))
    return [f"input of {', '.join(names)}: {text}" for text, names in texts.items()]


def _conditions(run: Run) -> list[str]:
    """The settings of the rows, and whether the precision target was reached."""
    ways = {(r.job.profile, r.job.threads, tuple(r.job.cpus or ()), r.job.allocator) for r in run.records}
    lines = []
    for profile, threads, cpus, allocator in sorted(ways):
        pinned = f"pinned to CPU {','.join(map(str, cpus))}" if cpus else "not pinned"
        lines.append(f"profile {profile}: {threads} thread{'s' * (threads > 1)}, {pinned}, allocator {allocator}")
    for given in sorted({r.job.environment for r in run.records} - {""}):
        lines.append(f"environment of the workers: {given}")
    if run.precision_target is not None:
        lines.append(_precision(run, run.precision_target))
    elif run.budget is not None:
        took = run.timing.get("wall")
        whole = f", {took:.0f} s in all" if isinstance(took, float) else ""
        lines.append(f"budget {run.budget:.0f} s: {run.rounds} round{'s' * (run.rounds != 1)}{whole}")
    return lines + not_alone(run.timing.get("turn", "")) + went_on(run.resumed, "rounds")


def _all_right(run: Run) -> list[str]:
    """Why a share is exactly one."""
    lines: dict[str, None] = {}
    for record in run.records:
        for name, what in (("accuracy", "the highest logit"), ("top5_accuracy", "one of the five highest logits")):
            figure = record.figure(name)
            if figure is not None and figure.value == 1.0:
                title = METRICS[name].title
                lines[f"{title} 1: the class of all {record.data.test:,} test images is {what}"] = None
    return list(lines)


def went_on(resumed: Sequence[Resumption], unit: str) -> list[str]:
    """When it went on after it had stopped, and what had changed meanwhile; ``unit``: of what is counted."""
    return [
        f"it stopped, and went on {once.at}; {unit} measured until then: {once.rounds}"
        + (f", though {'; '.join(once.changed)}: figures from before and after are mixed" if once.changed else "")
        for once in resumed
    ]


def not_alone(turn: str) -> list[str]:
    """A warning if other timed commands may have run on the machine; ``turn``: empty where it is not recorded."""
    return (
        [] if turn in ("", HELD) else [f"other timed commands on this machine were {turn}: one may have spoiled this"]
    )


def _batches_above_the_data(run: Run) -> list[str]:
    """Batch sizes of which the data set has fewer images."""
    lines: dict[str, None] = {}
    for record in run.records:
        images = record.data.train
        for figure in record.figures:
            if images and figure.batch_size is not None and figure.batch_size > images:
                what = "a training step has them all" if figure.name == "fit" else "timed batches repeat images"
                lines[f"batch {figure.batch_size:,} is more than the {images:,} training images: {what}"] = None
    return list(lines)


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
    """Rows that were disturbed, metrics that never became steady, and rows that the arena allocator makes faster."""
    lines = []
    jobs = [record.job for record in run.records]
    for record in run.records:
        name = label(record.job, jobs)
        noise = record.disturbance
        if noise.disturbed:
            lines.append(
                f"(!) {name} was disturbed: {noise.reason}; {noise.marked} of {noise.slices} slices are marked"
            )
        elif noise.disturbed is None and noise.slices:
            lines.append(f"{name}: disturbance {noise.reason}")
        unsteady = [f for f in record.figures if any(sample.steady is False for sample in f.samples)]
        if unsteady:
            kept = [f for f in unsteady if f.name in decisive()]  # p90 and p99 share the warm-up of p50
            what = ", ".join(f"{f.task} {f.name.partition('_')[0]} {f.boundary}" for f in kept)
            lines.append(f"{name} never got steady in warm-up: {what}")
        lines += [_groups(name, found) for found in groups.of_row(record, run.records)]
        for ratio in record.arena:
            if ratio.value > LEAST_ARENA_GAIN and (ratio.low is None or ratio.low > 1):
                lines.append(_arena(name, record, ratio))
    return lines


def _groups(name: str, found: groups.Groups) -> str:
    figure, metric = found.figure, METRICS[found.figure.name]
    states = []
    for group in (found.slow, found.fast):
        rounds = ", ".join(str(number + 1) for number in group.rounds)
        states.append(f"{metric.with_unit(group.value)} in rounds {rounds}")
    slow, fast = found.slow.faults_per_step, found.fast.faults_per_step
    if found.by_page_faults:
        cause = f"{slow:,.0f} and {fast:,.0f} page faults per step; --allocator arena ends it"
    else:
        cause = "the cause is not known"
    what = f"{figure.task} {metric.title} {figure.boundary}, batch {figure.batch_size}"
    return f"{name}: its processes fall into two groups in {what}: {'; '.join(states)} ({cause})"


def _arena(name: str, record: Record, ratio: Ratio) -> str:
    figure = record.figure(ratio.name, ratio.task, ratio.boundary, ratio.batch_size)
    per_step = None if figure is None else figure.faults_per_step
    faults = "" if per_step is None else f"; {per_step:,.0f} page faults per step without"
    known = ratio.low is not None and ratio.high is not None
    interval = f"95% interval {ratio.low:.3g} to {ratio.high:.3g}" if known else "no interval"
    bounds = f"{ratio.value:.3g} times, {interval}, n = {ratio.n}"
    gain = f"{100 * (ratio.value - 1):.0f}% higher with --allocator arena"
    return f"{name}: {ratio.task} {ratio.name} {ratio.boundary} is {gain} ({bounds}{faults})"


FORMS = {
    "adam_form": "Adam's epsilon enters differently ({who}): with the same settings their losses differ by {apart}",
    "momentum_form": "the learning rate enters momentum differently ({who}): when it changes, their losses differ by"
    " {apart}",
    "variance": "batch normalization keeps different variances ({who}): the running variances differ by {apart}",
}
"""By the detail of a check that names the published form of a backend: the sentence if rows follow different forms."""

RELATIVE = "(relative) within 5 steps"
"""The unit of ``off_other_form`` in older records, which do not state it: a share of the losses themselves."""


def form_differences(run: Run) -> list[str]:
    """One sentence for each computation in which rows of the run follow different published forms."""
    jobs, sentences = [record.job for record in run.records], []
    for detail, sentence in FORMS.items():
        followed: dict[str, list[str]] = {}
        apart, share_of = 0.0, RELATIVE
        for record in run.records:
            for check in record.parity.checks if record.parity else []:
                if detail in check.details:
                    followed.setdefault(check.details[detail], []).append(label(record.job, jobs))
                    apart = max(apart, check.details["off_other_form"])
                    share_of = check.details.get("of", RELATIVE)
        if len(followed) > 1:
            who = "; ".join(f"{form}: {', '.join(names)}" for form, names in sorted(followed.items()))
            difference = sentence.format(who=who, apart=f"up to {apart:.1e} {share_of}")
            sentences.append(f"{difference}; each agrees with its own form (see parity)")
    return sentences
