"""Timed steps: every one on a batch of its own, renewed by a seed; kept outputs are those that the steps made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.worker import timed_steps
from bench.worker.protocol import Boundary, Task, TimedMetric
from bench.worker.timed_inputs import GAINS, SHIFTS, Draw
from bench.worker.timed_steps import LARGEST, TimedSteps

IMAGES = np.random.default_rng(0).normal(size=(50, 4, 4, 1)).astype(np.float32)


class Doubles:
    """A backend whose output is twice the first pixel; its device is a list."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def to_device(self, x: Any, y: Any = None) -> tuple[list[Any], Any]:
        self.events.append("placed")
        return [x], y

    def synchronize(self) -> None:
        self.events.append("fence")

    def forward(self, x: list[Any]) -> list[Any]:
        return [2 * x[0][:, 0, 0, :]]

    def to_numpy(self, tensor: list[Any]) -> Any:
        return tensor[0]

    def infer(self, x: Any) -> Any:
        return 2 * x[:, 0, 0, :]

    def train_step(self, x: list[Any], y: Any, rate: float) -> list[Any]:
        return [np.float32(x[0].mean() * rate)]


def draw(seed: int, size: int, count: int) -> list[Any]:
    drawn = Draw.of(seed, len(IMAGES), size, count)
    return [(drawn.batch(IMAGES, number), drawn.index[number]) for number in range(count)]


def steps(task: Task = "infer", boundary: Boundary = "end-to-end", backend: Any = None) -> TimedSteps:
    return TimedSteps(backend or Doubles(), TimedMetric("throughput", task, 6, boundary), 0.5, draw)


def test_the_same_seed_is_the_same_inputs_here_and_there() -> None:
    one, other = Draw.of(3, 50, 6, 4), Draw.of(3, 50, 6, 4)
    assert np.array_equal(one.batch(IMAGES, 2), other.batch(IMAGES, 2))
    assert np.array_equal(one.batch(IMAGES, 2, np.array([1, 4])), one.batch(IMAGES, 2)[[1, 4]])
    assert not np.array_equal(one.batch(IMAGES, 2), Draw.of(4, 50, 6, 4).batch(IMAGES, 2))
    back = (one.batch(IMAGES, 0) - one.shift[0][:, None, None, None]) / one.gain[0][:, None, None, None]
    assert back == pytest.approx(IMAGES[one.index[0]], abs=1e-6)
    assert GAINS[0] <= one.gain.min() <= one.gain.max() <= GAINS[1]
    assert SHIFTS[0] <= one.shift.min() <= one.shift.max() <= SHIFTS[1]


def test_the_images_of_a_run_are_not_changed() -> None:
    before = IMAGES.copy()
    Draw.of(0, 50, 6, 4).batch(IMAGES, 0)
    assert np.array_equal(IMAGES, before)


@pytest.mark.parametrize("boundary", ["end-to-end", "device"])
def test_kept_outputs_are_of_their_steps_and_rows(boundary: Boundary) -> None:
    timed = steps(boundary=boundary)
    timed.renew(11, steps=8, keep=(0.0, 0.999))
    for _ in range(8):
        timed()
    kept = timed.outputs((1, 5))
    assert (kept.steps, kept.batches, kept.count, len(kept.seconds)) == ((0, 7), (0, 7), 8, 2)
    drawn = Draw.of(11, 50, 6, 8)
    for batch, values in zip(kept.batches, kept.values, strict=True):
        want = 2 * drawn.batch(IMAGES, batch, np.array([1, 5]))[:, 0, 0, :]
        assert np.asarray(values) == pytest.approx(want)
    assert timed.outputs((0,)).values == (), "they are given away once"


def test_inputs_are_on_the_device_before_the_clock() -> None:
    backend = Doubles()
    timed = steps(boundary="device", backend=backend)
    timed.renew(0, steps=3)
    assert backend.events == ["placed"] * 3 + ["fence"]
    timed()
    assert backend.events[-1] == "fence", "nothing is placed in a step"


def test_of_a_training_step_its_loss_is_kept() -> None:
    timed = steps(task="train")
    timed.renew(5, steps=2, keep=(0.5,))
    timed(), timed()
    assert timed.outputs((0, 1)).values == ((pytest.approx(0.5 * Draw.of(5, 50, 6, 2).batch(IMAGES, 1).mean()),),)


def test_what_is_not_finite_is_no_number_of_json() -> None:
    class Broken(Doubles):
        def infer(self, x: Any) -> Any:
            return np.full((len(x), 1), np.nan)

    timed = steps(backend=Broken())
    timed.renew(0, steps=1, keep=(0.0,))
    timed()
    assert timed.outputs((0,)).values == (((LARGEST,),),)


def test_up_to_the_pool_no_batch_comes_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = steps()
    assert timed.renew(0, steps=1000) == 1000
    monkeypatch.setattr(timed_steps, "POOL_BYTES", 10 * 6 * 4 * 4 * 4)
    assert steps().renew(0, steps=1000) == 10
    assert steps().renew(0, steps=3) == 3


def test_the_batches_of_a_users_file_stay() -> None:
    drawn: list[int] = []

    def draw_once(seed: int, size: int, count: int) -> list[Any]:
        drawn.append(count)
        return [({"x": IMAGES[:size]}, None)] * count

    timed = TimedSteps(Doubles(), TimedMetric("throughput", "infer", 6, "end-to-end"), 0.5, draw_once, renews=False)  # type: ignore[arg-type]
    for seed in range(3):
        assert timed.renew(seed, steps=100) == timed_steps.FEWEST_BATCHES
    assert drawn == [timed_steps.FEWEST_BATCHES]


def test_in_warm_up_no_batch_is_used_twice() -> None:
    timed, seen = steps(), []
    backend = timed._backend
    backend.infer = lambda x: seen.append(x.tobytes())  # type: ignore[method-assign]
    for _ in range(9):
        timed.renew_if_used()
        timed()
    assert len(set(seen)) == 9
