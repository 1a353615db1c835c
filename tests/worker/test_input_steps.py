"""What is timed of an input pipeline: which batches, and what was ready before."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from backends.base import ImageFiles
from bench.worker import input_steps
from bench.worker.input_draws import InputDraw
from bench.worker.input_steps import InputSteps, InputStream
from bench.worker.protocol import TimedMetric
from bench.workloads.recipe import Augmentation
from bench.workloads.workload import RECIPES

RECIPE = RECIPES["article-pytorch"]
PLAIN = TimedMetric("input_throughput", "input", 2, "end-to-end")
FED = TimedMetric("fed_throughput", "input", 2, "end-to-end")
FILES = ImageFiles(tuple("abcde"), np.arange(5), (4, 4, 1), 0, False, 0, RECIPE.mean, RECIPE.std)


class Pipeline:
    """Gives the number of every image's file as its one pixel."""

    describes = "fake"

    def __init__(self, ahead: int) -> None:
        self.ahead, self.asked, self.most = ahead, deque[Any](), 0

    def ask(self, entries: Any) -> None:
        self.asked.append(entries)
        self.most = max(self.most, len(self.asked))

    def next(self) -> Any:
        files = self.asked.popleft()[:, 0]
        return files[:, None].astype(np.float32), files

    def to_host(self, x: Any, y: Any) -> Any:
        return x, y

    def close(self) -> None:
        pass


class Backend:
    def __init__(self) -> None:
        self.trained: list[Any] = []
        self.fences = 0

    def train_step(self, x: Any, y: Any, rate: float) -> None:
        self.trained.append(y)

    def synchronize(self) -> None:
        self.fences += 1


def steps(ahead: int, metric: TimedMetric = PLAIN) -> tuple[InputSteps, Pipeline, Backend]:
    pipeline, backend = Pipeline(ahead), Backend()
    stream: Any = InputStream(pipeline, FILES, 2, RECIPE)  # type: ignore[arg-type]
    return InputSteps(backend, stream, metric, 0.1), pipeline, backend  # type: ignore[arg-type]


def files_of(seed: int, count: int) -> list[list[int]]:
    draw = InputDraw.of(seed, 5, (4, 4, 1), 2, count, Augmentation())
    return draw.file.reshape(count, 2).tolist()


@pytest.mark.parametrize("ahead", [0, 3])
def test_a_slice_is_of_the_batches_that_were_drawn_for_it(ahead: int) -> None:
    made, pipeline, _ = steps(ahead)
    made.renew_if_used()
    made()  # a warm-up: something is ahead now
    for seed in (1, 2):
        count = made.renew(seed, 4, keep=(0.0, 0.5))
        assert count == 4 + ahead
        made.settle()
        for _ in range(4):
            made()
        kept = made.outputs((0, 1))
        assert kept.batches == (0, 2)
        want = files_of(seed, count)
        got = [[int(row[0]) for row in batch] for batch in kept.values]
        assert got == [want[0], want[2]]
        assert [[int(row[1]) for row in batch] for batch in kept.values] == got, "the pixels"
    assert pipeline.most == ahead + 1, "no more is known beforehand"


def test_what_was_asked_for_before_is_taken_before_the_clock_begins() -> None:
    made, pipeline, _ = steps(3)
    made.renew_if_used()
    made()
    assert len(pipeline.asked) == 3
    made.renew(1, 4)
    made.settle()
    asked = [entries[:, 0].tolist() for entries in pipeline.asked]
    assert asked == files_of(1, 7)[:3], "all that is ahead was asked for just now"


def test_a_fed_step_trains_on_its_batch_and_says_how_long_it_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _, backend = steps(0, FED)
    times = iter([0.0, 1.0, 1.5, 2.0, 5.0, 6.0])
    monkeypatch.setattr(input_steps.clock, "now", lambda: next(times))
    made.renew(1, 2)
    made()
    made()
    assert [labels.tolist() for labels in backend.trained] == files_of(1, 2)
    assert backend.fences == 2, "every step is waited for"
    assert made.stalled(2) == 1.0 + 3.0
    assert made.stalled(1) == 3.0, "the untimed step does not count"
    assert steps(0)[0].stalled(2) is None, "no training, no stall"


def test_a_stream_says_how_images_are_changed() -> None:
    files = replace(FILES, crop_padding=2, flip=True, cutout=3)
    stream = InputStream(Pipeline(0), files, 2, RECIPE)  # type: ignore[arg-type]
    assert stream.describes == "fake; 5 PNG files of 4x4x1, padded by 2 and cropped, flipped, a square of 3 cut out"


def test_reading_the_last_batch_takes_time_if_it_was_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _, _ = steps(0)
    made.renew(1, 1)
    assert made.read_last() is None
    made()
    times = iter([1.0, 1.25])
    monkeypatch.setattr(input_steps.clock, "now", lambda: next(times))
    assert made.read_last() == 0.25


def test_halves_show_what_was_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _, _ = steps(0)
    made.renew(1, 5)
    ends = [0.0, 0.1, 0.2, 0.7, 1.2]
    times = iter([time for end in ends for time in (end, end, end)])
    monkeypatch.setattr(input_steps.clock, "now", lambda: next(times))
    for _ in ends:
        made()
    assert made.halves(5) == pytest.approx(5.0)
    assert made.halves(4) is None, "too few steps"
