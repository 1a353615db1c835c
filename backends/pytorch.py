"""PyTorch: an ``nn.Sequential`` in channels-first layout, eager, ``inference_mode`` for inference.

Dense kernels that follow a flatten have their rows permuted at the border (canonical inputs run H, W, C; PyTorch's
run C, H, W), so that the model itself is the one a PyTorch user would write.
"""

from __future__ import annotations

import copy
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from backends.base import Backend, Images, Labels, Optimizer, Unavailable, Unsupported
from backends.model import Conv2D, Dense, Flatten, Layer, MaxPool2D, ModelSpec, ReLU, Shape, Weights


class Adapter(Backend):
    TASKS: ClassVar[frozenset[str]] = frozenset({"train", "infer", "fit", "export"})
    DEVICES: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    PRECISIONS: ClassVar[tuple[str, ...]] = ("fp32",)
    MODES: ClassVar[tuple[str, ...]] = ("eager",)
    REQUIRES: ClassVar[tuple[tuple[str, ...], ...]] = (("torch",), ("onnx",), ("onnxscript",))
    EXTRA: ClassVar[str | None] = "pytorch"

    def __init__(self, device: str, precision: str, mode: str, threads: int, seed: int) -> None:
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            raise Unavailable("PyTorch sees no CUDA device (a CPU build of torch, or no driver)")
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        torch.manual_seed(seed)
        set_tf32(torch, False)
        torch.backends.cudnn.benchmark = True  # autotuning on, as TensorFlow and ONNX Runtime have it
        self._torch = torch
        self._device = torch.device(device)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def versions(self) -> dict[str, str]:
        return {"torch": self._torch.__version__, **{name: version(name) for name in ("onnx", "onnxscript")}}

    def settings(self) -> dict[str, Any]:
        torch = self._torch
        found = {
            "threads": torch.get_num_threads(),
            "inter_op_threads": torch.get_num_interop_threads(),
            "fast_path": "eager, channels-first; torch.inference_mode for inference; zero_grad(set_to_none=True)",
        }
        if self._device.type == "cuda":
            found |= {
                "tf32_convolution": torch.backends.cudnn.conv.fp32_precision,
                "tf32_matmul": torch.backends.cuda.matmul.fp32_precision,
                "autotuning": torch.backends.cudnn.benchmark,
                "device": torch.cuda.get_device_name(),
            }
        return found

    def build(self, model: ModelSpec, weights: Weights, optimizer: Optimizer | None) -> None:
        torch = self._torch
        self._model = model
        self._native = {}
        """Canonical name to (parameter, canonical-to-native, native-to-canonical)."""
        modules, before_flatten = [], None
        for placed in model.placed():
            module = _module(torch, placed.layer, placed.input_shape)
            modules.append(module)
            if placed.weight_shapes:
                to_native, to_canonical = _border(placed.layer, before_flatten)
                self._native[f"{placed.name}.kernel"] = (module.weight, to_native, to_canonical)
                self._native[f"{placed.name}.bias"] = (module.bias, _same, _same)
                before_flatten = None
            if isinstance(placed.layer, Flatten):
                before_flatten = placed.input_shape
        with torch.no_grad():
            for name, (parameter, to_native, _) in self._native.items():
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(to_native(weights[name]))))
        self._module = torch.nn.Sequential(*modules).to(self._device)
        self._loss = torch.nn.CrossEntropyLoss()
        self._optimizer = _optimizer(torch, self._module.parameters(), optimizer)
        self._training: bool | None = None

    def to_device(self, x: Images, y: Labels | None = None) -> tuple[Any, Any]:
        torch = self._torch
        images = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous().to(self._device)
        return images, None if y is None else torch.from_numpy(y).to(self._device)

    def forward(self, x: Any) -> Any:
        self._train(False)
        with self._torch.inference_mode():
            return self._module(x)

    def train_step(self, x: Any, y: Any, learning_rate: float) -> Any:
        if self._optimizer is None:
            raise Unsupported("built for inference only")
        self._train(True)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss(self._module(x), y)
        loss.backward()
        self._optimizer.step()
        return loss.detach()

    def gradients(self, x: Any, y: Any) -> Weights:
        self._train(True)
        parameters = [parameter for parameter, _, _ in self._native.values()]
        found = self._torch.autograd.grad(self._loss(self._module(x), y), parameters)
        borders = [to_canonical for _, _, to_canonical in self._native.values()]
        return {
            name: to_canonical(self.to_numpy(gradient))
            for name, gradient, to_canonical in zip(self._native, found, borders, strict=True)
        }

    def weights(self) -> Weights:
        return {
            name: to_canonical(self.to_numpy(parameter)).copy()
            for name, (parameter, _, to_canonical) in self._native.items()
        }

    def synchronize(self) -> None:
        if self._device.type == "cuda":
            self._torch.cuda.synchronize()

    def to_numpy(self, tensor: Any) -> Any:
        return tensor.detach().cpu().numpy()

    def export_onnx(self, path: Path) -> None:
        torch = self._torch
        module = copy.deepcopy(self._module).cpu().eval()
        height, width, channels = self._model.input_shape
        torch.onnx.export(
            module,
            (torch.zeros(2, channels, height, width),),
            str(path),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["input"],
            output_names=["logits"],
            external_data=False,
            verbose=False,
        )

    def counts(self) -> dict[str, int]:
        from torch.utils.flop_counter import FlopCounterMode

        one = np.zeros((1, *self._model.input_shape), np.float32)
        counter = FlopCounterMode(display=False)
        self._train(False)
        with counter, self._torch.no_grad():
            self._module(self.to_device(one)[0])
        return {
            "parameters": sum(parameter.numel() for parameter in self._module.parameters()),
            "flops": counter.get_total_flops(),
        }

    def device_memory(self) -> dict[str, int]:
        if self._device.type != "cuda":
            return {}
        cuda = self._torch.cuda
        return {"peak_allocated": cuda.max_memory_allocated(), "peak_reserved": cuda.max_memory_reserved()}

    def out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError | self._torch.OutOfMemoryError) or "can't allocate memory" in str(error)

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
        found = {
            "output_on_gpu": float(self.forward(self.to_device(one)[0]).is_cuda),
            "matmul_unfenced_s": unfenced,
            "matmul_fenced_s": fenced,
            "matmul_events_s": start.elapsed_time(end) / 1e3,  # events count milliseconds
        }
        image, kernel = torch.randn(8, 64, 32, 32), torch.randn(64, 64, 3, 3)
        exact = torch.nn.functional.conv2d(image.double(), kernel.double())
        for on in (True, False):
            set_tf32(torch, on)
            got = torch.nn.functional.conv2d(image.to(self._device), kernel.to(self._device)).cpu().double()
            found[f"tf32_{'on' if on else 'off'}_error"] = float((got - exact).norm() / exact.norm())
        return found

    def _train(self, training: bool) -> None:
        if self._training is not training:
            self._module.train(training)
            self._training = training


