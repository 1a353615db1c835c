"""The plots of a run."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.intervals import percentile
from bench.records.record import Figure, Phase, Record, Run, label
from reports.content.cells import FORMATS, spread
from reports.plot import Axis, HeatMap, Plot, Section, Series

MOST_POINTS = 200
"""Of an empirical distribution; more are thinned out to so many quantiles."""


def of(run: Run) -> list[Section]:
    """The sections that have something to show."""
    named = names(run)
    sections = [
        Section("throughput", "Throughput", "Bars are geometric means over processes with 95% intervals; every"
                " process is a point.", tuple(_throughputs(named))),
        Section("batch-sizes", "Throughput against batch size", "A batch that is missing did not fit into memory.",
                tuple(_batch_sizes(named))),
        Section("latency", "Latency", "Bars are geometric means of the processes' medians with 95% intervals; the"
                " distribution is of all calls in the slices that count.", tuple(_latencies(named))),
        Section("training", "Accuracy and loss", "Every line is one seed.", tuple(_curves(named))),
        Section("memory", "Memory", "Peak resident set of a measuring process.", tuple(_memory(named))),
        Section("confusion", "Confusion", "Test images by true and predicted class, first seed.",
                tuple(_confusions(named))),
        Section("phases", "Phases of the workers", "Where each process' time went, in the order of its phases.",
                tuple(_phases(named))),
    ]  # fmt: skip
    return [section for section in sections if section.plots]


Named = Sequence[tuple[str, Record]]


def names(run: Run) -> list[tuple[str, Record]]:
    """Rows with what they are called."""
    jobs = [record.job for record in run.records]
    return [(label(record.job, jobs), record) for record in run.records]


WHAT = {"train": "training", "infer": "inference"}


def _throughputs(named: Named) -> list[Plot]:
    found = []
    for task, what in WHAT.items():
        for boundary in ("end-to-end", "device"):
            sizes = _sizes(named, task)
            if len(sizes) == 1:
                figures = [(name, r.figure("throughput", task, boundary)) for name, r in named]
                title = f"Throughput of {what} at batch {sizes[0]}, {boundary}"
                key = f"throughput-{task}-{boundary}"
                found.append(_bars(key, title, "throughput [images/s]", figures, "images/s"))
    return [plot for plot in found if plot is not None]


def _sizes(named: Named, task: str) -> list[int]:
    return sorted({f.batch_size or 0 for _, r in named for f in r.figures if (f.name, f.task) == ("throughput", task)})


def _bars(
    key: str,
    title: str,
    axis: str,
    figures: Sequence[tuple[str, Figure | None]],
    unit: str,
    scale: float = 1.0,
) -> Plot | None:
    """A bar per row with its interval, and its processes as points."""
    measured = [(name, f) for name, f in figures if f is not None and f.value is not None]
    if not measured:
        return None
    measured.reverse()  # the first row is on top
    places = tuple(float(i) for i in range(len(measured)))
    bounds = [
        (None if f.low is None else scale * f.low, None if f.high is None else scale * f.high) for _, f in measured
    ]
    values = tuple(scale * (f.value or 0.0) for _, f in measured)
    bars = Series("mean", "bars", values, places, tuple(b[0] for b in bounds), tuple(b[1] for b in bounds))
    samples = [(scale * s.value, place) for place, (_, f) in zip(places, measured, strict=True) for s in f.samples]
    points = Series("processes", "points", tuple(v for v, _ in samples), tuple(p for _, p in samples), colour=1)
    told = [f"{name} {FORMATS[f.name](f.value or 0.0)} {unit}{spread(f)}" for name, f in reversed(measured)]
    missing = [name for name, f in figures if f is None or f.value is None]
    absent = f" Not measured: {', '.join(missing)}." if missing else ""
    rows = Axis("row", categories=tuple(name for name, _ in measured))
    return Plot(key, title, Axis(axis), rows, (bars, points), f"{title}: {'; '.join(told)}.{absent}")


def _batch_sizes(named: Named) -> list[Plot]:
    found = []
    for task, what in WHAT.items():
        sizes = _sizes(named, task)
        for boundary in ("end-to-end", "device") if len(sizes) > 1 else ():
            series, told = [], []
            for colour, (name, record) in enumerate(named):
                figures = [record.figure("throughput", task, boundary, size) for size in sizes]
                measured = [f for f in figures if f is not None and f.value]
                if measured:
                    xs = tuple(float(f.batch_size or 0) for f in measured)
                    ys = tuple(f.value or 0.0 for f in measured)
                    series.append(Series(name, "line", xs, ys, tuple(f.low for f in measured),
                                         tuple(f.high for f in measured), colour=colour))  # fmt: skip
                    best = max(measured, key=lambda f: f.value or 0.0)
                    told.append(f"{name} is fastest at batch {best.batch_size} ({best.value:,.0f} images/s)")
            if series:
                title = f"Throughput of {what} against batch size, {boundary}"
                axes = (
                    Axis("batch size [images]", log=True, ticks=tuple(map(float, sizes))),
                    Axis("throughput [images/s]"),
                )
                key = f"batch-sizes-{task}-{boundary}"
                found.append(Plot(key, title, *axes, tuple(series), f"{title}: {'; '.join(told)}."))
    return found


def _latencies(named: Named) -> list[Plot]:
    found = []
    for boundary in ("end-to-end", "device"):
        figures = [(name, record.figure("latency_p50", "infer", boundary)) for name, record in named]
        title = f"Median latency of inference, {boundary}"
        key = f"latency-{boundary}"
        bars = _bars(key, title, "latency p50 [ms]", figures, "ms", 1e3)
        found += [plot for plot in (bars, _distribution(boundary, figures)) if plot is not None]
    return found


def _distribution(boundary: str, figures: Sequence[tuple[str, Figure | None]]) -> Plot | None:
    """The empirical distribution of single calls, thinned out to its quantiles."""
    series, told = [], []
    for colour, (name, figure) in enumerate(figures):
        samples = figure.samples if figure is not None else []
        calls = sorted(1e3 * call for s in samples for piece in s.used for call in piece.latencies or [])
        if calls:
            count = min(len(calls), MOST_POINTS)
            shares = [100 * i / max(1, count - 1) for i in range(count)]
            xs = tuple(percentile(calls, share) for share in shares)
            series.append(Series(name, "steps", xs, tuple(shares), colour=colour))
            told.append(
                f"{name} p50 {percentile(calls, 50):.3g}, p99 {percentile(calls, 99):.3g} ms of {len(calls)} calls"
            )
    if not series:
        return None
    title = f"Distribution of single calls, {boundary}"
    axes = Axis("latency [ms]", log=True), Axis("share of calls below [%]")
    return Plot(f"latency-distribution-{boundary}", title, *axes, tuple(series), f"{title}: {'; '.join(told)}.")


def _curves(named: Named) -> list[Plot]:
    axes = (
        ("accuracy-epoch", "Accuracy over epochs", "epoch", "accuracy [%]"),
        ("accuracy-seconds", "Accuracy over training time", "training [s]", "accuracy [%]"),
        ("loss-epoch", "Loss over epochs", "epoch", "loss [nats]"),
        ("loss-seconds", "Loss over training time", "training [s]", "loss [nats]"),
    )
    found = []
    for key, title, x, y in axes:
        series, told, splits = [], [], set()
        for colour, (name, record) in enumerate(named):
            trainings = [t for t in record.outcome.trainings if t.curve] if record.outcome else []
            for number, training in enumerate(trainings):
                xs = tuple(p.epoch if x == "epoch" else p.seconds for p in training.curve)
                ys = tuple(100 * p.accuracy if y.startswith("accuracy") else p.loss for p in training.curve)
                series.append(Series(name, "line", xs, ys, colour=colour, listed=number == 0))
                splits |= {point.split for point in training.curve}
            if trainings:
                last = series[-len(trainings)]
                told.append(f"{name} ends at {last.y[-1]:.4g} after {last.x[-1]:.4g} (seed {trainings[0].seed})")
        if series:
            whole = f"{title} ({' and '.join(sorted(splits))} images)"
            found.append(Plot(key, whole, Axis(x), Axis(y), tuple(series), f"{whole}: {'; '.join(told)}."))
    return found


def _memory(named: Named) -> list[Plot]:
    found = []
    for task, what in WHAT.items():
        figures = [(name, record.figure("peak_rss", task)) for name, record in named]
        title = f"Peak memory of {what}"
        found.append(_bars(f"memory-{task}", title, "peak RSS [MB]", figures, "MB", 1e-6))
    devices = [(name, record.figure("peak_device_memory")) for name, record in named]
    title, axis = "Memory on the GPU", "device memory [MB]"
    found.append(_bars("memory-device", title, axis, devices, "MB", 1e-6))
    return [plot for plot in found if plot is not None]


def _confusions(named: Named) -> list[HeatMap]:
    found = []
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
            told = f"{title}: {right:,} of {images:,} are right{often}."
            found.append(HeatMap(f"confusion-{number}", title, *axes, counts, told))
    return found


def _phases(named: Named) -> list[Plot]:
    workers = [(name, phase) for name, record in named for phase in record.phases if phase.seconds]
    if not workers:
        return []
    workers.reverse()
    labels = tuple(_worker(i, name, phase) for i, (name, phase) in enumerate(reversed(workers), 1))[::-1]
    order = list(dict.fromkeys(phase for _, worker in reversed(workers) for phase in worker.seconds))
    order.sort(key=lambda phase: phase != "spawn")
    series = []
    begun = [0.0] * len(workers)
    for colour, phase in enumerate(order):
        spent = [worker.seconds.get(phase, 0.0) for _, worker in workers]
        rows = [i for i, seconds in enumerate(spent) if seconds > 0]
        series.append(
            Series(
                phase,
                "bars",
                tuple(begun[i] + spent[i] for i in rows),
                tuple(float(i) for i in rows),
                base=tuple(begun[i] for i in rows),
                colour=colour,
            )
        )
        begun = [before + seconds for before, seconds in zip(begun, spent, strict=True)]
    totals = {phase: sum(worker.seconds.get(phase, 0.0) for _, worker in workers) for phase in order}
    most = sorted(order, key=lambda phase: -totals[phase])[:3]
    told = f"{len(workers)} workers; most of their time: {', '.join(f'{p} {totals[p]:.1f} s' for p in most)}"
    axes = Axis("seconds of work [s]"), Axis("worker", categories=labels)
    return [Plot("phases", "Phases of the workers", *axes, tuple(series), f"Phases of the workers: {told}.")]


def _worker(number: int, name: str, phase: Phase) -> str:
    return f"{number}. {name}: {phase.kind}" + ("" if phase.round is None else f" {phase.round}")
