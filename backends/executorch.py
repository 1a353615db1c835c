"""ExecuTorch: it lowers the program that another backend exported to XNNPACK, and runs it on the CPU.

It is best installed in an environment of its own (``--python executorch=PATH``), because it brings many packages. The
memory of a program is planned for its largest batch; the example that it is exported with is of that size, because
PyTorch's export with a smaller one holds convolutions to fewer than 16 images.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from backends.base import Backend, Images, Labels


class Adapter(Backend):
    TASKS: ClassVar[frozenset[str]] = frozenset({"infer"})
    DEVICES: ClassVar[tuple[str, ...]] = ("cpu",)
    PRECISIONS: ClassVar[tuple[str, ...]] = ("fp32",)
    MODES: ClassVar[tuple[str, ...]] = ("xnnpack",)
    READS: ClassVar[tuple[str, ...]] = ("exported-program",)
    COMPILES: ClassVar[bool] = True
    REQUIRES: ClassVar[tuple[tuple[str, ...], ...]] = (("executorch",), ("torch",))
    EXTRA: ClassVar[str | None] = "executorch"

    def __init__(self, device: str, precision: str, mode: str, threads: int, seed: int) -> None:
        import torch
        from executorch.extension.pybindings import portable_lib

        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        # Before a program is loaded: its default is one thread per core of the machine, whatever CPUs the process has.
        portable_lib._unsafe_reset_threadpool(threads)
        self._torch, self._library = torch, portable_lib

    def versions(self) -> dict[str, str]:
        return {"executorch": version("executorch"), "torch": self._torch.__version__}

    def settings(self) -> dict[str, Any]:
        nodes = ", ".join(f"{name}: {count}" for name, count in self._nodes.items())
        return {
            "threads": self._library._threadpool_get_thread_count(),
            "nodes_per_backend": self._nodes,
            "fast_path": f"nodes by backend: {nodes}; memory planned for {self._largest} images",
        }

    def convert(self, path: Path, out: Path, calibration: Images, largest_batch: int) -> None:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        export = self._torch.export
        free = ({0: export.Dim("batch", min=1, max=largest_batch)},)
        images = self._torch.zeros(largest_batch, *np.moveaxis(calibration[:1], 3, 1).shape[1:])
        program = export.export(export.load(path).module(), (images,), dynamic_shapes=free)
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        counts = _nodes_per_backend(lowered.exported_program().graph_module)
        out.write_bytes(lowered.to_executorch().buffer)
        _facts(out).write_text(json.dumps({"nodes": counts, "largest_batch": largest_batch}))

    def load(self, path: Path) -> None:
        from executorch.runtime import Runtime, Verification

        facts = json.loads(_facts(path).read_text())
        self._nodes, self._largest = facts["nodes"], facts["largest_batch"]
        self._program = Runtime.get().load_program(path, verification=Verification.InternalConsistency)
        self._method = self._program.load_method("forward")

    def to_device(self, x: Images, y: Labels | None = None) -> tuple[Any, Labels | None]:
        return self._torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))), y

    def forward(self, x: Any) -> Any:
        return self._method.execute([x])[0]

    def synchronize(self) -> None:
        """Nothing to do: ``execute`` returns when it has finished."""

    def to_numpy(self, tensor: Any) -> Any:
        return tensor.numpy()


def _facts(program: Path) -> Path:
    """The file with what a program does not say of itself."""
    return program.with_suffix(".json")


def _nodes_per_backend(graph: Any) -> dict[str, int]:
    """Nodes that XNNPACK runs, and nodes that fell to the portable kernels, which are a reference, not fast."""
    from executorch.exir.dialects.edge._ops import EdgeOpOverload
    from executorch.exir.lowered_backend_module import LoweredBackendModule

    parts = [each for each in graph.children() if isinstance(each, LoweredBackendModule)]
    delegated = [
        node for part in parts for node in part.original_module.graph.nodes if isinstance(node.target, EdgeOpOverload)
    ]
    portable = [node for node in graph.graph.nodes if isinstance(node.target, EdgeOpOverload)]
    return {"XNNPACK": len(delegated), "portable": len(portable)}
