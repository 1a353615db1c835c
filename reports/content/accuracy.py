"""The results of training: equivalence of accuracies, metrics per class, values per epoch."""

from __future__ import annotations

from bench.analysis import equivalence
from bench.records.record import Record, Run, label
from reports.table import Table


def same_accuracy(run: Run) -> Table | None:
    """The verdict on every pair of trained rows; None if no two rows share two seeds."""
    jobs = [record.job for record in run.records]
    rows = []
    for a, b, verdict in equivalence.judge_pairs(run.records, run.accuracy_margin):
        interval = (
            "-" if verdict.low is None or verdict.high is None else f"[{_points(verdict.low)}, {_points(verdict.high)}]"
        )
        cells = [f"{label(a.job, jobs)} - {label(b.job, jobs)}", _points(verdict.difference), interval, str(verdict.n)]
        rows.append([*cells, _verdict(verdict)])
    if not rows:
        return None
    title = f"Same accuracy? (margin {100 * run.accuracy_margin:g} points, two one-sided tests over paired seeds)"
    return Table(title, ["rows", "difference [points]", "90% interval", "seeds", "verdict"], rows)


def _verdict(verdict: equivalence.Equivalence) -> str:
    if verdict.kind != "inconclusive":
        return {"equivalent": "same accuracy", "different": "DIFFERENT"}[verdict.kind]
    if verdict.seeds_needed is None:
        return "inconclusive; no number of seeds up to 10,000 would settle it"
    return f"inconclusive; about {verdict.seeds_needed} seeds would settle it"


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.2f}"


def classes(name: str, record: Record) -> Table | None:
    """Precision, recall and F1 of every class of the test split, and its most frequent wrong prediction."""
    if record.outcome is None:
        return None
    rows = []
    for number, score in enumerate(record.outcome.classes):
        taken = [(count, other) for other, count in enumerate(record.outcome.confusion[number]) if other != number]
        count, other = max(taken, default=(0, 0))
        mistake = f"{record.outcome.classes[other].name} ({count})" if count else "-"
        parts = (_share(value) for value in (score.precision, score.recall, score.f1))
        rows.append([score.name, *parts, str(score.support), mistake])
    headers = ["class", "precision", "recall", "F1", "images", "most often taken for"]
    return Table(f"{name}: classes (test split, first seed)", headers, rows)


def confusion(name: str, record: Record) -> Table | None:
    """Images by true class (rows) and predicted class (columns)."""
    if record.outcome is None:
        return None
    names = [score.name for score in record.outcome.classes]
    rows = [[true, *map(str, counts)] for true, counts in zip(names, record.outcome.confusion, strict=True)]
    return Table(f"{name}: confusion (true by predicted, images)", ["true", *names], rows, numbers_from=1)


def curve(name: str, record: Record) -> Table | None:
    """Loss and accuracy of the first seed at every evaluation."""
    if record.outcome is None or not record.outcome.trainings or not record.outcome.trainings[0].curve:
        return None
    training = record.outcome.trainings[0]
    rows = [
        [f"{p.epoch:g}", f"{p.seconds:.1f}", _loss(p.train_loss), f"{p.loss:.4f}", f"{p.accuracy:.4f}"]
        for p in training.curve
    ]
    split = training.curve[0].split
    headers = ["epoch", "training [s]", "training loss [nats]", f"{split} loss [nats]", f"{split} accuracy"]
    return Table(f"{name}: training (seed {training.seed})", headers, rows, numbers_from=1)


def _share(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _loss(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
