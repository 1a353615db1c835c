"""The interface between the harness and a backend. Imports no framework.

Canonical layout of all arguments and results: images ``(N, H, W, C)`` float32, labels ``(N,)`` int64, convolution
kernels ``(kh, kw, in, out)``, dense kernels ``(in, out)`` with inputs flattened in H, W, C order. An adapter
whose framework has another layout transposes them.

A built-in adapter is a file of this folder with a class ``Adapter``; a third-party one is a class behind an entry
point of the group ``evenbench.backends``. Both are found by name; no other file needs an edit. An adapter must not
import its framework at module level, because the parent process reads the capabilities below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from backends.model import ModelSpec, Shape, Weights
from backends.script import Script

Images: TypeAlias = npt.NDArray[np.float32]
Labels: TypeAlias = npt.NDArray[np.int64]
Tensor: TypeAlias = Any
"""A framework's own tensor, on the device."""

SUFFIXES = {"onnx": ".onnx", "litert": ".tflite", "exported-program": ".pt2"}
"""The formats of model files, with the ends of their names: ONNX, LiteRT (TensorFlow Lite), PyTorch's exported program.
A third-party adapter may read and write others."""

BUILD = " build"


def model_file(format_name: str) -> str:
    """The name of a model file of this format."""
    return f"model{SUFFIXES.get(format_name, '.' + format_name)}"


def build_of(package: str) -> str:
    """The key of ``Backend.versions`` for what this package was built for."""
    return package + BUILD


class Operator(NamedTuple):
    """What the framework's profiler says of one operator, summed over its calls in a step."""

    name: str
    """The framework's own, such as ``aten::convolution`` or a node's name."""
    kind: str
    """Of a node of a file: its operator, such as ``Conv``; else empty."""
    layer: str
    """Canonical name of the layer that it belongs to; empty: not known here."""
    backward: bool
    seconds: float
    """Of a step, without the operators that it calls."""
    note: str = ""
    """What is remarkable, such as that it fell to a reference implementation."""


ROOF_OUTPUT, ROOF_CHANNELS, ROOF_KERNEL = 16, 256, 3
"""Of the roof's convolution: sides of its output and of its kernel, channels in and out."""


def roof_convolution(size: int) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    """Shapes ``(N, H, W, C)`` and ``(kh, kw, in, out)`` of a convolution without padding, of as many FLOPs as the
    product of two ``(size, size)`` matrices; no images where that is less than one."""
    images = size**3 // (ROOF_OUTPUT * ROOF_KERNEL * ROOF_CHANNELS) ** 2
    side = ROOF_OUTPUT + ROOF_KERNEL - 1
    return (images, side, side, ROOF_CHANNELS), (ROOF_KERNEL, ROOF_KERNEL, ROOF_CHANNELS, ROOF_CHANNELS)


OUTSIDE = {"loss": "(loss)", "optimizer": "(optimizer)"}
"""Names in place of a layer's, for what is no layer."""


@dataclass(frozen=True)
class ImageFiles:
    """Image files (PNG, without loss) that an input pipeline reads, and what it makes of them."""

    paths: tuple[str, ...]
    labels: Labels
    shape: Shape
    """Of a decoded image: height, width, channels."""
    crop_padding: int
    """Width of a border of zeros around the image, out of which a window of the image's size is cut."""
    flip: bool
    cutout: int
    """Side of a square that is set to zero; 0: none is."""
    mean: float
    std: float
    """An input is (pixel / 255 - mean) / std, after all these changes, as float32."""


ENTRY = ("file", "top", "left", "flipped", "hole_top", "hole_left")
"""What an input pipeline gets for each image, in int32: which file it reads; the corner of the window, in the image
with its border; whether left and right are swapped; the corner of the square, which may lie outside of the image."""


