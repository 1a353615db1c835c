"""The most frequent questions about a run, each answered in one sentence.

A tie is called a tie. A result of single processes, which has no interval, is called a hint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.analysis import equivalence
from bench.analysis.ratios import ratio_between
from bench.records.metrics import METRICS, Metric, in_unit
from bench.records.record import Figure, Record, Run, label
from bench.values import Measured
from reports.content.cells import half_width


@dataclass(frozen=True)
class Question:
    """``Fastest to train``, and the metric and task that answer it."""

    text: str
    metric: Metric
    task: str

    @property
    def relation(self) -> str:
        """How the best value relates to the others: ``ahead of``, ``less than``."""
        if self.metric.compared:
            return "ahead of"
        return "less than" if self.metric.lower_is_better else "more than"


@dataclass(frozen=True)
class Answer:
    """A question with its answer. ``settled``: an interval supports the answer."""

    question: str
    sentence: str
    settled: bool


@dataclass(frozen=True)
class _Rival:
    """A comparable row that competes, with its best value over the batch sizes."""

    name: str
    figure: Figure

    @property
    def value(self) -> float:
        return self.figure.value or 0.0


def answer_all(run: Run) -> list[Answer]:
    """The answers to all questions for which at least two comparable rows have values."""
    answers = [answer for question in questions() if (answer := _answer(run.records, question)) is not None]
    accuracy = _accuracy(run)
    return answers if accuracy is None else [*answers, accuracy]


def questions() -> list[Question]:
    """The questions of all metrics."""
    return [Question(text, metric, task) for metric in METRICS.values() for task, text in metric.questions.items()]


def _answer(records: Sequence[Record], question: Question) -> Answer | None:
    rivals = _rivals(records, question)
    if len(rivals) < 2:
        return None
    sizes = {rival.figure.batch_size for rival in rivals}
    size = rivals[0].figure.batch_size
    text = question.text if len(sizes) > 1 or size is None else f"{question.text} at batch {size}"
    names = {rival.name: rival.name if len(sizes) == 1 else f"{rival.name} (batch {rival.figure.batch_size})"
             for rival in rivals}  # fmt: skip
    best, *others = rivals
    value = f"{in_unit(question.metric, best.figure.unit).with_unit(best.value)}{half_width(best.figure)}"
    ratios = [(names[other.name], ratio) for other in others if (ratio := _lead(question, best, other)) is not None]
    if not ratios:
        return None
    tied = [name for name, ratio in ratios if ratio.low is not None and ratio.low <= 1]
    if tied:
        sentence = f"a tie of {names[best.name]} and {', '.join(tied)}: the intervals of their ratios contain 1"
        return Answer(text, f"{sentence}; {names[best.name]} has {value}.", settled=False)
    name, ratio = ratios[0]
    if ratio.low is None or ratio.high is None:
        sentence = f"{names[best.name]}, {value}, {ratio.value:.3g} times {question.relation} {name}"
        return Answer(text, f"{sentence}; one process, no interval: a hint only.", settled=False)
    times = f"{ratio.value:.3g} times [{ratio.low:.3g}, {ratio.high:.3g}]"
    return Answer(text, f"{names[best.name]}, {value}, {times} {question.relation} {name}.", settled=True)


def _lead(question: Question, best: _Rival, other: _Rival) -> Measured | None:
    """By what factor the best is better: 1 or more."""
    if question.metric.lower_is_better:
        return ratio_between(other.figure, best.figure)
    return ratio_between(best.figure, other.figure)


def _rivals(records: Sequence[Record], question: Question) -> list[_Rival]:
    """The rows that compete, the best first. The judge of parity does not compete: nobody chooses between it and the
    rows that it judges."""
    jobs, rivals = [record.job for record in records], []
    lower = question.metric.lower_is_better
    for record in records:
        figures = [
            figure
            for figure in record.figures
            if (figure.name, figure.task) == (question.metric.name, question.task)
            and figure.boundary != "device"
            and figure.value
        ]
        if record.certified and record.contender and figures:
            best = (min if lower else max)(figures, key=lambda figure: figure.value or 0.0)
            rivals.append(_Rival(label(record.job, jobs), best))
    return sorted(rivals, key=lambda rival: rival.value, reverse=not lower)


def _accuracy(run: Run) -> Answer | None:
    """The result of the equivalence test for every pair of trained rows, in one sentence."""
    jobs, text = [record.job for record in run.records], "Same accuracy"
    pairs = equivalence.judge_pairs(run.records, run.accuracy_margin)
    if not pairs:
        return None
    verdicts = {
        kind: [f"{label(a.job, jobs)} and {label(b.job, jobs)} ({100 * verdict.difference:+.2f} points)"
               for a, b, verdict in pairs if verdict.kind == kind]
        for kind in ("different", "inconclusive", "equivalent")
    }  # fmt: skip
    words = {"different": "no", "inconclusive": "not settled", "equivalent": "yes"}
    parts = [f"{words[kind]}: {', '.join(rows)}" for kind, rows in verdicts.items() if rows]
    within = f"within {100 * run.accuracy_margin:g} points over n = {max(verdict.n for _, _, verdict in pairs)} seeds"
    return Answer(f"{text} {within}", "; ".join(parts) + ".", settled=not verdicts["inconclusive"])
