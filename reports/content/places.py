"""The places of a run's values: a metric with the task, batch size and boundary at which it was measured.

Tables, columns and plots show places in the order of ``METRICS``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.records.metrics import METRICS, Group, Metric, in_unit
from bench.records.record import Figure, Record

TASKS = {"train": "training", "infer": "inference", "input": "input pipelines"}
BOUNDARIES = ("end-to-end", "device")


@dataclass(frozen=True)
class Place:
    """A metric at one task, batch size and boundary; a field is None if the metric has none."""

    metric: Metric
    task: str | None
    batch_size: int | None
    boundary: str | None

    @property
    def key(self) -> str:
        """``throughput-train-end-to-end-128``."""
        parts = (self.metric.name, self.task, self.boundary, self.batch_size)
        return "-".join(str(part) for part in parts if part is not None)

    @property
    def prominent(self) -> bool:
        """Whether it is shown even if there is little room."""
        return self.metric.prominent and self.boundary != "device"

    def figure(self, record: Record) -> Figure | None:
        """The record's value at this place, if it has one."""
        key = (self.metric.name, self.task, self.batch_size, self.boundary)
        return next((figure for figure in record.figures if figure.key == key), None)


def places(records: Sequence[Record], group: Group | None = None) -> list[Place]:
    """The places that some record has, measured or not: of one group of metrics, or of all."""
    units = {figure.key: figure.unit for record in records for figure in record.figures}
    ordered = sorted(units, key=lambda key: _order(*key[1:]))
    return [
        Place(in_unit(metric, units[name, task, batch_size, boundary]), task, batch_size, boundary)
        for metric in METRICS.values()
        if group in (None, metric.group)
        for name, task, batch_size, boundary in ordered
        if name == metric.name
    ]


def _order(task: str | None, batch_size: int | None, boundary: str | None) -> tuple[int, int, int]:
    boundaries = (*BOUNDARIES, None)
    return [*TASKS, None].index(task), boundaries.index(boundary), batch_size or 0


def title(place: Place, among: Sequence[Place], short: bool = False) -> str:
    """``throughput, training, device, batch 128``: the metric, and the fields in which its places in the run differ.
    ``short``: use the metric's short name for column heads."""
    metric = place.metric
    peers = [peer for peer in among if peer.metric.name == metric.name]
    words = [metric.head if short and metric.head else metric.title]
    if place.task and metric.group != "input" and (metric.by_task or len({peer.task for peer in peers}) > 1):
        words.append(TASKS[place.task])
    if place.boundary == "device":
        words.append(place.boundary)
    if place.batch_size is not None and (
        metric.group in ("throughput", "scaling", "latency", "input") or len({peer.batch_size for peer in peers}) > 1
    ):
        words.append(f"batch {place.batch_size}")
    return ", ".join(words)
