"""Timed steps: every one on a batch of its own, renewed by a seed; kept outputs are those that the steps made."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from bench.worker import timed_steps
from bench.worker.file_outputs import LARGEST, elements
from bench.worker.protocol import Boundary, Task, TimedMetric
from bench.worker.timed_inputs import GAINS, SHIFTS, Draw, FileDraw
from bench.worker.timed_steps import TimedSteps

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


def test_the_last_output_is_read_when_a_slice_ends() -> None:
    """An adapter that does not wait for it is seen by the seconds."""

    class Late(Doubles):
        def to_numpy(self, tensor: Any) -> Any:
            self.events.append("read")
            time.sleep(0.02)
            return super().to_numpy(tensor)

    backend = Late()
    timed = steps(boundary="device", backend=backend)
    timed.renew(0, steps=2)
    timed(), timed()
    assert (timed.read_last() or 0.0) >= 0.02
    assert backend.events.count("read") == 1
    end_to_end = steps(boundary="end-to-end", backend=backend)
    end_to_end.renew(0, steps=1)
    end_to_end()
    end_to_end.read_last()
    assert backend.events.count("read") == 1, "its output is on the host"
    timed.renew(0, steps=5)
    timed()
    assert timed.read_last() is None, "a slice that ended before its last step has read nothing"


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


FILE = {"x": np.random.default_rng(1).uniform(2, 3, (7, 5)), "ids": np.arange(14).reshape(2, 7), "k": np.array(4)}
AXES = {"x": 0, "ids": 1}


def draw_of_file(seed: int, size: int, count: int) -> list[Any]:
    drawn = FileDraw.of(seed, 7, size, count)
    return [(drawn.batch(FILE, AXES, frozenset({"x"}), number), None) for number in range(count)]


def test_batches_of_a_users_file_are_others_of_the_same_range() -> None:
    batches = [batch for batch, _ in draw_of_file(3, 6, 40)]
    assert len({batch["x"].tobytes() for batch in batches}) == 40, "none comes twice"
    assert all(batch["x"].shape == (6, 5) and 2 <= batch["x"].min() <= batch["x"].max() <= 3 for batch in batches)
    assert all(np.array_equal(batch["ids"][0] + 7, batch["ids"][1]) for batch in batches), "whole samples"
    assert all(batch["k"] == 4 for batch in batches), "what has no batch stays"
    assert all(batch[name].dtype == FILE[name].dtype for batch in batches for name in FILE)
    drawn = FileDraw.of(3, 7, 6, 40)
    given = [drawn.batch(FILE, AXES, frozenset(), number)["x"] for number in range(40)]
    assert all(row.tolist() in FILE["x"].tolist() for batch in given for row in batch), (
        "what a user gives is not changed"
    )
    assert np.array_equal(draw_of_file(3, 6, 40)[17][0]["x"], batches[17]["x"]), "the judge draws the same"


@pytest.mark.parametrize("boundary", ["end-to-end", "device"])
def test_of_a_users_file_some_elements_are_kept(boundary: Boundary) -> None:
    class Doubles5(Doubles):
        def forward(self, x: Any) -> Any:
            return [2 * x[0]["x"]]

        def infer(self, x: Any) -> Any:
            return 2 * x["x"]

    timed = TimedSteps(Doubles5(), TimedMetric("throughput", "infer", 6, boundary), 0.5, draw_of_file)  # type: ignore[arg-type]
    assert timed.renew(8, steps=10, keep=(0.35,)) == 10
    for _ in range(10):
        timed()
    kept = timed.outputs((), seed=5)
    assert (kept.steps, kept.batches, kept.count) == ((3,), (3,), 10)
    want = FileDraw.of(8, 7, 6, 10).batch(FILE, AXES, frozenset({"x"}), 3)
    assert kept.values[0][0] == elements(2 * want["x"], 5)


def test_in_warm_up_no_batch_is_used_twice() -> None:
    timed, seen = steps(), []
    backend = timed._backend
    backend.infer = lambda x: seen.append(x.tobytes())  # type: ignore[method-assign]
    for _ in range(9):
        timed.renew_if_used()
        timed()
    assert len(set(seen)) == 9
