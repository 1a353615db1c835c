"""The plots of a run."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.intervals import percentile
from bench.records.metrics import Group
from bench.records.record import Record, Run, label
from reports.content import load_plots, phase_plots, roofs, training_plots
from reports.content.cells import half_width
from reports.content.places import TASKS, Place, places
from reports.content.training_plots import Named
from reports.plot import Axis, Plot, Section, Series

MOST_POINTS = 101
"""Points of an empirical distribution; a larger one is reduced to this number of quantiles."""


def run_sections(run: Run) -> list[Section]:
    """The sections that have plots."""
    named = named_rows(run)
    sections = [
        Section("load", "Load", "Every point is one test of LoadGen, of at least as many requests as its percentile"
                " needs. Latency is counted from the scheduled arrival.",
                (*_bars(named, "load"), *load_plots.curves(named))),
        Section("input", "Input pipelines", "Bars are geometric means over processes with 95% intervals. A row is a"
                " loader with so many workers; batches come from files, decoded and augmented.",
                (*_bars(named, "input"), *_sweeps(named, "input"))),
        Section("throughput", "Throughput", "Bars are geometric means over processes with 95% intervals; every"
                " process is a point.", tuple(_bars(named, "throughput"))),
        Section("roofline", "Distance from the machine's limit", "The roof is the best rate of a matrix product and of"
                " a memory triad in any framework of the run; a point is a throughput of a row, with its model's own"
                " FLOPs and least bytes.",
                tuple(roofs.rooflines(named))),
        Section("batch-sizes", "Throughput against batch size", "A missing batch size did not fit into memory.",
                tuple(_sweeps(named, "throughput"))),
        Section("latency", "Latency", "Bars are geometric means of the processes' medians with 95% intervals; the"
                " distribution is of all calls in the slices that count.",
                (*_bars(named, "latency"), *_distributions(named))),
        Section("training", "Training", "Each line is one seed.",
                (*_bars(named, "outcome"), *training_plots.curves(named))),
        Section("memory", "Start, memory, size", "Bars are geometric means over processes with 95% intervals.",
                tuple(_bars(named, "start and size"))),
        Section("confusion", "Confusion", "Test images by true and predicted class, first seed.",
                tuple(training_plots.confusions(named))),
        Section("phases", "Phases of the workers", "The time that each process spent in its phases, in order.",
                tuple(phase_plots.phases(named))),
    ]  # fmt: skip
    return [section for section in sections if section.plots]


def named_rows(run: Run) -> list[tuple[str, Record]]:
    """The rows with their names."""
    jobs = [record.job for record in run.records]
    return [(label(record.job, jobs), record) for record in run.records]


def _plotted(named: Named, group: Group) -> list[list[Place]]:
    """The places of the metrics of a group that are plotted; places that differ only in batch size are one list."""
    groups: dict[tuple[str, str | None, str | None], list[Place]] = {}
    for place in places([record for _, record in named], group):
        if place.metric.plotted:
            groups.setdefault((place.metric.name, place.task, place.boundary), []).append(place)
    return list(groups.values())


def _title(place: Place) -> str:
    """``Throughput of training``."""
    of_task = f" of {TASKS[place.task]}" if place.task and place.metric.group != "input" else ""
    return place.metric.title[0].upper() + place.metric.title[1:] + of_task


def _key(place: Place) -> str:
    return "-".join(part for part in (place.metric.name, place.task, place.boundary) if part)


def _bars(named: Named, group: Group) -> list[Plot]:
    """A bar chart for each metric of a group that was measured at a single batch size."""
    alone = (same[0] for same in _plotted(named, group) if len(same) == 1)
    return [plot for place in alone if (plot := _bar_chart(named, place)) is not None]


def _bar_chart(named: Named, place: Place) -> Plot | None:
    """One bar per row with its interval; its processes are points."""
    metric, scale = place.metric, place.metric.quantity.factor
    figures = [(name, place.figure(record)) for name, record in named]
    measured = [(name, f) for name, f in figures if f is not None and f.value is not None]
    if not measured:
        return None
    measured.reverse()  # the first row is on top
    at = tuple(float(i) for i in range(len(measured)))
    low, high = (
        tuple(None if bound is None else scale * bound for bound in bounds)
        for bounds in ([f.low for _, f in measured], [f.high for _, f in measured])
    )
    bars = Series("mean", "bars", tuple(scale * (f.value or 0.0) for _, f in measured), at, low, high)
    samples = [(scale * s.value, y) for y, (_, f) in zip(at, measured, strict=True) for s in f.samples]
    points = Series(
        metric.spread_over or "values", "points", tuple(v for v, _ in samples), tuple(y for _, y in samples), colour=1
    )
    batch = f" at batch {place.batch_size}" if place.batch_size is not None else ""
    title = ", ".join(part for part in (_title(place) + batch, place.boundary) if part)
    texts = [f"{name} {metric.with_unit(f.value or 0.0)}{half_width(f)}" for name, f in reversed(measured)]
    missing = [name for name, f in figures if f is None or f.value is None]
    absent = f" Not measured: {', '.join(missing)}." if missing else ""
    rows = Axis("row", categories=tuple(name for name, _ in measured))
    words = f"{title}: {'; '.join(texts)}.{absent}"
    return Plot(_key(place), title, Axis(metric.titled(metric.title, always=True)), rows, (bars, points), words)


def _sweeps(named: Named, group: Group) -> list[Plot]:
    """A plot for each metric of a group that was measured at several batch sizes."""
    swept = (same for same in _plotted(named, group) if len(same) > 1)
    return [plot for same in swept if (plot := _sweep(named, same)) is not None]


def _sweep(named: Named, swept: Sequence[Place]) -> Plot | None:
    metric, series, texts = swept[0].metric, [], []
    for colour, (name, record) in enumerate(named):
        measured = [f for place in swept if (f := place.figure(record)) is not None and f.value]
        if measured:
            scale = metric.quantity.factor
            xs = tuple(float(f.batch_size or 0) for f in measured)
            ys = tuple(scale * (f.value or 0.0) for f in measured)
            low = tuple(None if f.low is None else scale * f.low for f in measured)
            high = tuple(None if f.high is None else scale * f.high for f in measured)
            series.append(Series(name, "line", xs, ys, low, high, colour=colour))
            best = (min if metric.lower_is_better else max)(measured, key=lambda f: f.value or 0.0)
            texts.append(f"{name} is best at batch {best.batch_size} ({metric.with_unit(best.value or 0.0)})")
    if not series:
        return None
    title = ", ".join(part for part in (f"{_title(swept[0])} against batch size", swept[0].boundary) if part)
    sizes = tuple(float(place.batch_size or 0) for place in swept)
    axes = (
        Axis(
            f"batch size [{metric.unit.partition('/')[0]}]" if metric.is_rate else "batch size [images]",
            log=True,
            ticks=sizes,
        ),
        Axis(metric.titled(metric.title, always=True)),
    )
    key = f"batch-sizes-{_key(swept[0])}"
    return Plot(key, title, *axes, tuple(series), f"{title}: {'; '.join(texts)}.")


def _distributions(named: Named) -> list[Plot]:
    """A plot for each latency whose single calls are in the record."""
    alone = (place for same in _plotted(named, "latency") for place in same)
    return [plot for place in alone if (plot := _distribution(named, place)) is not None]


def _distribution(named: Named, place: Place) -> Plot | None:
    """The empirical distribution of single calls, reduced to at most ``MOST_POINTS`` quantiles."""
    series, texts = [], []
    for colour, (name, record) in enumerate(named):
        figure = place.figure(record)
        samples = figure.samples if figure is not None else []
        calls = sorted(1e3 * call for s in samples for piece in s.used for call in piece.latencies or [])
        if calls:
            count = min(len(calls), MOST_POINTS)
            shares = [100 * i / max(1, count - 1) for i in range(count)]
            xs = tuple(percentile(calls, share) for share in shares)
            series.append(Series(name, "steps", xs, tuple(shares), colour=colour))
            texts.append(
                f"{name} p50 {percentile(calls, 50):.3g}, p99 {percentile(calls, 99):.3g} ms of {len(calls)} calls"
            )
    if not series:
        return None
    title = f"Distribution of single calls, {place.boundary}"
    axes = Axis("latency [ms]", log=True), Axis("share of calls below [%]")
    return Plot(f"distribution-{place.key}", title, *axes, tuple(series), f"{title}: {'; '.join(texts)}.")
