"""What most readers came for: one question, one sentence. Ties are called ties, single processes hints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.analysis import equivalence
from bench.analysis.ratios import LOWER_IS_BETTER, between
from bench.records.record import Figure, Record, Run, label
from reports.content.cells import FORMATS, spread

MEMORY = "peak_rss"
LESS_IS_BETTER = LOWER_IS_BETTER | {MEMORY}


@dataclass(frozen=True)
class Question:
    """``Fastest to train``, and the figure that answers it."""

    asked: str
    name: str
    task: str
    boundary: str | None
    unit: str


QUESTIONS = (
    Question("Fastest to train", "throughput", "train", "end-to-end", "images/s"),
    Question("Fastest in bulk inference", "throughput", "infer", "end-to-end", "images/s"),
    Question("Fastest to serve", "latency_p50", "infer", "end-to-end", "ms (p50)"),
    Question("Least memory to train", MEMORY, "train", None, "MB"),
    Question("Least memory to serve", MEMORY, "infer", None, "MB"),
)


@dataclass(frozen=True)
class Answer:
    """A question with its answer; ``settled`` where an interval bears it out."""

    question: str
    sentence: str
    settled: bool


@dataclass(frozen=True)
class _Rival:
    """A comparable row with its best figure over the batch sizes."""

    name: str
    figure: Figure

    @property
    def value(self) -> float:
        return self.figure.value or 0.0


def of(run: Run) -> list[Answer]:
    """Of every question that at least two comparable rows answer."""
    speeds = [answer for question in QUESTIONS if (answer := _answer(run.records, question)) is not None]
    accuracy = _accuracy(run)
    return speeds if accuracy is None else [*speeds, accuracy]


def _answer(records: Sequence[Record], question: Question) -> Answer | None:
    lower = question.name in LESS_IS_BETTER
    rivals = _rivals(records, question, lower)
    if len(rivals) < 2:
        return None
    sizes = {rival.figure.batch_size for rival in rivals}
    size = rivals[0].figure.batch_size
    asked = question.asked if len(sizes) > 1 or size is None else f"{question.asked} at batch {size}"
    names = {rival.name: rival.name if len(sizes) == 1 else f"{rival.name} (batch {rival.figure.batch_size})"
             for rival in rivals}  # fmt: skip
    best, *others = rivals
    value = f"{FORMATS[question.name](best.value)} {question.unit}{spread(best.figure)}"
    ratios = [between(*((other.figure, best.figure) if lower else (best.figure, other.figure))) for other in others]
    apart = [(names[other.name], ratio) for other, ratio in zip(others, ratios, strict=True) if ratio is not None]
    if not apart:
        return None
    tied = [name for name, ratio in apart if ratio.low is not None and ratio.low <= 1]
    if tied:
        told = f"a tie of {names[best.name]} and {', '.join(tied)}: the intervals of their ratios hold 1"
        return Answer(asked, f"{told}; {names[best.name]} has {value}.", settled=False)
    name, ratio = apart[0]
    by = "less than" if question.name == MEMORY else "ahead of"
    if ratio.low is None or ratio.high is None:
        told = f"{names[best.name]}, {value}, {ratio.value:.3g} times {by} {name}"
        return Answer(asked, f"{told}; one process, no interval: a hint only.", settled=False)
    times = f"{ratio.value:.3g} times [{ratio.low:.3g}, {ratio.high:.3g}]"
    return Answer(asked, f"{names[best.name]}, {value}, {times} {by} {name}.", settled=True)


def _rivals(records: Sequence[Record], question: Question, lower: bool) -> list[_Rival]:
    """The best first."""
    jobs, found = [record.job for record in records], []
    place = (question.name, question.task, question.boundary)
    for record in records:
        figures = [f for f in record.figures if (f.name, f.task, f.boundary) == place and f.value]
        if record.comparable and figures:
            best = (min if lower else max)(figures, key=lambda figure: figure.value or 0.0)
            found.append(_Rival(label(record.job, jobs), best))
    return sorted(found, key=lambda rival: rival.value, reverse=not lower)


def _accuracy(run: Run) -> Answer | None:
    """What the test of equivalence says of every pair of trained rows, in one sentence."""
    jobs, asked = [record.job for record in run.records], "Same accuracy"
    pairs = equivalence.of(run.records, run.accuracy_margin)
    if not pairs:
        return None
    verdicts = {
        kind: [f"{label(a.job, jobs)} and {label(b.job, jobs)} ({100 * found.difference:+.2f} points)"
               for a, b, found in pairs if found.kind == kind]
        for kind in ("different", "inconclusive", "equivalent")
    }  # fmt: skip
    words = {"different": "no", "inconclusive": "not settled", "equivalent": "yes"}
    parts = [f"{words[kind]}: {', '.join(told)}" for kind, told in verdicts.items() if told]
    within = f"within {100 * run.accuracy_margin:g} points over n = {max(found.n for _, _, found in pairs)} seeds"
    return Answer(f"{asked} {within}", "; ".join(parts) + ".", settled=not verdicts["inconclusive"])