def set_tf32(torch: Any, on: bool) -> None:
    """TF32 for convolutions and matrix products alike, by the one pair of switches whose getters keep working
    (after ``torch.backends.fp32_precision`` is set the old getters raise: pytorch#166387)."""
    torch.backends.cudnn.allow_tf32 = on
    torch.set_float32_matmul_precision("high" if on else "highest")


def _same(array: Any) -> Any:
    return array


def _border(layer: Layer, before_flatten: Shape | None) -> tuple[Any, Any]:
    """Canonical kernel to PyTorch's and back: convolution (kh, kw, in, out) to (out, in, kh, kw); dense (in, out)
    to (out, in), inputs from H, W, C to C, H, W order where a flatten stands before it."""
    if isinstance(layer, Conv2D):
        return lambda k: k.transpose(3, 2, 0, 1), lambda k: k.transpose(2, 3, 1, 0)
    if before_flatten is None:
        return lambda k: k.T, lambda k: k.T
    height, width, channels = before_flatten

    def to_native(k: Any) -> Any:
        return k.reshape(height, width, channels, -1).transpose(3, 2, 0, 1).reshape(k.shape[1], -1)

    def to_canonical(k: Any) -> Any:
        return k.reshape(-1, channels, height, width).transpose(2, 3, 1, 0).reshape(-1, k.shape[0])

    return to_native, to_canonical


def _module(torch: Any, layer: Layer, shape: Shape) -> Any:
    nn = torch.nn
    match layer:
        case Conv2D(filters, kernel):
            return nn.Conv2d(shape[-1], filters, kernel)
        case Dense(units):
            return nn.Linear(shape[0], units)
        case ReLU():
            return nn.ReLU()
        case MaxPool2D(size):
            return nn.MaxPool2d(size)
        case Flatten():
            return nn.Flatten()
    raise Unsupported(f"no layer {type(layer).__name__} in the PyTorch adapter")


def _optimizer(torch: Any, parameters: Any, options: Optimizer | None) -> Any:
    match options:
        case None:
            return None
        case Optimizer("sgd", momentum):
            return torch.optim.SGD(parameters, lr=0.0, momentum=momentum)
        case Optimizer("adam", _, beta1, beta2, epsilon):
            return torch.optim.Adam(parameters, lr=0.0, betas=(beta1, beta2), eps=epsilon)
    raise Unsupported(f"no optimizer {options.name} in the PyTorch adapter")
