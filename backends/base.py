"""The contract between the harness and a backend: one page, no framework.

Canonical layout, at every border: images ``(N, H, W, C)`` float32, labels ``(N,)`` int64, convolution kernels
``(kh, kw, in, out)``, dense kernels ``(in, out)`` with inputs flattened in H, W, C order. An adapter whose
framework wants another layout transposes at the border.

A built-in adapter is a file of this folder with a class ``Adapter``; a third-party one is a class behind an entry
point of the group ``evenbench.backends``. Either is found by its name, and nothing else needs an edit. Module level
of an adapter stays light: the parent process reads the capabilities below and must not import a framework.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from backends.model import ModelSpec, Weights

Images: TypeAlias = npt.NDArray[np.float32]
Labels: TypeAlias = npt.NDArray[np.int64]
Tensor: TypeAlias = Any
"""A framework's own tensor, on the device."""


class Unsupported(Exception):
    """The backend cannot do what was asked, by its nature; the message says what and why."""


class Unavailable(Exception):
    """What the backend needs is missing here (a package, a driver, a GPU); the message says how to get it."""


@dataclass(frozen=True)
class Optimizer:
    """SGD with heavy-ball or Nesterov momentum, Adam (Kingma & Ba 2015), or AdamW (Loshchilov & Hutter 2019). The
    learning rate comes with each step. ``backends.optimizers`` has the updates, and where frameworks differ in them.

    ``weight_decay`` is for all trained weights: with ``sgd`` and ``adam`` added to the gradient, with ``adamw`` taken
    off the weight.
    """

    name: Literal["sgd", "adam", "adamw"]
    momentum: float = 0.0
    nesterov: bool = False
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-7
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Training:
    """What a model is built for when it is to be trained."""

    optimizer: Optimizer
    label_smoothing: float = 0.0
    """s: targets are (1 - s) one-hot + s / classes (Szegedy et al. 2016, section 7)."""
    frozen: frozenset[str] = frozenset()
    """Canonical names of weights that the optimizer leaves alone; batch normalization whose gamma is among them
    normalizes by its running statistics in training too, and keeps them."""