class InputPipeline(Protocol):
    """An endless stream of batches: the framework's own loader, as its users write it. It makes batches ahead while
    steps run. A batch is asked for by ``ask``, and comes by ``next``, in the order of asking."""

    ahead: int
    """Batches that must be asked for beyond the one that comes next, so that it can work as it likes."""
    describes: str
    """One line: what it consists of."""

    def ask(self, entries: npt.NDArray[np.int32]) -> None:
        """One more batch of the stream, ``(batch size, len(ENTRY))``."""

    def next(self) -> tuple[Tensor, Tensor]:
        """The next batch: images and labels as ``train_step`` takes them."""

    def to_host(self, x: Tensor, y: Tensor) -> tuple[Images, Labels]:
        """A batch on the host, in canonical layout."""

    def close(self) -> None:
        """End its workers."""


@dataclass(frozen=True)
class Spread:
    """Training on several processes or devices, each of which has an equal part of every batch (data parallel). The
    update is that of the whole batch: gradients are averaged."""

    count: int
    rank: int = 0
    """Of this process, from 0; of devices of one process always 0."""

    def part(self, images: int) -> slice:
        """The images of a batch that are this process' own; ``images`` is a multiple of ``count``."""
        each = images // self.count
        return slice(self.rank * each, (self.rank + 1) * each)


class Launch(NamedTuple):
    """How the processes of a ``Spread`` are started."""

    arguments: tuple[str, ...]
    """Of the interpreter: those of the framework's own launcher; the module that each process runs follows."""
    environment: Mapping[str, str]
    """Added to that of the processes."""
    rank: str
    """The environment variable by which the launcher tells a process its rank."""


PROCESSES, DEVICES = "processes", "devices"
"""What a backend trains on several of (``Backend.SCALES_BY``)."""


class Unsupported(Exception):
    """The backend can never do this; the message says what and why."""


class Unavailable(Exception):
    """The backend needs something that is missing here (a package, a driver, a GPU); the message says how to get it."""


