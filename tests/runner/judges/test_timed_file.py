"""Timed outputs of a user's file beside those that a worker of its own computes for the same inputs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from worker_replies import REPORT, result

from bench.runner.interleaving import Kept
from bench.runner.judges import timed_file
from bench.runner.judges.timed_file import error_of
from bench.worker.file_outputs import LARGEST, elements
from bench.worker.protocol import KeptOutputs, ReadKept, Recomputed

ALLOWED = 1e-5


def test_elements_of_every_kind_of_output() -> None:
    floats = np.linspace(1, 2, 1000).reshape(10, 100)
    assert elements(floats, 3) == elements(floats.copy(), 3)
    assert elements(floats, 3)[:2] == (1000.0, 0.0)
    assert len(elements(floats, 3)) == 2 + 256
    assert elements(floats, 3) != elements(floats, 4)
    assert elements(np.array([], np.float32), 0) == (0.0, 0.0)
    assert elements(np.array([math.nan]), 0) == (1.0, 0.0, LARGEST)
    assert elements(np.array([7, 7], np.int64), 0) == (2.0, 1.0, 7.0, 7.0)
    assert elements([np.array(["a"]), np.array(["b"])], 0)[:2] == (2.0, 1.0), "a sequence of texts"
    assert elements(np.array(["a"]), 0) != elements(np.array(["b"]), 0)
    assert elements([{"cat": 0.25}], 0) == (1.0, 0.0, 0.25), "a sequence of maps"


@pytest.mark.parametrize(
    ("got", "want", "passes"),
    [
        ((2, 0, 1.0, 2.0), (2, 0, 1.0, 2.0 + 1e-6), True),
        ((2, 0, 1.0, 2.0), (2, 0, 1.0, 2.1), False),
        ((2, 0, 1.0, 2.0), (3, 0, 1.0, 2.0), False),
        ((2, 0, 1.0, LARGEST), (2, 0, 1.0, LARGEST), True),
        ((2, 0, 1.0, LARGEST), (2, 0, 1.0, 2.0), False),
        ((2, 0, 1.0, 2.0), (2, 1, 1.0, 2.0), False),
        ((30, 1, *range(30)), (30, 1, *range(30)), True),
        ((30, 1, *range(29), 77), (30, 1, *range(30)), True),
        ((30, 1, *range(15), *range(15)), (30, 1, *range(30)), False),
        ((29, 1, *range(29)), (30, 1, *range(30)), True),
        ((3, 1, 1, 2, 3), (30, 1, *range(30)), False),
        ((0, 0), (0, 0), True),
    ],
)
def test_elements_are_compared(got: tuple[float, ...], want: tuple[float, ...], passes: bool) -> None:
    assert (error_of(got, want, ALLOWED) <= ALLOWED) is passes


def test_the_worst_of_what_was_computed_anew_is_told() -> None:
    round_ = result().rounds[0]
    readings = next(each for each in round_.metrics if each.metric.task == "infer")
    values = ((tuple(elements(np.ones(4), 1)),), (tuple(elements(np.full(4, 3.0), 1)),))
    outputs = KeptOutputs(steps=(1, 4), batches=(1, 4), count=5, values=values, seconds=(0.0, 0.0))
    kept = Kept(9, ReadKept(elements=1), outputs)
    readings.slices[:] = [replace(reading, kept=kept) for reading in readings.slices]
    found = timed_file.timed(round_)
    assert {(drawn.seed, drawn.batch, drawn.count, drawn.elements) for drawn, _, _ in found} == {
        (9, 1, 5, 1), (9, 4, 5, 1)
    }  # fmt: skip
    anew = {1: elements(np.ones(4), 1), 4: elements(np.full(4, 3.1), 1)}
    wanted = tuple(anew[drawn.batch] for drawn, _, _ in found)
    verdict = timed_file.judge(found, Recomputed(values=wanted, report=REPORT), ALLOWED)
    assert verdict is not None
    assert (verdict.name, verdict.passed) == ("timed_outputs", False)
    assert verdict.value == pytest.approx(0.1 / 3.1)
    assert verdict.note.startswith("2 outputs of timed steps; worst in ")
    assert timed_file.judge(found, Recomputed(values=(), report=REPORT), ALLOWED) is None
