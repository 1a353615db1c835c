"""Every metric once: its title, unit, direction, interval, margin and definition.

Tables, the page, answers, ratios, plots, the gate, docs/metrics.md and all exports read ``METRICS``. A new metric is an
entry here and the place in ``bench.runner.record_builder`` that computes its value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

CONFIDENCE = 0.95
"""Of every interval in a record."""

Group: TypeAlias = Literal["load", "input", "throughput", "scaling", "latency", "energy", "start and size", "outcome"]
"""The table in which a metric stands."""


@dataclass(frozen=True)
class Quantity:
    """How a kind of value is stored and shown."""

    unit: str
    """Of stored values."""
    shown_unit: str
    """In tables and plots; empty: none is written."""
    factor: float
    """Stored value times ``factor`` is in ``shown_unit``."""
    format: str
    """Format specification of the value in ``shown_unit``."""
    absolute: bool = False
    """Intervals and changes are differences in the unit itself, not percentages of the value."""


RATE = Quantity("images/s", "images/s", 1, ",.0f")
SAMPLE_RATE = Quantity("samples/s", "samples/s", 1, ",.0f")
"""Of a user's file, whose inputs need not be images."""
REQUEST_RATE = Quantity("requests/s", "requests/s", 1, ",.4g")
ENERGY = Quantity("J/image", "mJ/image", 1e3, ".3g")
SECONDS = Quantity("s", "s", 1, ".3g")
MILLISECONDS = Quantity("s", "ms", 1e3, ".3g")
MEGABYTES = Quantity("bytes", "MB", 1e-6, ",.0f")
KILOBYTES = Quantity("bytes", "kB", 1e-3, ",.0f")
FRACTION = Quantity("fraction", "", 1, ".4f", absolute=True)
EFFICIENCY = Quantity("ratio", "", 1, ".3f")
NATS = Quantity("nats", "nats", 1, ".4f", absolute=True)
COUNT = Quantity("count", "", 1, ",.0f")
BYTES = Quantity("bytes/image", "", 1, ",.0f")
FLOP = Quantity("FLOP/image", "", 1, ",.0f")


@dataclass(frozen=True)
class Metric:
    """What is known of a metric, apart from its values."""

    name: str
    """In records, exports and options."""
    title: str
    """In text."""
    quantity: Quantity
    group: Group
    definition: str
    """In words, from a capital letter to a full stop; direction, unit and interval are added by whoever shows it."""
    direction: Literal["higher", "lower"] | None = None
    """Which values are better; None: a property of the model, neither is."""
    spread_over: Literal["processes", "seeds"] | None = None
    """What ``n`` counts and the interval is over; None: one value."""
    ranked: bool = False
    """The value is the median over six or more processes, the interval between order statistics: a tail is not normal.
    All percentiles are summarized alike, so that they stay in order."""
    head: str | None = None
    """Title in the head of a column, where the table's title says the rest; None: ``title``."""
    by_task: bool = False
    """Measured for each task: wherever it is named, its task is too."""
    prominent: bool = False
    """The page shows its column at first, and a narrow terminal keeps it."""
    plotted: bool = False
    """The report has a bar chart of it."""
    compared: bool = False
    """A speed: records give its ratio to the fastest comparable row."""
    decisive: bool = False
    """Samples keep the slices that they were timed in; a precision target is about the ratios of these metrics."""
    gate: str | None = None
    """What ``bench check`` calls it; None: a check does not judge it."""
    margin: float | None = None
    """The largest harm that a check calls no change: a fraction of the value, or a difference where the quantity is
    absolute."""
    questions: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Task to the question that the best row answers at the top of a report."""

    @property
    def unit(self) -> str:
        """Of stored values."""
        return self.quantity.unit

    @property
    def lower_is_better(self) -> bool:
        """Whether the smallest value is the best."""
        return self.direction == "lower"

    @property
    def is_time(self) -> bool:
        """Whether stored values are seconds."""
        return self.unit == "s"

    @property
    def is_rate(self) -> bool:
        """Whether stored values are images, or samples of a user's file, per second."""
        return self.unit in (RATE.unit, SAMPLE_RATE.unit)

    @property
    def interval(self) -> str | None:
        """How the interval of a record is computed; None: there is none."""
        plain = self.spread_over == "seeds" or self.quantity.absolute
        method = "student-t" if plain else "student-t of logarithms"
        method = "order statistics, of six or more," if self.ranked else method
        return None if self.spread_over is None else f"{method} over {self.spread_over}"

    @property
    def confidence(self) -> float | None:
        """Of that interval."""
        return None if self.spread_over is None else CONFIDENCE

    def shown(self, value: float) -> str:
        """A stored value as tables show it, without its unit."""
        return format(self.quantity.factor * value, self.quantity.format)

    def with_unit(self, value: float, digits: int | None = None) -> str:
        """The same with its unit; ``digits``: with so many significant ones."""
        text = self.shown(value) if digits is None else f"{self.quantity.factor * value:#,.{digits}g}".rstrip(".")
        return f"{text} {self.quantity.shown_unit}".rstrip()

    def titled(self, title: str, always: bool = False) -> str:
        """``latency p50 [ms]``: a title with the unit in which values are shown; ``always``: where that is none, with
        the stored one (axes of plots have a unit)."""
        unit = self.quantity.shown_unit or (self.unit if always else "")
        return f"{title} [{unit}]" if unit else title


