"""PyTorch: modules in an ``nn.Sequential``, ``inference_mode`` for inference, channels-first by default.

The adapter permutes the rows of the kernel of a dense layer after a flatten (canonical order: H, W, C; PyTorch's:
C, H, W). So the model itself is the one that a PyTorch user would write.
"""

from __future__ import annotations

import copy
import os
import shutil
import time
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from backends import torch_profile, torch_script
from backends.base import (
    OUTSIDE,
    PROCESSES,
    Backend,
    ImageFiles,
    Images,
    InputPipeline,
    Labels,
    Launch,
    Operator,
    Optimizer,
    Spread,
    Training,
    Unavailable,
    Unsupported,
    build_of,
    roof_convolution,
)
from backends.model import (
    AveragePool2D,
    BatchNorm,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePool,
    MaxPool2D,
    ModelSpec,
    Padding,
    Placed,
    ReLU,
    Residual,
    Shape,
    Weights,
    ZeroPadShortcut,
    margins,
)
from backends.script import Script
from backends.torch_loader import TorchLoader


class Adapter(Backend):
    TASKS: ClassVar[frozenset[str]] = frozenset({"train", "infer", "fit", "input"})
    DEVICES: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    PRECISIONS: ClassVar[tuple[str, ...]] = ("fp32", "bf16", "fp16")
    WRITES: ClassVar[tuple[str, ...]] = ("onnx", "exported-program")
    MODES: ClassVar[tuple[str, ...]] = ("eager", "channels-last", "compile")
    REQUIRES: ClassVar[tuple[tuple[str, ...], ...]] = (("torch",), ("onnx",), ("onnxscript",))
    EXTRA: ClassVar[str | None] = "pytorch"
    SCALES_BY: ClassVar[str] = PROCESSES

    def __init__(
        self, device: str, precision: str, mode: str, threads: int, seed: int, spread: Spread | None = None
    ) -> None:
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            raise Unavailable("PyTorch sees no CUDA device (a CPU build of torch, or no driver)")
        if device == "cpu" and precision == "fp16":
            raise Unsupported("fp16 training needs CUDA (PyTorch has no fp16 kernels for it on the CPU); bf16 has them")
        if device == "cpu" and mode == "compile" and shutil.which(os.environ.get("CXX", "g++")) is None:
            raise Unavailable("torch.compile needs a C++ compiler: apt-get install g++")
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        torch.manual_seed(seed + (0 if spread is None else spread.rank))  # each process drops other units
        set_tf32(torch, False)
        torch.backends.cudnn.benchmark = True  # autotuning on, as in TensorFlow and ONNX Runtime
        self._torch = torch
        self._spread = spread
        self._device = torch.device(device) if spread is None or device == "cpu" else torch.device(device, spread.rank)
        if spread is not None:
            self._join()
        self._dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self._mode = mode
        if mode == "compile":
            # Compile as on a new machine: with caches, the second process would reuse the kernels of the first.
            os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def _join(self) -> None:
        """Meet the other processes, by the variables that torchrun has set."""
        on_gpu = self._device.type == "cuda"
        if on_gpu:
            self._torch.cuda.set_device(self._device)
        self._torch.distributed.init_process_group("nccl" if on_gpu else "gloo")

    @classmethod
    def launch(cls, count: int) -> Launch:
        """torchrun, on loopback."""
        own = ("--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={count}")
        return Launch(("-m", "torch.distributed.run", *own), {"GLOO_SOCKET_IFNAME": "lo"}, "RANK")

    @classmethod
    def script(
        cls, model: ModelSpec, device: str, precision: str, mode: str, threads: int, source: Script | None = None
    ) -> Script:
        return torch_script.script(model, device, precision, mode, threads)

    def versions(self) -> dict[str, str]:
        others = {name: version(name) for name in ("onnx", "onnxscript")}
        return {"torch": self._torch.__version__, build_of("torch"): self._build(), **others}

    def _build(self) -> str:
        built = self._torch.version
        platforms = (("CUDA", built.cuda), ("ROCm", getattr(built, "hip", None)), ("XPU", getattr(built, "xpu", None)))
        return next((f"{name} {number}" for name, number in platforms if number), "CPU")

    def settings(self) -> dict[str, Any]:
        torch = self._torch
        settings = {
            "threads": torch.get_num_threads(),
            "inter_op_threads": torch.get_num_interop_threads(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "fast_path": f"{self._describe_mode()}; torch.inference_mode for inference; zero_grad(set_to_none=True)",
        }
        if self._spread is not None:
            settings["data_parallel"] = (
                f"DistributedDataParallel over {torch.distributed.get_backend()}, {self._spread.count} processes;"
                " batch normalization by each process' part, running statistics of the first"
            )
        if self._device.type == "cuda":
            settings |= {
                "tf32_convolution": torch.backends.cudnn.conv.fp32_precision,
                "tf32_matmul": torch.backends.cuda.matmul.fp32_precision,
                "autotuning": torch.backends.cudnn.benchmark,
                "device": torch.cuda.get_device_name(),
            }
        return settings

    def _describe_mode(self) -> str:
        """How this row runs, as text."""
        modes = {
            "eager": "eager, channels-first",
            "channels-last": "eager, channels-last",
            "compile": "torch.compile (dynamic=False, caches off), channels-first",
        }
        if self._dtype == self._torch.float32:
            return modes[self._mode]
        kind = str(self._dtype).removeprefix("torch.")
        return f"{modes[self._mode]}, {kind}: autocast in training, else {kind} weights"

    def build(self, model: ModelSpec, weights: Weights, training: Training | None) -> None:
        torch = self._torch
        self._model = model
        self._native = {}
        """Canonical name to (module, attribute, canonical-to-native, native-to-canonical). The tensor itself is not
        stored, because ``Module.to`` replaces buffers."""
        self._dropouts = {}
        """Layer name to (module, canonical-to-native of its input)."""
        self._norms = {}
        """Layer name to its batch normalization module."""
        self._before_flatten: Shape | None = None
        self._layers: dict[str, Any] = {}
        """Layer name to its module."""
        self._plain = self._sequential(model.placed())
        with torch.no_grad():
            for name, (_, _, to_native, _) in self._native.items():
                self._tensor(name).copy_(torch.from_numpy(np.ascontiguousarray(to_native(weights[name]))))
        self._plain.to(self._device)
        if self._mode == "channels-last":
            self._plain.to(memory_format=torch.channels_last)
        self._amp = training is not None and self._dtype != torch.float32
        if training is None and self._dtype != torch.float32:
            self._plain.to(self._dtype)
        self._frozen = frozenset[str]() if training is None else training.frozen
        self._trained = [name for name in model.trained if name not in self._frozen]
        for name in self._frozen:
            self._tensor(name).requires_grad_(False)
        self._loss = torch.nn.CrossEntropyLoss(label_smoothing=0.0 if training is None else training.label_smoothing)
        parameters = [self._tensor(name) for name in self._trained]
        self._optimizer = None if training is None else _optimizer(torch, parameters, training.optimizer)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._dtype == torch.float16)
        self._parallel = self._made_parallel(training)
        self._module = torch.compile(self._parallel, dynamic=False) if self._mode == "compile" else self._parallel
        self._training: bool | None = None

    def _made_parallel(self, training: Training | None) -> Any:
        """The model whose backward pass averages the gradients of all processes; as it is where there is one."""
        if self._spread is None or training is None or not self._trained:
            return self._plain
        devices = [self._device] if self._device.type == "cuda" else None
        return self._torch.nn.parallel.DistributedDataParallel(self._plain, device_ids=devices)

    def _tensor(self, name: str) -> Any:
        """The current parameter or buffer of a canonical name."""
        module, attribute, _, _ = self._native[name]
        return getattr(module, attribute)

    def to_device(self, x: Images, y: Labels | None = None) -> tuple[Any, Any]:
        torch = self._torch
        if y is not None and self._spread is not None:
            part = self._spread.part(len(x))
            x, y = x[part], y[part]
        images = torch.from_numpy(x).permute(0, 3, 1, 2)  # still channels-last in memory
        if self._mode != "channels-last":
            images = images.contiguous()
        dtype = torch.float32 if self._amp else self._dtype
        return images.to(self._device, dtype), None if y is None else torch.from_numpy(y).to(self._device)

    def forward(self, x: Any) -> Any:
        self._set_training(False)
        with self._torch.inference_mode():
            return self._logits(x)

    def _logits(self, x: Any) -> Any:
        module = self._module if self._training or self._parallel is self._plain else self._plain
        if not self._amp:
            return module(x)
        with self._torch.autocast(self._device.type, self._dtype):
            return module(x).float()

    def train_step(self, x: Any, y: Any, learning_rate: float, dropout_masks: Weights | None = None) -> Any:
        if self._optimizer is None:
            raise Unsupported("built for inference only")
        self._set_training(True)
        self._set_masks(dropout_masks)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss(self._logits(x), y)
        if self._scaler.is_enabled():
            self._scaler.scale(loss).backward()
            self._scaler.step(self._optimizer)
            self._scaler.update()
        else:
            loss.backward()
            self._optimizer.step()
        return loss.detach()

    def gradients(self, x: Any, y: Any, dropout_masks: Weights | None = None) -> Weights:
        self._set_training(True)
        self._set_masks(dropout_masks)
        buffers = [(buffer, buffer.clone()) for buffer in self._plain.buffers()]
        parameters = [self._tensor(name) for name in self._trained]
        if self._parallel is self._plain:
            gradients = self._torch.autograd.grad(self._loss(self._logits(x), y), parameters)
        else:  # they are averaged where a backward pass leaves them
            self._parallel.zero_grad(set_to_none=True)
            self._loss(self._logits(x), y).backward()
            gradients = [parameter.grad.clone() for parameter in parameters]
            self._parallel.zero_grad(set_to_none=True)
        for buffer, before in buffers:
            buffer.copy_(before)
        return {
            name: self._native[name][3](self.to_numpy(gradient))
            for name, gradient in zip(self._trained, gradients, strict=True)
        }

    def weights(self) -> Weights:
        if self._parallel is not self._plain:  # a checkpoint has the running statistics of the first process
            for buffer in self._plain.buffers():
                self._torch.distributed.broadcast(buffer, 0)
        return {
            name: self._native[name][3](self.to_numpy(self._tensor(name))).copy() for name in self._model.weight_shapes
        }

    def synchronize(self) -> None:
        if self._device.type == "cuda":
            self._torch.cuda.synchronize()

    def to_numpy(self, tensor: Any) -> Any:
        tensor = tensor.detach()
        return (tensor.float() if tensor.dtype != self._torch.float64 else tensor).cpu().numpy()

    def export(self, path: Path, format_name: str) -> None:
        torch = self._torch
        module = copy.deepcopy(self._plain).cpu().float().eval()
        height, width, channels = self._model.input_shape
        example, free = (torch.zeros(2, channels, height, width),), ({0: torch.export.Dim("batch")},)
        if format_name == "exported-program":
            torch.export.save(torch.export.export(module, example, dynamic_shapes=free), path)
            return
        torch.onnx.export(
            module,
            example,
            str(path),
            dynamo=True,
            dynamic_shapes=free,
            input_names=["input"],
            output_names=["logits"],
            external_data=False,
            verbose=False,
        )

    def counts(self) -> dict[str, int]:
        from torch.utils.flop_counter import FlopCounterMode

        one = np.zeros((1, *self._model.input_shape), np.float32)
        counter = FlopCounterMode(display=False)
        self._set_training(False)
        with counter, self._torch.no_grad():
            self._plain(self.to_device(one)[0].to(next(self._plain.parameters()).dtype))
        return {
            "parameters": sum(parameter.numel() for parameter in self._plain.parameters()),
            "flops": counter.get_total_flops(),
        }

    def device_memory(self) -> dict[str, int]:
        if self._device.type != "cuda":
            return {}
        cuda = self._torch.cuda
        return {"peak_allocated": cuda.max_memory_allocated(), "peak_reserved": cuda.max_memory_reserved()}

    def out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError | self._torch.OutOfMemoryError) or "can't allocate memory" in str(error)

    def roof_kernels(self, size: int, length: int) -> dict[str, Callable[[], Any]]:
        torch = self._torch
        a, b = (torch.ones((size, size), dtype=self._dtype, device=self._device) for _ in range(2))
        x, y, out = (torch.ones(length, device=self._device) for _ in range(3))
        kernels = {"product": lambda: a @ b, "triad": lambda: torch.add(x, y, alpha=1.5, out=out)}
        if self._device.type == "cuda":
            return kernels
        (n, height, width, channels), (kh, kw, _, filters) = roof_convolution(size)
        images, weight = (
            torch.ones(shape, dtype=self._dtype)
            for shape in ((n, channels, height, width), (filters, channels, kh, kw))
        )
        return {**kernels, "convolution": lambda: torch.nn.functional.conv2d(images, weight)}

    def operators(self, make_step: Callable[[], Callable[[], object]], steps: int) -> list[Operator]:
        """By torch.profiler: forward operators belong to the layer in whose module they run, backward ones to that of
        the forward operator with their sequence number."""
        if self._mode == "compile":
            raise Unsupported("torch.compile fuses layers: the profiler names kernels that belong to several")
        step, hooks, loss = make_step(), [], getattr(self, "_loss", None)
        for name, module in self._layers.items():
            hooks += self._tag(name, module)
        if loss is not None:
            self._loss = torch_profile.tagged(self._torch, OUTSIDE["loss"], loss)
        step()
        try:
            return torch_profile.profiled(self._torch, step, steps, self._device.type == "cuda")
        finally:
            for hook in hooks:
                hook.remove()
            self._loss = loss

    def _tag(self, name: str, module: Any) -> list[Any]:
        """Mark what a module runs with its layer's name."""
        entered: list[Any] = []

        def enter(*_: Any) -> None:
            entered.append(torch_profile.mark(self._torch, name))
            entered[-1].__enter__()

        def leave(*_: Any) -> None:
            entered.pop().__exit__(None, None, None)

        return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]

    def input_pipeline(self, files: ImageFiles, batch_size: int, workers: int) -> InputPipeline:
        torch, on_gpu = self._torch, self._device.type == "cuda"
        kind = torch.channels_last if self._mode == "channels-last" else torch.contiguous_format
        dtype = torch.float32 if self._amp else self._dtype

        def finish(x: Any, y: Any) -> tuple[Any, Any]:
            x = x.to(self._device, dtype, non_blocking=True).contiguous(memory_format=kind)
            return x, y.to(self._device, non_blocking=True)

        return TorchLoader(files, workers, finish, channels_first=True, pinned=on_gpu)

    def gpu_probe(self) -> dict[str, float]:
        torch = self._torch
        one = np.zeros((1, *self._model.input_shape), np.float32)
        a = torch.randn(8192, 8192, device=self._device)
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        a @ a  # cuBLAS initializes at the first product
        torch.cuda.synchronize()
        begin = time.perf_counter()
        start.record()
        a @ a
        end.record()
        unfenced = time.perf_counter() - begin
        torch.cuda.synchronize()
        fenced = time.perf_counter() - begin
        probe = {
            "output_on_gpu": float(self.forward(self.to_device(one)[0]).is_cuda),
            "matmul_unfenced_s": unfenced,
            "matmul_fenced_s": fenced,
            "matmul_events_s": start.elapsed_time(end) / 1e3,  # events count milliseconds
        }
        image, kernel = torch.randn(8, 64, 32, 32), torch.randn(64, 64, 3, 3)
        exact = torch.nn.functional.conv2d(image.double(), kernel.double())
        for on in (True, False):
            set_tf32(torch, on)
            actual = torch.nn.functional.conv2d(image.to(self._device), kernel.to(self._device)).cpu().double()
            probe[f"tf32_{'on' if on else 'off'}_error"] = float((actual - exact).norm() / exact.norm())
        return probe

    def _set_training(self, training: bool) -> None:
        if self._training is not training:
            self._plain.train(training)
            self._module.train(training)
            for placed in self._model.walk():
                if f"{placed.name}.gamma" in self._frozen:
                    self._norms[placed.name].eval()
            self._training = training

    def _set_masks(self, masks: Weights | None) -> None:
        """Set the masks of the dropout layers; None: they draw their own."""
        for name, (module, to_native) in self._dropouts.items():
            own = None if masks is None else masks[name]
            if own is not None and self._spread is not None and self._parallel is not self._plain:
                own = own[self._spread.part(len(own))]
            mask = None if own is None else self._torch.from_numpy(np.ascontiguousarray(to_native(own)))
            module.mask = None if mask is None else mask.to(self._device)

    def _sequential(self, layers: Sequence[Placed]) -> Any:
        modules = {placed.name: self._module_of(placed) for placed in layers}
        self._layers |= modules
        return self._torch.nn.Sequential(*modules.values())

    def _module_of(self, placed: Placed) -> Any:
        """The native layer; its weights are registered in ``_native``."""
        torch, nn = self._torch, self._torch.nn
        shape, name = placed.input_shape, placed.name
        match placed.layer:
            case Conv2D(filters, kernel, stride, padding, bias):
                around, inside = _padding(shape, kernel, stride, padding)
                module = nn.Conv2d(shape[-1], filters, kernel, stride, inside, bias=bias)
                self._register(name, module, _CONV)
                return nn.Sequential(nn.ZeroPad2d(around), module) if around else module
            case DepthwiseConv2D(kernel, stride, padding, bias):
                around, inside = _padding(shape, kernel, stride, padding)
                module = nn.Conv2d(shape[-1], shape[-1], kernel, stride, inside, groups=shape[-1], bias=bias)
                self._register(name, module, _DEPTHWISE)
                return nn.Sequential(nn.ZeroPad2d(around), module) if around else module
            case Dense(units, bias):
                module = nn.Linear(shape[0], units, bias)
                self._register(name, module, _dense_layout(self._before_flatten))
                self._before_flatten = None
                return module
            case BatchNorm(momentum, epsilon):
                kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
                module = kind(shape[-1], eps=epsilon, momentum=1 - momentum)
                layout = _features(self._before_flatten if len(shape) == 1 else None)
                parts = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}
                self._native |= {f"{name}.{part}": (module, own, *layout) for part, own in parts.items()}
                self._norms[name] = module
                return module
            case ReLU():
                return nn.ReLU()
            case Dropout(rate):
                module = modules(torch).Dropout(rate)
                to_native = _images if len(shape) == 3 else _features(self._before_flatten)[0]
                self._dropouts[name] = (module, to_native)
                return module
            case MaxPool2D(size):
                return nn.MaxPool2d(size, placed.layer.step)
            case AveragePool2D(size):
                return nn.AvgPool2d(size, placed.layer.step)
            case GlobalAveragePool():
                return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            case Flatten():
                if len(shape) == 3:  # a flat input has its order already
                    self._before_flatten = shape
                return nn.Flatten()
            case ZeroPadShortcut(filters, stride):
                return modules(torch).ZeroPadShortcut(filters - shape[-1], stride)
            case Residual():
                return modules(torch).Residual(self._sequential(placed.body), self._sequential(placed.shortcut))
        raise Unsupported(f"no layer {type(placed.layer).__name__} in the PyTorch adapter")

    def _register(self, name: str, module: Any, layout: tuple[Any, Any]) -> None:
        self._native[f"{name}.kernel"] = (module, "weight", *layout)
        if module.bias is not None:
            self._native[f"{name}.bias"] = (module, "bias", _same, _same)