@dataclass(frozen=True)
class Optimizer:
    """SGD with heavy-ball or Nesterov momentum, Adam (Kingma & Ba 2015), or AdamW (Loshchilov & Hutter 2019). The
    learning rate is an argument of each step. ``backends.optimizers`` has the updates and their variants.

    ``weight_decay`` applies to all trained weights: ``sgd`` and ``adam`` add it to the gradient, ``adamw`` subtracts it
    from the weight.
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
    """The settings of a model that is built to be trained."""

    optimizer: Optimizer
    label_smoothing: float = 0.0
    """s: targets are (1 - s) one-hot + s / classes (Szegedy et al. 2016, section 7)."""
    frozen: frozenset[str] = frozenset()
    """Canonical names of the weights that are not trained. A batch normalization whose gamma is frozen uses its running
    statistics in training too, and does not change them."""


class Backend(Protocol):
    """One framework or runtime on one device."""

    TASKS: ClassVar[frozenset[str]]
    """Some of ``train`` (a training step can be timed), ``infer``, ``fit`` (a whole training), ``input`` (it has an
    input pipeline)."""
    DEVICES: ClassVar[tuple[str, ...]]
    """Some of ``cpu``, ``cuda``."""
    PRECISIONS: ClassVar[tuple[str, ...]]
    """Some of ``fp32``, ``fp64``, ...; the first is the default."""
    MODES: ClassVar[tuple[str, ...]]
    """Ways to run the same model: ``eager``, ``graph``, ...; the first is the default."""
    CONTENDS: ClassVar[bool] = True
    """False for the reference: it is measured, but no other row is compared with it."""
    WRITES: ClassVar[tuple[str, ...]] = ()
    """The formats (``SUFFIXES``) of model files that ``export`` writes; the first is always written, the others where a
    row reads them."""
    READS: ClassVar[tuple[str, ...]] = ()
    """For a runtime: the formats of another backend's files that it loads, the preferred first. Empty: it builds models
    itself."""
    COMPILES: ClassVar[bool] = False
    """Whether a runtime must ``convert`` every file for itself; else only those of another precision."""
    UNOPTIMIZED_MODE: ClassVar[str | None] = None
    """The mode of a runtime with all optimizations off; it is the second judge of a user's ONNX file. None: none."""
    TOLERANCES: ClassVar[Mapping[str, Mapping[str, float]]] = {}
    """Tolerances by precision and check, such as ``{"fp8": {"logits": 0.1, "gradients": 0.6, ...}}``, for a precision
    that ``bench.runner.judges.tolerances`` does not have (relative, as there). The certificate says that they are the
    adapter's own. Without them a row of such a precision is ``unsupported``."""
    REQUIRES: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """The required distributions (PyPI names). Each entry lists alternatives, one of which must be installed."""
    EXTRA: ClassVar[str | None] = None
    """The extra of ``evenbench`` that installs them."""
    SCALES_BY: ClassVar[str] = ""
    """``processes``: several of them, started by ``launch``, train one model together; ``devices``: one process does so
    on several devices. Then ``__init__`` takes a ``Spread`` as its last argument ``spread``, which is given where there
    are several. Empty: neither."""
    NOT_SCALED: ClassVar[str] = "it trains in one process, on one device"
    """Why it does neither."""

    def __init__(self, device: str, precision: str, mode: str, threads: int, seed: int) -> None:
        """Configure the framework; ``threads`` is intra-op, inter-op is 1, of each process or device. ``device`` is
        ``cpu`` or ``cuda``; the harness makes one GPU visible, of a ``Spread`` so many as it has.

        Raises:
            Unavailable: no such device here (an adapter never falls back to the CPU).
            Unsupported: no such precision or mode.
        """

    @classmethod
    def launch(cls, count: int) -> Launch:
        """How so many processes are started, which find each other on this machine (``SCALES_BY`` processes)."""
        raise Unsupported(cls.NOT_SCALED)

    @classmethod
    def script(
        cls, model: ModelSpec, device: str, precision: str, mode: str, threads: int, source: Script | None = None
    ) -> Script:
        """A row's inference as plain code of the framework; ``source``: of a runtime's row, that of its source.

        Raises:
            Unsupported: there is no such code, or not of this row.
        """
        raise Unsupported("its adapter writes no plain code")

    def versions(self) -> dict[str, str]:
        """Package name to version, the framework's own first. ``build_of(package)`` to what that was built for, such as
        ``CUDA 13.0`` or ``CPU``, where one version has several builds."""

    def settings(self) -> dict[str, Any]:
        """The framework's settings, read back after ``build`` or ``load``: ``threads`` (intra-op, int), ``fast_path``
        (one line: how this row runs), and other settings that affect speed (TF32, autotuning, providers). A framework
        that can choose a precision by itself says which one it has: ``computes_in`` (``float32``, ``bfloat16``) and
        ``computes_in_by`` (the name of its setting). One that decides itself about denormal numbers says ``denormals``:
        ``flushed`` or ``kept``; else they are flushed (``bench.machine.denormals``)."""

    def build(self, model: ModelSpec, weights: Weights, training: Training | None) -> None:
        """Build the model natively with these canonical weights; ``training`` None builds for inference only.

        Raises:
            Unsupported: a layer or optimizer that the adapter does not have.
        """
        raise Unsupported("it builds no models; it reads another backend's file")

    def load(self, path: Path) -> None:
        """Load a model file with a free batch dimension, or what ``convert`` made of it (runtimes only). Raises the
        errors of ``__init__``."""
        raise Unsupported("it reads no model files")

    def convert(self, path: Path, out: Path, calibration: Images, largest_batch: int) -> None:
        """Write the file for ``load``, in this precision (runtimes only: for a precision that is not the file's, and
        with ``COMPILES`` always). Called once, never timed. ``calibration``: normalized training images.
        ``largest_batch``: of all calls."""
        raise Unsupported("it converts no model files")

    def to_device(self, x: Images, y: Labels | None = None) -> tuple[Tensor, Tensor | None]:
        """Convert host arrays in canonical layout to the arguments of ``forward`` and ``train_step`` on the device.

        Of a ``Spread`` of processes, a batch with labels becomes this process' part.
        """

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, classes)`` in evaluation mode. May return before the device has finished."""

    def train_step(self, x: Tensor, y: Tensor, learning_rate: float, dropout_masks: Weights | None = None) -> Tensor:
        """Forward, mean softmax cross-entropy, backward, update; returns the loss before the update (scalar).

        ``dropout_masks``: layer name to canonical host array ``(N, ...)``, used instead of the framework's own random
        masks (``ModelSpec.dropout_masks``). Certificates give them, timing does not.

        Of a ``Spread`` of processes: the loss is of this process' part, the update that of the whole batch; masks are
        those of the whole batch.
        """
        raise Unsupported("it does not train")

    def gradients(self, x: Tensor, y: Tensor, dropout_masks: Weights | None = None) -> Weights:
        """Gradients of the mean loss with respect to the trained weights, in training mode, with canonical names and
        layout. Changes nothing, not even the running statistics."""
        raise Unsupported("it has no gradients")

    def weights(self) -> Weights:
        """The current weights with the running statistics: canonical names and layout, float arrays on the host."""
        raise Unsupported("it does not give its weights")

    def synchronize(self) -> None:
        """Wait until the device has finished all submitted work."""

    def to_numpy(self, tensor: Tensor) -> npt.NDArray[Any]:
        """The values of a tensor on the host. Waits until they are there."""

    def infer(self, x: Images) -> npt.NDArray[Any]:
        """End to end, as the framework's users would write it: host images to host logits ``(N, classes)``."""
        return self.to_numpy(self.forward(self.to_device(x)[0]))

    def outputs(self, x: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
        """All outputs by name for these inputs by name (of runtimes that read ``onnx``): arrays, or lists for
        sequences."""
        raise Unsupported("it reads no ONNX files")

    def export(self, path: Path, format_name: str) -> None:
        """Write the model as one file of a format of ``WRITES``, with a free batch dimension, with the framework's own
        exporter."""
        raise Unsupported("it has no exporter")

    def counts(self) -> dict[str, int]:
        """The framework's own counts, to check the spec: ``parameters``, and ``flops`` of one image's forward pass (2
        per multiply-accumulate of convolutions and dense layers). A count that it does not have is absent."""
        return {}

    def device_memory(self) -> dict[str, int]:
        """The framework's memory statistics, bytes (``peak_allocated``, ``peak_reserved``); empty if it has none."""
        return {}

    def out_of_memory(self, error: BaseException) -> bool:
        """Whether ``error`` means that the framework ran out of memory."""
        return isinstance(error, MemoryError)

    def roof_kernels(self, size: int, length: int) -> dict[str, Callable[[], Tensor]]:
        """Kernels for the limit of the machine, on its device: ``product`` multiplies two ``(size, size)`` matrices
        in this precision; ``convolution`` makes as many FLOPs by ``roof_convolution``, where a framework's library for
        products may be slower than that for convolutions; ``triad`` computes b + s c over ``length`` float32 numbers.
        They may return before the device has finished. What is absent, it does not have."""
        return {}

    def operators(self, make_step: Callable[[], Callable[[], object]], steps: int) -> list[Operator]:
        """Run a step so often under the framework's own profiler. ``make_step`` is called when the profiler is ready:
        it puts the inputs on the device, and gives the step, which is called once before to warm up.

        Raises:
            Unsupported: no profiler that names operators.
        """
        raise Unsupported("it has no profiler that names operators")

    def input_pipeline(self, files: ImageFiles, batch_size: int, workers: int) -> InputPipeline:
        """The framework's own loader with so many workers of its kind (processes or threads), 0: none.

        Raises:
            Unavailable: a package of it is missing.
        """
        raise Unsupported("it has no input pipeline")

    def gpu_probe(self) -> dict[str, float]:
        """Measurements of a framework on CUDA for ``bench gpu-check``; ``bench.machine.gpu_checks`` lists the keys."""
        raise Unsupported("it has no GPU probe")
