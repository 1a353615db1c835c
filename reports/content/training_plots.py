"""Plots of the results of training: the curves of every seed, and confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence

from bench.records.record import Record
from reports.plot import Axis, HeatMap, Plot, Series

Named = Sequence[tuple[str, Record]]
"""Rows with their names."""


def curves(named: Named) -> list[Plot]:
    """Accuracy and loss over epochs and over time."""
    axes = (
        ("accuracy-epoch", "Accuracy over epochs", "epoch", "accuracy [%]"),
        ("accuracy-seconds", "Accuracy over training time", "training [s]", "accuracy [%]"),
        ("loss-epoch", "Loss over epochs", "epoch", "loss [nats]"),
        ("loss-seconds", "Loss over training time", "training [s]", "loss [nats]"),
    )
    charts = []
    for key, title, x, y in axes:
        series, texts, splits = [], [], set()
        for colour, (name, record) in enumerate(named):
            trainings = [t for t in record.outcome.trainings if t.curve] if record.outcome else []
            for number, training in enumerate(trainings):
                xs = tuple(p.epoch if x == "epoch" else p.seconds for p in training.curve)
                ys = tuple(100 * p.accuracy if y.startswith("accuracy") else p.loss for p in training.curve)
                series.append(Series(name, "line", xs, ys, colour=colour, listed=number == 0))
                splits |= {point.split for point in training.curve}
            if trainings:
                last = series[-len(trainings)]
                texts.append(f"{name} ends at {last.y[-1]:.4g} after {last.x[-1]:.4g} (seed {trainings[0].seed})")
        if series:
            whole = f"{title} ({' and '.join(sorted(splits))} images)"
            charts.append(Plot(key, whole, Axis(x), Axis(y), tuple(series), f"{whole}: {'; '.join(texts)}."))
    return charts


def confusions(named: Named) -> list[HeatMap]:
    """Test images by true and predicted class, one plot per row."""
    charts = []
    for number, (name, record) in enumerate(named):
        if record.outcome is not None:
            classes = tuple(score.name for score in record.outcome.classes)
            counts = tuple(tuple(row) for row in record.outcome.confusion)
            right, images = sum(row[i] for i, row in enumerate(counts)), sum(map(sum, counts))
            wrong = max(
                ((count, i, j) for i, row in enumerate(counts) for j, count in enumerate(row) if i != j),
                default=(0, 0, 0),
            )
            often = f"; most often {classes[wrong[1]]} is taken for {classes[wrong[2]]} ({wrong[0]})" * bool(wrong[0])
            title = f"{name}: test images by class"
            axes = Axis("predicted class", categories=classes), Axis("true class", categories=classes)
            texts = f"{title}: {right:,} of {images:,} are right{often}."
            charts.append(HeatMap(f"confusion-{number}", title, *axes, counts, texts))
    return charts
