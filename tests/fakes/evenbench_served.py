"""Adapters whose cost under load is known, and ones that are wrong only there."""

from __future__ import annotations

import time

import numpy as np
from evenbench_wrong import Right

SERVICE = 0.002
SPIN = 0.0003
"""Seconds before the end in which it no longer sleeps: the kernel wakes it late."""


class Constant(Right):
    """Every call of inference takes two milliseconds, whatever its batch."""

    def infer(self, x):
        end = time.perf_counter() + SERVICE
        logits = super().infer(x)
        time.sleep(max(0.0, end - SPIN - time.perf_counter()))
        while time.perf_counter() < end:
            time.sleep(0)  # others may run Python
        return logits


class AnswersTheFirst(Right):
    """Gives every request of a batch the answer to the first one, once it has served many."""

    _calls = 0

    def infer(self, x):
        logits = super().infer(x)
        AnswersTheFirst._calls += 1
        return logits if AnswersTheFirst._calls < 100 else np.repeat(logits[:1], len(x), axis=0)


class FailsUnderLoad(Right):
    """Raises after many calls."""

    _calls = 0

    def infer(self, x):
        FailsUnderLoad._calls += 1
        if FailsUnderLoad._calls > 100:
            raise RuntimeError("too many requests")
        return super().infer(x)
