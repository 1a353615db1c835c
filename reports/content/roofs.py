"""How far each row is from the machine's limit: a table, and rooflines."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.roofs import Attained, attained
from bench.records.record import Record
from reports.content.cells import half_width, process_count
from reports.content.places import TASKS
from reports.content.training_plots import Named
from reports.plot import Axis, Plot, Series
from reports.table import Table

GIGA = 1e9
NOT_MEASURED = "n/m"


def tables(names: Sequence[str], records: Sequence[Record]) -> list[Table]:
    """A row for every throughput of device-resident data, with its share of the roof; none if no roof was measured."""
    cells = [
        [name, *_cells(record, one)]
        for name, record in zip(names, records, strict=True)
        for one in attained(record)
        if one.figure.boundary == "device"
    ]
    if not cells:
        return []
    headers = ["row", "work", "GFLOP/s", "GB/s", "of the roof", "roof [GFLOP/s]", "triad [GB/s]"]
    heading = f"Distance from the machine's limit (device; {process_count(records)}; roof: best kernels of the run)"
    return [Table(heading, headers, cells, numbers_from=2, optional_columns=(6, 5, 3))]


def _cells(record: Record, one: Attained) -> list[str]:
    roof = record.roof
    work = f"{TASKS[one.figure.task or 'infer'].lower()}, batch {one.figure.batch_size}"
    limits = [NOT_MEASURED] * 2 if roof is None else [f"{roof.product / GIGA:,.3g}", f"{roof.triad / GIGA:,.3g}"]
    return [
        work,
        f"{one.flops / GIGA:,.3g}{half_width(one.figure)}",
        f"{one.bytes / GIGA:,.3g}",
        f"{100 * one.share:.0f}%",
        *limits,
    ]


def lines(records: Sequence[Record]) -> list[str]:
    """Which rows have no place in that table, and why."""
    reasons: dict[str, list[str]] = {}
    for record in records:
        timed = any(figure.name == "throughput" and figure.value for figure in record.figures)
        counted = record.figure("io_bytes") is not None  # of a version that measures a limit
        if not attained(record) and timed and counted and record.status == "ok":
            reasons.setdefault(_why_no_roof(record), []).append(record.id)
    return [f"machine's limit not measured: {', '.join(ids)}: {reason}" for reason, ids in reasons.items()]


def _why_no_roof(record: Record) -> str:
    if record.job.cpu_quota is not None:
        return "a quota of CPU time hides it"
    if record.job.inputs:
        return "the work of a user's file is not counted"
    if record.roof is not None:
        return "its own framework does not tell it, and it is above what the others reach"
    return f"no framework of the run tells it in {record.job.precision}"


def rooflines(named: Named) -> list[Plot]:
    """A plot for every roof: FLOP/s against FLOP per byte."""
    groups: dict[tuple[str, str, int], list[tuple[str, Record]]] = {}
    for name, record in named:
        if attained(record):
            groups.setdefault((record.job.device, record.job.precision, record.job.threads), []).append((name, record))
    return [_roofline(key, rows) for key, rows in groups.items()]


def _roofline(key: tuple[str, str, int], rows: Sequence[tuple[str, Record]]) -> Plot:
    device, precision, threads = key
    roof = rows[0][1].roof
    assert roof is not None, "only rows with a roof are drawn"
    points = [(name, one) for name, record in rows for one in attained(record) if one.figure.boundary == "device"]
    intensities = [one.intensity for _, one in points]
    ridge = roof.product / roof.triad
    left, right = min([*intensities, ridge]) / 2, max([*intensities, ridge]) * 2
    series = [
        Series("roof, memory", "line", (left, ridge, right), _under(roof.triad, roof.product, (left, ridge, right))),
    ]
    inner = roof.product / roof.cached_triad
    if left < inner < ridge:
        places = (left, inner, right)
        series.append(Series("roof, caches", "line", places, _under(roof.cached_triad, roof.product, places), colour=1))
    texts = []
    for colour, (name, record) in enumerate(rows, 2):
        own = [one for one in attained(record) if one.figure.boundary == "device"]
        xs, ys = tuple(one.intensity for one in own), tuple(one.flops / GIGA for one in own)
        series.append(Series(name, "points", xs, ys, colour=colour))
        texts += [f"{name} {one.figure.task} {100 * one.share:.0f}%" for one in own]
    kind = f"{device}, {precision}, {threads} thread{'s' * (threads != 1)}"
    title = f"Roofline, {kind}"
    axes = Axis("intensity [FLOP/byte]", log=True), Axis("rate [GFLOP/s]", log=True)
    words = f"{title}: of {roof.product / GIGA:,.3g} GFLOP/s and {roof.triad / GIGA:,.3g} GB/s; {'; '.join(texts)}."
    return Plot(f"roofline-{device}-{precision}-{threads}".replace(":", "-"), title, *axes, tuple(series), words)


def _under(bandwidth: float, product: float, intensities: Sequence[float]) -> tuple[float, ...]:
    return tuple(min(product, bandwidth * intensity) / GIGA for intensity in intensities)