class Backend(Protocol):
    """One framework or runtime on one device. Every public method is in the field's terms; units in docstrings."""

    TASKS: ClassVar[frozenset[str]]
    """Of ``train`` (a training step can be timed), ``infer``, ``fit`` (trains a workload to its end), ``export``."""
    DEVICES: ClassVar[tuple[str, ...]]
    """Of ``cpu``, ``cuda``."""
    PRECISIONS: ClassVar[tuple[str, ...]]
    """Of ``fp32``, ``fp64``, ...; the first is the default."""
    MODES: ClassVar[tuple[str, ...]]
    """Ways to run the same model, the first is the default: ``eager``, ``graph``, ..."""
    CONTENDS: ClassVar[bool] = True
    """False for a backend that judges the others: it is measured, but no other row is compared with it."""
    NEEDS_SOURCE: ClassVar[bool] = False
    """True for a runtime that reads the ONNX file another backend exported."""
    TOLERANCES: ClassVar[Mapping[str, Mapping[str, float]]] = {}
    """Of a precision that ``bench.worker.tolerances`` does not have: by precision and check, how far the backend may be
    off the reference (a share, as there), such as ``{"fp8": {"logits": 0.1, "gradients": 0.6, ...}}``. The certificate
    says that they are the adapter's own. Without them a row of such a precision is ``unsupported``."""
    REQUIRES: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Distributions (PyPI names) it needs; each entry lists alternatives, one of which must be installed."""
    EXTRA: ClassVar[str | None] = None
    """The extra of ``evenbench`` that installs them."""

    def __init__(self, device: str, precision: str, mode: str, threads: int, seed: int) -> None:
        """Configure the framework; ``threads`` is intra-op, inter-op is 1. ``device`` is ``cpu`` or ``cuda``: the
        harness leaves one GPU visible.

        Raises:
            Unavailable: no such device here (never a silent fall-back to the CPU).
            Unsupported: no such precision or mode.
        """

    def versions(self) -> dict[str, str]:
        """Package name to version, the framework's own first."""

    def settings(self) -> dict[str, Any]:
        """What the framework says of itself, read back after ``build`` or ``load``: ``threads`` (intra-op, int),
        ``fast_path`` (one line: how this row is run), and what else decides speed (TF32, autotuning, providers)."""

    def build(self, model: ModelSpec, weights: Weights, training: Training | None) -> None:
        """Build the model natively with these canonical weights; ``training`` None builds for inference only.

        Raises:
            Unsupported: a layer or optimizer that the adapter does not have.
        """
        raise Unsupported("it builds no models; it reads another backend's ONNX file")

    def load(self, onnx_path: Path) -> None:
        """Load an ONNX file (``NEEDS_SOURCE`` only), batch dimension free. Raises as ``__init__``."""
        raise Unsupported("it reads no ONNX files")

    def convert(self, onnx_path: Path, out: Path, calibration: Images) -> None:
        """Write the file in this precision (``NEEDS_SOURCE`` only, other than fp32), for ``load``; done once, outside
        all clocks. ``calibration``: normalized training images."""
        raise Unsupported("it converts no ONNX files")

    def to_device(self, x: Images, y: Labels | None = None) -> tuple[Tensor, Tensor | None]:
        """Host arrays in canonical layout to what ``forward`` and ``train_step`` take: layout, copy, placement."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, classes)`` in evaluation mode; may return before the device is done."""

    def train_step(self, x: Tensor, y: Tensor, learning_rate: float, dropout_masks: Weights | None = None) -> Tensor:
        """Forward, mean softmax cross-entropy, backward, update; returns the loss before the update (scalar).

        ``dropout_masks``: layer name to ``(N, ...)``, canonical host arrays that stand for the framework's own draws
        (``ModelSpec.dropout_masks``); parity gives them, timing does not.
        """
        raise Unsupported("it does not train")

    def gradients(self, x: Tensor, y: Tensor, dropout_masks: Weights | None = None) -> Weights:
        """Gradients of the mean loss in training mode, canonical names and layout, of the weights that are trained;
        changes nothing, running statistics included."""
        raise Unsupported("it has no gradients")

    def weights(self) -> Weights:
        """The model's weights now, running statistics included, canonical names and layout, host float arrays."""
        raise Unsupported("it does not give its weights")

    def synchronize(self) -> None:
        """Block until the device has finished all work that was submitted."""

    def to_numpy(self, tensor: Tensor) -> npt.NDArray[Any]:
        """A tensor's values on the host (blocks until they are there)."""

    def infer(self, x: Images) -> npt.NDArray[Any]:
        """End to end: host images in, host logits ``(N, classes)`` out, the way that its users would write it."""
        return self.to_numpy(self.forward(self.to_device(x)[0]))

    def export_onnx(self, path: Path) -> None:
        """Write the model as ONNX by the framework's own exporter, batch dimension dynamic, in one file."""
        raise Unsupported("it has no ONNX exporter")

    def counts(self) -> dict[str, int]:
        """The framework's own count, for the check against the spec: ``parameters``; ``flops`` of one image's
        forward pass (2 per multiply-accumulate of convolutions and dense layers). What it cannot count is absent."""
        return {}

    def device_memory(self) -> dict[str, int]:
        """The framework's own statistics in bytes (``peak_allocated``, ``peak_reserved``); empty if it has none."""
        return {}

    def out_of_memory(self, error: BaseException) -> bool:
        """Whether ``error`` is this framework's way to say that memory ran out."""
        return isinstance(error, MemoryError)

    def gpu_probe(self) -> dict[str, float]:
        """What ``bench gpu-check`` asks of a framework on CUDA; its keys are named in ``bench.machine.gpu_checks``."""
        raise Unsupported("it has no GPU probe")
