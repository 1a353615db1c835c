"""The built-in adapters with a part of their work repeated: slower by a known share of every step.

EVENBENCH_SLOWED names the share (0.02: two percent). After a step, its own wall time is taken, and one image is brought
into the framework's layout again and again, which takes microseconds, until that share of it has passed.
"""

from __future__ import annotations

import os
import time

from backends import keras, onnxruntime, pytorch


def _slowed(adapter):
    share = float(os.environ.get("EVENBENCH_SLOWED", "0"))

    class Slowed(adapter):
        def _repeated(self, method, *arguments):
            begin = time.perf_counter()
            result = method(*arguments)
            end = time.perf_counter()
            until = end + share * (end - begin)
            while share and time.perf_counter() < until:
                arguments[0][:1].copy() if hasattr(arguments[0], "copy") else arguments[0][:1]
            return result

        def infer(self, x):
            return self._repeated(super().infer, x)

        def train_step(self, x, y, learning_rate):
            return self._repeated(super().train_step, x, y, learning_rate)

    return Slowed


PyTorch, Keras, OnnxRuntime = (_slowed(module.Adapter) for module in (pytorch, keras, onnxruntime))
