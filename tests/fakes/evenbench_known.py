"""Backends whose cost is known, to hold the harness and its statistics against.

All but ``Sleeps`` and ``Allocates`` keep their own time: a step moves the worker's clock on by exactly what it is said
to cost, so that what must come out can be worked out by hand, on a busy machine as on a quiet one.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
from evenbench_wrong import Right

from bench.worker import clock

SECONDS_PER_IMAGE = 0.001


class OwnTime(Right):
    """Every call costs ``cost(images)`` seconds of a clock that stands still otherwise."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        real, self.spent, self.calls = time.monotonic, 0.0, 0
        clock.now = lambda: self.spent
        time.monotonic = lambda: real() + self.spent  # a process' life is not shorter than its phases

    def cost(self, images):
        return images * SECONDS_PER_IMAGE

    def forward(self, x):
        self.calls += 1
        self.spent += self.cost(len(x))
        return super().forward(x)

    def train_step(self, x, y, learning_rate):
        self.calls += 1
        self.spent += 3 * self.cost(len(x))
        return super().train_step(x, y, learning_rate)


class Constant(OwnTime):
    """1,000 images/s."""


class Twice(OwnTime):
    """500 images/s."""

    def cost(self, images):
        return 2 * images * SECONDS_PER_IMAGE


class Bimodal(OwnTime):
    """Every tenth call takes five times as long."""

    def cost(self, images):
        return images * SECONDS_PER_IMAGE * (5 if self.calls % 10 == 0 else 1)


class Drifting(OwnTime):
    """Every call takes 1% longer than the one before it: never steady."""

    def cost(self, images):
        return images * SECONDS_PER_IMAGE * 1.01**self.calls


class SlowlyWarming(OwnTime):
    """The first call takes 40 times as long, each later one 15% less of what is too much."""

    def cost(self, images):
        return images * SECONDS_PER_IMAGE * (1 + 39 * 0.85 ** (self.calls - 1))


class Varying(OwnTime):
    """A process costs 1, 1.1, 1.3 times, in the order of their first calls (counted in a file)."""

    FACTORS: ClassVar = (1.0, 1.1, 1.3)

    def cost(self, images):
        if not hasattr(self, "_factor"):
            counter = Path(os.environ["EVENBENCH_KNOWN_COUNTER"])
            turn = len(counter.read_text()) if counter.exists() else 0
            counter.write_text("x" * (turn + 1))
            self._factor = self.FACTORS[turn % 3]
        return images * SECONDS_PER_IMAGE * self._factor

    def forward(self, x):
        if len(x) > 1 and self.calls == 0:
            return Right.forward(self, x)  # certifying
        return super().forward(x)

    def train_step(self, x, y, learning_rate):
        return Right.train_step(self, x, y, learning_rate)


class Sleeps(Right):
    """Really sleeps 20 ms per call."""

    def forward(self, x):
        time.sleep(0.02)
        return super().forward(x)


class Allocates(Right):
    """Holds 300 MB while it infers, in fresh pages at every tenth call."""

    _calls = itertools.count()

    def forward(self, x):
        if next(self._calls) % 10 == 0:
            np.ones(300_000_000, np.uint8)
        return super().forward(x)


class Paced(OwnTime):
    """1,000 images/s times EVENBENCH_PACE; each process differs by up to 0.1%, drawn by its number."""

    def cost(self, images):
        if not hasattr(self, "_pace"):
            counter = Path(os.environ["EVENBENCH_KNOWN_COUNTER"])
            number = len(counter.read_text()) if counter.exists() else 0
            counter.write_text("x" * (number + 1))
            difference = random.Random(number).uniform(-0.001, 0.001)
            self._pace = float(os.environ.get("EVENBENCH_PACE", "1")) * (1 + difference)
        return images * SECONDS_PER_IMAGE / self._pace
