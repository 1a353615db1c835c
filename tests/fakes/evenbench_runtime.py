"""Runtimes with a fault that is seen only where their outputs are judged."""

from __future__ import annotations

from backends.onnxruntime import Adapter as OnnxRuntime
from backends.openvino import Adapter as OpenVino


class Remembers(OnnxRuntime):
    """Gives the first output for every batch of a size."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._known = {}

    def infer(self, x):
        size = len(next(iter(x.values()))) if isinstance(x, dict) else len(x)
        if size not in self._known:
            self._known[size] = super().infer(x)
        return self._known[size]


class WrongWhenOptimized(OnnxRuntime):
    """Every value is a tenth too large, unless all optimizations are off."""

    def __init__(self, device, precision, mode, *arguments):
        super().__init__(device, precision, mode, *arguments)
        self._factor = 1.0 if mode == self.UNOPTIMIZED_MODE else 1.1

    def outputs(self, x):
        return {name: self._factor * value for name, value in super().outputs(x).items()}


class HintLeftOut(OpenVino):
    """With OpenVINO's defaults, which compute in bfloat16 where the processor has it."""

    def _properties(self):
        return {name: value for name, value in super()._properties().items() if name != "INFERENCE_PRECISION_HINT"}