def set_tf32(torch: Any, on: bool) -> None:
    """Switch TF32 for convolutions and matrix products. These two switches keep all getters working; after
    ``torch.backends.fp32_precision`` is set, the old getters raise an error (pytorch#166387)."""
    torch.backends.cudnn.allow_tf32 = on
    torch.set_float32_matmul_precision("high" if on else "highest")


@cache
def modules(torch: Any) -> SimpleNamespace:
    """Modules that PyTorch does not have. They are defined in a function because this file must not import PyTorch."""
    nn = torch.nn

    class Residual(nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self, body: Any, shortcut: Any) -> None:
            super().__init__()
            self.body, self.shortcut = body, shortcut

        def forward(self, x: Any) -> Any:
            return self.body(x) + self.shortcut(x)

    class ZeroPadShortcut(nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self, extra: int, stride: int) -> None:
            super().__init__()
            self.extra, self.stride = extra, stride

        def forward(self, x: Any) -> Any:
            return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))

    class Dropout(nn.Dropout):  # type: ignore[name-defined, misc]
        """PyTorch's own dropout, unless a mask is set."""

        mask = None

        def forward(self, x: Any) -> Any:
            return super().forward(x) if self.mask is None else x * self.mask

    return SimpleNamespace(Residual=Residual, ZeroPadShortcut=ZeroPadShortcut, Dropout=Dropout)


