"""A row as one Python file of plain framework code: its model with the weights of its seed, timed by the same rules.

It is for a bug report to the framework. It imports no package of ours.
"""

from __future__ import annotations

import numpy as np

from backends.script import Script
from bench.machine import allocators
from bench.records.metrics import METRICS
from bench.records.record import Figure, Record, Run
from bench.workloads.datasets.dataset import Pixels
from reports.table import printable

STEPS, SLICES = 50, 100
"""Steps of warm-up, and slices."""
SAMPLE = 1024
"""Images of the data set that say how those of the code are to look."""
PATCH = 4
"""Side of a patch of like pixels."""
LEAST = 0.05
"""Share of background, or detail, that is worth a line."""

HEAD = '''"""{title}
{measured}
Here: the model with the weights of its seed, in plain code. pip install {packages}"""

import time

{imports}
import numpy as np

rng = np.random.default_rng({seed})
{model}


{infer}


def timed(steps):
    """Seconds of so many steps, each on a batch of its own."""
    batches = [images[pick.integers(len(images), size={batch})] for _ in range(min(steps, {pool}))]
    begin = time.perf_counter()
    for step in range(steps):
        infer(batches[step % len(batches)])
    return time.perf_counter() - begin


pick = np.random.default_rng()
{images}
step = min(timed(1) for _ in range({warm_up}))  # seconds, after warm-up
steps = 1 + int(min(max(4 * step, 0.06), 0.15) / step)
slices = [timed(steps) for _ in range({slices})]
rate, low, high = {batch} * steps / np.percentile(slices, (50, 90, 10))  # a disturbed slice moves no median
print(f"{{rate:,.0f}} images/s, median of {{len(slices)}} slices (80% of them {{low:,.0f}} to {{high:,.0f}})")
'''


def document(run: Run, record: Record, row: str, script: Script, images: Pixels) -> str:
    """The file.

    Args:
        run, record, row: the row, with its name.
        script: the adapter's code.
        images: of the row's data set, ``(N, H, W, C)`` uint8.
    """
    figure = throughput(record)
    batch = figure.batch_size or 1
    height, width, channels = images.shape[1:]
    return HEAD.format(
        title=printable(f"Throughput of inference, {row}, {record.job.model}, batch {batch}, end-to-end."),
        measured="\n".join(map(printable, _measured(run, record, figure))),
        seed=record.job.seed,
        packages=" ".join(_packages(record, script)),
        imports="\n".join(script.imports),
        model="\n".join([*script.settings, *script.model]),
        infer="\n".join(script.infer),
        batch=batch,
        pool=max(4, 2**25 // (4 * batch * height * width * channels)),
        images="\n".join(_images(images[:SAMPLE])),
        warm_up=STEPS,
        slices=SLICES,
    )


def _images(sample: Pixels) -> list[str]:
    """Code that draws images like these: patches, with as much background, as much detail and as many colours.

    Kernels that branch on pixels, such as PyTorch's max pooling on the CPU, are up to a fifth slower on noise.
    """
    height, width, channels = sample.shape[1:]
    counts = np.bincount(sample[..., 0].ravel(), minlength=256)
    background, detail = counts.max() / counts.sum(), _detail(sample)
    side = f"1024, {-(-height // PATCH)}, {-(-width // PATCH)}"
    drawn = 1 if channels > 1 and (sample == sample[..., :1]).all() else channels
    cut = f"[:, :{height}, :{width}]" if height % PATCH or width % PATCH else ""
    coloured = f".repeat({channels}, 3)" if drawn < channels else ""
    lines = [f"images = pick.uniform(-1, 1, ({side}, {drawn}))"]
    if background >= LEAST:
        shown = f"(pick.random(({side}, 1)) < {1 - background:.2f})"
        lines = [f"images = pick.uniform(0, 2, ({side}, {drawn})) * {shown} - 1  # the rest is background"]
    lines += [f"images = images.astype(np.float32).repeat({PATCH}, 1).repeat({PATCH}, 2){cut}{coloured}"]
    if detail >= LEAST:
        noise = f"pick.uniform(-{detail:.2f}, {detail:.2f}, (*images.shape[:3], {drawn}))"
        lines += [f"images += ((images > -1) * {noise}).astype(np.float32)"]
    return lines


def _detail(sample: Pixels) -> float:
    """Standard deviation within patches over that of the patches' means."""
    height, width, channels = sample.shape[1:]
    rows, columns = height // PATCH, width // PATCH
    whole = sample[:, : rows * PATCH, : columns * PATCH].astype(np.float64)
    patches = whole.reshape(len(sample), rows, PATCH, columns, PATCH, channels)
    means = patches.mean((2, 4), keepdims=True)
    return float(np.sqrt(((patches - means) ** 2).mean()) / max(means.std(), 1e-9))


def throughput(record: Record) -> Figure:
    """The figure that the file repeats: throughput of inference, end-to-end, of the largest batch.

    Raises:
        LookupError: the row has none that is certified; the message says why.
    """
    figures = [f for f in record.figures if (f.name, f.task, f.boundary) == ("throughput", "infer", "end-to-end")]
    measured = [f for f in figures if f.value is not None]
    if not record.certified or not measured:
        why = "it is not certified" if not record.certified else "its inference was not timed"
        raise LookupError(why)
    return max(measured, key=lambda figure: figure.batch_size or 0)


def _measured(run: Run, record: Record, figure: Figure) -> list[str]:
    metric = METRICS[figure.name]
    bounds = "" if figure.low is None or figure.high is None else f" [{figure.low:,.0f}, {figure.high:,.0f}]"
    value = metric.with_unit(figure.value or 0.0)
    cpu = record.machine.get("cpu", "an unknown CPU")
    measured = (
        f"evenbench run {run.name}: {value}{bounds} over {figure.n} processes, {record.job.threads} threads, {cpu}."
    )
    command = _command(record)
    return [measured, *([f"As its workers ran: {command}"] if command else [])]


def _command(record: Record) -> str:
    """What starts the file with the row's allocator and on its CPUs; empty: nothing special."""
    wanted = {} if record.job.allocator == allocators.SYSTEM else allocators.environment(record.job.allocator)
    parts = [f"{name}={text}" for name, text in wanted.items() if text is not None]
    if record.job.cpus is not None:
        parts += ["taskset", "-c", ",".join(map(str, record.job.cpus))]
    return " ".join([*parts, "python", "THIS_FILE"]) if parts else ""


def _packages(record: Record, script: Script) -> list[str]:
    """The packages with the versions of the record, where it has them."""
    versions = {name: version.partition("+")[0] for name, version in record.versions.items()}  # +cu130 is a build
    # A runtime may come in several packages: the record has the one whose module was imported.
    names = [
        next((known for known in versions if f"{known}-".startswith(f"{name}-")), name) for name in script.packages
    ]
    return [f"{name}=={versions[name]}" if name in versions else name for name in (*names, "numpy")]
