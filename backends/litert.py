"""LiteRT (TensorFlow Lite): it runs the LiteRT file that another backend exported, on the CPU.

An interpreter is made for each batch size, because the input's shape is fixed before the delegate is applied. Its
threads are given when it is made: XNNPACK's pool never changes later. Python reaches the interpreter's tensors only by
copies, so each call copies its input in and its output out, as every user's call does.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import psutil

from backends.base import Backend, Images, Labels, Unavailable


class Placed(NamedTuple):
    """A batch, with the interpreter for its size."""

    interpreter: Any
    images: Images


class Adapter(Backend):
    TASKS: ClassVar[frozenset[str]] = frozenset({"infer"})
    DEVICES: ClassVar[tuple[str, ...]] = ("cpu",)
    PRECISIONS: ClassVar[tuple[str, ...]] = ("fp32", "int8")
    MODES: ClassVar[tuple[str, ...]] = ("xnnpack",)
    READS: ClassVar[tuple[str, ...]] = ("litert",)
    REQUIRES: ClassVar[tuple[tuple[str, ...], ...]] = (("ai-edge-litert",),)
    EXTRA: ClassVar[str | None] = "litert"

    def __init__(self, device: str, precision: str, mode: str, threads: int, seed: int) -> None:
        from ai_edge_litert import interpreter

        self._module, self._threads = interpreter, threads
        self._pool: int | None = None

    def versions(self) -> dict[str, str]:
        return {"ai-edge-litert": version("ai-edge-litert")}

    def settings(self) -> dict[str, Any]:
        made = next(iter(self._interpreters.values()), None) or self._interpreter((1, *self._sides))
        # It names neither the delegate nor its nodes; one DELEGATE follows for each part that the delegate runs.
        parts = sum(each["op_name"] == "DELEGATE" for each in made._get_ops_details())
        delegate = f"XNNPACK delegate, parts: {parts}" if parts else "built-in kernels, no delegate"
        return {
            "threads": self._pool,
            "delegated_parts": parts,
            "fast_path": f"{delegate}; an interpreter for each batch size; input and output are copied by each call",
        }

    def convert(self, path: Path, out: Path, calibration: Images, largest_batch: int) -> None:
        """int8: static, per channel, activations by minimum and maximum; input and output stay float32."""
        try:
            from ai_edge_quantizer import qtyping, quantizer, recipe
        except ImportError as error:
            raise Unavailable("int8 files are made by ai-edge-quantizer: pip install 'evenbench[litert]'") from error
        tool = quantizer.Quantizer(str(path))
        tool.load_quantization_recipe(recipe.static_wi8_ai8())
        for side in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
            tool.update_quantization_recipe(".*", side, algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE)
        ((signature, names),) = self._module.Interpreter(str(path)).get_signature_list().items()
        tool.quantize(tool.calibrate({signature: [{names["inputs"][0]: calibration}]})).export_model(
            str(out), overwrite=True
        )

    def load(self, path: Path) -> None:
        self._path = str(path)
        self._interpreters: dict[tuple[int, ...], Any] = {}
        made = self._make()
        (self._input,), (self._output,) = made.get_input_details(), made.get_output_details()
        self._sides = tuple(int(side) for side in self._input["shape_signature"][1:])

    def to_device(self, x: Images, y: Labels | None = None) -> tuple[Placed, Labels | None]:
        return Placed(self._interpreter(x.shape), np.array(x)), y

    def forward(self, x: Placed) -> Any:
        x.interpreter.set_tensor(self._input["index"], x.images)
        x.interpreter.invoke()
        return x.interpreter.get_tensor(self._output["index"])

    def synchronize(self) -> None:
        """Nothing to do: ``forward`` returns a copy of the output."""

    def to_numpy(self, tensor: Any) -> Any:
        return tensor

    def _interpreter(self, shape: tuple[int, ...]) -> Any:
        """The interpreter for inputs of this shape."""
        if shape not in self._interpreters:
            before, made = psutil.Process().num_threads(), self._make()
            made.resize_tensor_input(self._input["index"], shape)
            made.allocate_tensors()
            if self._pool is None:  # the interpreter does not say it; the thread that calls works too
                self._pool = 1 + psutil.Process().num_threads() - before
            self._interpreters[shape] = made
        return self._interpreters[shape]

    def _make(self) -> Any:
        return self._module.Interpreter(self._path, num_threads=self._threads)
