"""LoadGen's single-stream p90 beside our p90 of latency, in turns in one process: neither clock is wrong.

LoadGen's own work between two queries takes some microseconds' worth of caches from the model, which the calls of a
latency slice, one right after the other, do not lose: so the model is one whose calls take milliseconds.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import backends
from backends.base import Backend, model_file
from bench.analysis.intervals import percentile
from bench.worker import clock
from bench.worker.load import Server
from bench.worker.protocol import Probe
from bench.workloads.models import MODELS

MODEL = MODELS["resnet20"]
TURNS, SECONDS, IMAGES, SEED = 6, 2.0, 256, 0


def ready(name: str, folder: Path) -> Backend:
    """The backend with the model, on one thread."""
    adapter = backends.load(name)
    made = adapter("cpu", "fp32", adapter.MODES[0], 1, SEED)
    if not adapter.READS:
        made.build(MODEL, MODEL.initial_weights(SEED), None)
        return made
    source = backends.load("pytorch")
    exporter = source("cpu", "fp32", source.MODES[0], 1, SEED)
    exporter.build(MODEL, MODEL.initial_weights(SEED), None)
    path = folder / model_file("onnx")
    exporter.export(path, "onnx")
    made.load(path)
    return made


def ratios(name: str, folder: Path, answer: Any) -> None:
    """By turn: LoadGen's p90 over ours."""
    backend = ready(name, folder)
    images = np.random.default_rng(SEED).random((IMAGES, *MODEL.input_shape), np.float32)
    server, found = Server([backend], max_batch=1, max_delay=0.0), []
    server.warm_up(lambda size: images[:size])
    batches = itertools.cycle([images[number : number + 1] for number in range(IMAGES)])

    def call() -> None:
        backend.infer(next(batches))

    for turn in range(TURNS):
        probe = Probe(
            scenario="single-stream", rate=1e3, seconds=SECONDS, queries=64, samples=1, bound=1.0, percent=90,
            seed=turn, images=IMAGES, log=folder / "loadgen",
        )  # fmt: skip
        ours = list[float]()
        for part in range(2):  # one before, one after
            timed = clock.latency_slice(call, backend.synchronize, SECONDS / 2, 1e-3, 1, 10**6)
            assert timed.latencies is not None
            ours += timed.latencies
            if part == 0:
                theirs = server.probe(probe, images).latencies
        found.append(percentile(sorted(theirs), 90) / percentile(sorted(ours), 90))
    answer.put(found)


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["pytorch", "keras", "jax", "onnxruntime", "openvino"])
def test_p90_of_a_single_stream_is_that_of_latency(process: None, tmp_path: Path, name: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    answer = spawn.Queue()
    child = spawn.Process(target=ratios, args=(name, tmp_path, answer))
    child.start()
    found = answer.get(timeout=900)
    child.join()
    mean = math.exp(math.fsum(map(math.log, found)) / len(found))
    print(f"\n{name}: LoadGen's p90 over ours {mean:.3f}, by turn", [f"{ratio:.3f}" for ratio in found])
    assert mean == pytest.approx(1, abs=0.05)