def _same(array: Any) -> Any:
    return array


def _images(array: Any) -> Any:
    return array.transpose(0, 3, 1, 2)


_CONV = (lambda k: k.transpose(3, 2, 0, 1), lambda k: k.transpose(2, 3, 1, 0))
"""(kh, kw, in, out) to (out, in, kh, kw) and back."""
_DEPTHWISE = (lambda k: k.transpose(2, 3, 0, 1), lambda k: k.transpose(2, 3, 0, 1))
"""(kh, kw, C, 1) to (C, 1, kh, kw) and back."""


def _dense_layout(before_flatten: Shape | None) -> tuple[Any, Any]:
    """(in, out) to (out, in) and back, with inputs from H, W, C to C, H, W order after a flatten."""
    to_native, to_canonical = _features(before_flatten)
    return lambda k: to_native(k.T), lambda k: to_canonical(k).T


def _features(before_flatten: Shape | None) -> tuple[Any, Any]:
    """The last axis from H, W, C to C, H, W order and back, after a flatten; else unchanged."""
    if before_flatten is None:
        return _same, _same
    height, width, channels = before_flatten

    def to_native(array: Any) -> Any:
        return np.moveaxis(array.reshape(*array.shape[:-1], height, width, channels), -1, -3).reshape(array.shape)

    def to_canonical(array: Any) -> Any:
        return np.moveaxis(array.reshape(*array.shape[:-1], channels, height, width), -3, -1).reshape(array.shape)

    return to_native, to_canonical


def _padding(shape: Shape, kernel: int, stride: int, padding: Padding) -> tuple[tuple[int, ...], tuple[int, int]]:
    """The padding before the convolution (left, right, top, bottom; empty if the convolution can do it), and the
    padding of the convolution itself (rows, columns; the same on both sides). PyTorch's own ``same`` does not support
    strides."""
    rows, cols = (margins(size, kernel, stride, padding) for size in shape[:2])
    if rows[0] == rows[1] and cols[0] == cols[1]:
        return (), (rows[0], cols[0])
    return (*cols, *rows), (0, 0)


def _optimizer(torch: Any, parameters: Any, options: Optimizer) -> Any:
    decay = options.weight_decay
    if options.name == "sgd":
        return torch.optim.SGD(parameters, 0.0, options.momentum, weight_decay=decay, nesterov=options.nesterov)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    if options.name not in kinds:
        raise Unsupported(f"no optimizer {options.name} in the PyTorch adapter")
    betas = (options.beta1, options.beta2)
    return kinds[options.name](parameters, lr=0.0, betas=betas, eps=options.epsilon, weight_decay=decay)