_ALL = (
    Metric(
        "throughput",
        "throughput",
        RATE,
        "throughput",
        "Images over the wall time that they took, between two fences (device synchronized), after warm-up. Training"
        " is forward, loss, backward and update; inference gives logits.",
        direction="higher",
        spread_over="processes",
        head="",
        by_task=True,
        prominent=True,
        plotted=True,
        compared=True,
        decisive=True,
        gate="throughput",
        margin=0.005,
        questions={"train": "Fastest to train", "infer": "Fastest in bulk inference"},
    ),
    Metric(
        "input_throughput",
        "input pipeline",
        RATE,
        "input",
        "Images that the framework's own loader reads from files (PNG, in the page cache), decodes, augments as the"
        " recipe says, normalizes and batches, over the wall time, with nothing else to do; batches that were ready"
        " before the clock began are not counted.",
        direction="higher",
        spread_over="processes",
        prominent=True,
        plotted=True,
        compared=True,
        decisive=True,
        questions={"input": "Fastest input pipeline"},
    ),
    Metric(
        "fed_throughput",
        "training fed by it",
        RATE,
        "input",
        "Images per second of training steps on the batches of that pipeline, which makes further ones meanwhile. Each"
        " step is waited for, as by a loop that looks at its loss.",
        direction="higher",
        spread_over="processes",
        prominent=True,
        plotted=True,
        compared=True,
        decisive=True,
    ),
    Metric(
        "stall",
        "stall",
        FRACTION,
        "input",
        "Share of the wall time of those steps in which they wait for their batch.",
        direction="lower",
        spread_over="processes",
        prominent=True,
    ),
    Metric(
        "weak_efficiency",
        "weak scaling efficiency",
        EFFICIENCY,
        "scaling",
        "Training rate of N processes that share a batch, over N times that of one process at a batch of an Nth: each"
        " has as much work as that one (geometric mean over rounds in which both took turns).",
        direction="higher",
        spread_over="processes",
        head="weak efficiency",
        prominent=True,
    ),
    Metric(
        "strong_efficiency",
        "strong scaling efficiency",
        EFFICIENCY,
        "scaling",
        "Training rate of N processes that share a batch, over N times that of one process at the same batch: all have"
        " as much work together as that one (geometric mean over rounds in which both took turns).",
        direction="higher",
        spread_over="processes",
        head="strong efficiency",
        prominent=True,
    ),
    Metric(
        "latency_p50",
        "latency p50",
        MILLISECONDS,
        "latency",
        "Median of the wall time of single calls at batch size 1, each up to its fence (type 7 quantile per process,"
        " median over six or more processes, geometric mean and Student's t over fewer).",
        direction="lower",
        spread_over="processes",
        ranked=True,
        head="p50",
        prominent=True,
        plotted=True,
        compared=True,
        decisive=True,
        gate="latency",
        margin=0.005,
        questions={"infer": "Fastest to serve (p50)"},
    ),
    Metric(
        "latency_p90",
        "latency p90",
        MILLISECONDS,
        "latency",
        "As latency_p50, 90th percentile; fewer than six processes have no interval.",
        direction="lower",
        spread_over="processes",
        ranked=True,
        head="p90",
        compared=True,
    ),
    Metric(
        "latency_p99",
        "latency p99",
        MILLISECONDS,
        "latency",
        "As latency_p50, 99th percentile; fewer than six processes have no interval.",
        direction="lower",
        spread_over="processes",
        ranked=True,
        head="p99",
        compared=True,
    ),
    Metric(
        "server_rate",
        "server rate",
        REQUEST_RATE,
        "load",
        "Highest rate of requests of one image, arriving at random (Poisson), at which the bound of the latency holds:"
        " where a logistic curve through the tests of a process crosses the share of late requests that the bound"
        " allows. Latency is counted from the scheduled arrival (LoadGen's server scenario).",
        direction="higher",
        spread_over="processes",
        prominent=True,
        plotted=True,
        compared=True,
        questions={"infer": "Bears the most requests"},
    ),
    Metric(
        "offline_throughput",
        "offline",
        RATE,
        "load",
        "Images over the wall time of a test in which all of them wait from the start (LoadGen's offline scenario), in"
        " batches of at most the given size.",
        direction="higher",
        spread_over="processes",
        prominent=True,
        plotted=True,
        compared=True,
    ),
    *(
        Metric(
            f"{name}_p{percent}",
            f"{title} p{percent}",
            MILLISECONDS,
            "load",
            f"Latency of queries of {what}, each issued when the one before it is answered (LoadGen's {title}"
            f" scenario): its {percent}th percentile.",
            direction="lower",
            spread_over="processes",
            ranked=True,
            prominent=percent == 90,
            compared=percent == 90,
        )
        for name, title, what in (
            ("single_stream", "single-stream", "one image"),
            ("multi_stream", "multi-stream", "eight images"),
        )
        for percent in (50, 90, 99)
    ),
    Metric(
        "energy",
        "energy",
        ENERGY,
        "energy",
        "Energy of an image (of a user's file: of a sample) in the slices of throughput, by counters: on the CPU of all"
        " processor packages and their memory (RAPL), whatever else they do; on a GPU of its board (NVML). Never"
        " estimated from a rated power.",
        direction="lower",
        spread_over="processes",
        by_task=True,
        plotted=True,
        compared=True,
    ),
    Metric(
        "cold_start",
        "cold start",
        SECONDS,
        "start and size",
        "From the spawn of a fresh process to its first logits at batch size 1: interpreter, import, model, weights,"
        " first call. Files are in the operating system's page cache.",
        direction="lower",
        spread_over="processes",
        compared=True,
    ),
    Metric(
        "first_call",
        "first call",
        MILLISECONDS,
        "start and size",
        "The very first inference call of a process (tracing, compiling, lazy set-up), batch size 1.",
        direction="lower",
        spread_over="processes",
        compared=True,
    ),
    Metric(
        "peak_rss",
        "peak RSS",
        MEGABYTES,
        "start and size",
        "Peak resident set size (physical memory) of the measuring worker's process tree: the kernel's high-water mark"
        " from its start to the end of inference, and from there to the end of training (with what inference left;"
        " where the mark cannot be reset, since its start); and shared memory that it holds but does not map, after"
        " each slice. 1 MB is 10^6 bytes.",
        direction="lower",
        spread_over="processes",
        by_task=True,
        prominent=True,
        plotted=True,
        gate="memory",
        margin=0.01,
        questions={"train": "Least memory to train", "infer": "Least memory to serve"},
    ),
    Metric(
        "peak_device_memory",
        "device memory",
        MEGABYTES,
        "start and size",
        "GPU memory that the worker's process holds at its end, by NVML (allocators keep what they reached; a runtime"
        " holds a session per batch size); how it was found is in the record. CUDA only.",
        direction="lower",
        spread_over="processes",
        plotted=True,
    ),
    Metric(
        "model_size",
        "model file",
        KILOBYTES,
        "start and size",
        "Size of the model file that the row reads (what the runtime made of it, where it is converted) or exports.",
        direction="lower",
    ),
    Metric(
        "accuracy",
        "accuracy",
        FRACTION,
        "outcome",
        "Top-1 on the test split after the recipe; for a runtime, that of the exported model of the first seed.",
        direction="higher",
        spread_over="seeds",
        prominent=True,
        gate="accuracy",
        margin=0.005,
    ),
    Metric(
        "top5_accuracy",
        "top-5 accuracy",
        FRACTION,
        "outcome",
        "Share of the test split whose label is among the five largest logits, first seed. 1.0 (usual on digits) says"
        " that none of these images missed, not that none would.",
        direction="higher",
        head="top-5",
    ),
    Metric(
        "loss",
        "loss",
        NATS,
        "outcome",
        "Mean softmax cross-entropy on the test split after the recipe, from float32 logits in float64.",
        direction="lower",
        spread_over="seeds",
    ),
    Metric(
        "fit",
        "fit",
        SECONDS,
        "outcome",
        "All training steps of the recipe in a fresh process: tracing, compiling and copies to the device included;"
        " shuffling, normalizing and evaluating not.",
        direction="lower",
        spread_over="seeds",
    ),
    Metric(
        "export",
        "export",
        SECONDS,
        "outcome",
        "The framework's own exporter, to ONNX.",
        direction="lower",
    ),
    Metric(
        "time_to_accuracy",
        "time to accuracy",
        SECONDS,
        "outcome",
        "Training steps until an evaluation of the watched split (validation, or test where none is held out), four"
        " per epoch, first reached the target; evaluation apart.",
        direction="lower",
        spread_over="seeds",
    ),
    Metric(
        "parameters",
        "parameters",
        COUNT,
        "start and size",
        "Trained values of the model, computed from its layers; parity checks the framework's count.",
    ),
    Metric(
        "flops",
        "FLOP per image",
        FLOP,
        "start and size",
        "Floating-point operations of one image's forward pass: 2 per multiply-accumulate of convolutions and dense"
        " layers, nothing else.",
    ),
    Metric(
        "io_bytes",
        "bytes per image",
        BYTES,
        "start and size",
        "Bytes that must move for one image of inference at least, beside the weights once a step: the image and its"
        " logits in float32.",
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""By name, in the order in which they are shown."""


def in_unit(metric: Metric, unit: str | None) -> Metric:
    """The metric as it is shown where values are stored in this unit: a rate of samples for a user's file."""
    return replace(metric, quantity=SAMPLE_RATE) if metric.is_rate and unit == SAMPLE_RATE.unit else metric


def decisive() -> set[str]:
    """Names of the metrics whose ratios a precision target is about."""
    return {metric.name for metric in METRICS.values() if metric.decisive}


def gated() -> dict[str, Metric]:
    """The metrics that ``bench check`` judges, by what it calls them."""
    return {metric.gate: metric for metric in METRICS.values() if metric.gate is not None}
