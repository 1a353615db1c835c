"""AOTInductor: PyTorch's compiler ahead of time. It compiles the program that another backend exported, and runs the
package without Python's tracing, on the CPU.

The package is made once for every batch size (the exported program's is free), before anything is timed; what a process
of ``pytorch --mode compile`` compiles is for one batch size.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from backends.base import Backend, Images, Labels, Unavailable


class Adapter(Backend):
    TASKS: ClassVar[frozenset[str]] = frozenset({"infer"})
    DEVICES: ClassVar[tuple[str, ...]] = ("cpu",)
    PRECISIONS: ClassVar[tuple[str, ...]] = ("fp32",)
    MODES: ClassVar[tuple[str, ...]] = ("package",)
    READS: ClassVar[tuple[str, ...]] = ("exported-program",)
    COMPILES: ClassVar[bool] = True
    REQUIRES: ClassVar[tuple[tuple[str, ...], ...]] = (("torch",),)
    EXTRA: ClassVar[str | None] = "pytorch"

    def __init__(self, device: str, precision: str, mode: str, threads: int, seed: int) -> None:
        import torch

        if shutil.which(os.environ.get("CXX", "g++")) is None:
            raise Unavailable("AOTInductor needs a C++ compiler: apt-get install g++")
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        self._torch = torch

    def versions(self) -> dict[str, str]:
        return {"torch": self._torch.__version__}

    def settings(self) -> dict[str, Any]:
        return {
            "threads": self._torch.get_num_threads(),
            "inter_op_threads": self._torch.get_num_interop_threads(),
            "cpu_capability": self._torch.backends.cpu.get_cpu_capability(),
            "fast_path": "AOTInductor package for every batch size, channels-first; torch.inference_mode",
        }

    def convert(self, path: Path, out: Path, calibration: Images, largest_batch: int) -> None:
        program = self._torch.export.load(path)
        # Compile as on a new machine: a cache would leave out the work.
        with self._torch._inductor.config.patch(force_disable_caches=True):
            self._torch._inductor.aoti_compile_and_package(program, package_path=str(out))

    def load(self, path: Path) -> None:
        self._package = self._torch._inductor.aoti_load_package(str(path))

    def to_device(self, x: Images, y: Labels | None = None) -> tuple[Any, Labels | None]:
        return self._torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))), y

    def forward(self, x: Any) -> Any:
        with self._torch.inference_mode():
            return self._package(x)

    def synchronize(self) -> None:
        """Nothing to do: the package runs on the CPU, and returns when it has finished."""

    def to_numpy(self, tensor: Any) -> Any:
        return tensor.numpy()


ADAPTERS = {"aot-inductor": Adapter}
