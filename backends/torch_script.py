"""A row of PyTorch as plain code (``backends.script``)."""

from __future__ import annotations

from collections.abc import Sequence

from backends.base import Unsupported
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
    ZeroPadShortcut,
    margins,
)
from backends.script import FILE, Script, packed

RESIDUAL = """
class Residual(nn.Module):
    def __init__(self, body, shortcut):
        super().__init__()
        self.body, self.shortcut = nn.Sequential(*body), nn.Sequential(*shortcut)

    def forward(self, x):
        return self.body(x) + self.shortcut(x)
"""
SHORTCUT = """
class ZeroPadShortcut(nn.Module):
    def __init__(self, channels, stride):
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x):
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.channels))
"""
KERNELS = """
        if isinstance(layer, (nn.Conv2d, nn.Linear)):  # drawn as (height, width, in, out), or (in, out)
            out, each, area = *layer.weight.shape[:2], layer.weight[0, 0].numel()
            kernel = draw(layer.weight.shape[::-1], (6 / (area * (each + out))) ** 0.5)"""
FLATTENED = """
            if each == {flat}:  # behind the flattening, whose values are in the order of channels, height, width
                kernel = kernel.reshape({height}, {width}, {channels}, -1).permute(2, 0, 1, 3).reshape({flat}, -1)"""
COPIED = """
            layer.weight.copy_(kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T)"""
BIAS = """
            layer.bias.copy_(draw(layer.bias.shape, (area * each) ** -0.5))"""
NORM = """
        if isinstance(layer, nn.BatchNorm2d):
            for values, center in ((layer.weight, 1), (layer.bias, 0), (layer.running_mean, 0), (layer.running_var, 1)):
                values.copy_(draw(values.shape, 0.1, center))"""


def script(model: ModelSpec, device: str, precision: str, mode: str, threads: int) -> Script:
    """The code of a row.

    Raises:
        Unsupported: a layer for which there is no code.
    """
    kinds = {type(placed.layer) for placed in model.walk()}
    dtype = {"fp32": "", "bf16": "torch.bfloat16", "fp16": "torch.float16"}[precision]
    settings = [f"torch.set_num_threads({threads})", "torch.set_num_interop_threads(1)"]
    settings += ["torch.set_flush_denormal(True)"]
    if device != "cpu":
        settings += ["torch.backends.cudnn.benchmark = True", "torch.backends.cudnn.allow_tf32 = False"]
        settings += ['torch.set_float32_matmul_precision("highest")']
    lines = list[str]()
    for kind, code in ((Residual, RESIDUAL), (ZeroPadShortcut, SHORTCUT)):
        lines += ["", *code.splitlines(), ""] if kind in kinds else []
    lines += ["model = nn.Sequential(", *packed(_layers(model.placed()), "    "), ").eval()"]
    lines += _weights(model, kinds)
    device_type = device.partition(":")[0]
    moves = [f'"{device_type}"'] * (device_type != "cpu") + [dtype] * bool(dtype)
    lines += [f"model.to({', '.join(moves)})"] if moves else []
    lines += ["model.to(memory_format=torch.channels_last)"] if mode == "channels-last" else []
    called = "compiled" if mode == "compile" else "model"
    lines += ["compiled = torch.compile(model, dynamic=False)"] if mode == "compile" else []
    images = "torch.from_numpy(x).permute(0, 3, 1, 2)" + ("" if mode == "channels-last" else ".contiguous()")
    images += f".to({', '.join(moves)})" if moves else ""
    logits = f"{called}({images})" + ".float()" * bool(dtype) + ".cpu()" * (device_type != "cpu")
    infer = ["def infer(x):", "    with torch.inference_mode():", f"        return {logits}.numpy()"]
    return Script(
        packages=("torch",),
        imports=("import torch", "from torch import nn"),
        settings=tuple(settings),
        model=tuple(lines),
        infer=tuple(infer),
        export=_export(model),
        exporter=("onnx", "onnxscript"),
    )


def _weights(model: ModelSpec, kinds: set[type]) -> list[str]:
    """The canonical weights of the seed, layer by layer."""
    drawn = "torch.from_numpy((center + rng.uniform(-limit, limit, shape)).astype(np.float32))"
    lines = [f"draw = lambda shape, limit, center=0: {drawn}"]
    lines += ["with torch.no_grad():", "    for layer in model.modules():"]
    code = KERNELS
    if DepthwiseConv2D in kinds:
        code = code.replace("(each + out)", "(each + out / getattr(layer, 'groups', 1))")
    flat = _flattened(model)
    if flat is not None:
        height, width, channels = flat
        code += FLATTENED.format(height=height, width=width, channels=channels, flat=height * width * channels)
    code += COPIED
    biased = {getattr(placed.layer, "bias", None) for placed in model.walk()} - {None}
    if biased == {True}:
        code += BIAS
    elif biased == {True, False}:
        code += "\n            if layer.bias is not None:" + BIAS.replace("    layer", "        layer")
    return [*lines, *(code + NORM if BatchNorm in kinds else code).splitlines()[1:]]


def _flattened(model: ModelSpec) -> Shape | None:
    """The shape of the image that is flattened; None: none is.

    Raises:
        Unsupported: a dense layer behind another one has as many inputs, so that the code could not tell them apart.
    """
    shapes = [placed.input_shape for placed in model.walk() if isinstance(placed.layer, Flatten)]
    if not shapes or len(shapes[0]) != 3:
        return None
    inputs = [placed.input_shape[0] for placed in model.walk() if isinstance(placed.layer, Dense)]
    if inputs.count(shapes[0][0] * shapes[0][1] * shapes[0][2]) > 1:
        raise Unsupported("two dense layers have as many inputs: there is no plain code for such a model")
    return shapes[0]


def _export(model: ModelSpec) -> tuple[str, ...]:
    height, width, channels = model.input_shape
    return (
        f"example = (torch.zeros(2, {channels}, {height}, {width}),)",
        f'torch.onnx.export(model, example, "{FILE}", dynamo=True, external_data=False,'
        ' dynamic_shapes=({0: torch.export.Dim("batch")},))',
    )


def _layers(placed: Sequence[Placed]) -> list[str]:
    return [code for each in placed for code in _layer(each)]


def _layer(placed: Placed) -> list[str]:
    shape = placed.input_shape
    match placed.layer:
        case Conv2D(filters, kernel, stride, padding, bias):
            return _convolution(shape, f"{filters}, {kernel}", kernel, stride, padding, "" if bias else ", bias=False")
        case DepthwiseConv2D(kernel, stride, padding, bias):
            more = f", groups={shape[-1]}" + ("" if bias else ", bias=False")
            return _convolution(shape, f"{shape[-1]}, {kernel}", kernel, stride, padding, more)
        case Dense(units, bias):
            return [f"nn.Linear({shape[0]}, {units}{'' if bias else ', bias=False'})"]
        case BatchNorm(momentum, epsilon) if len(shape) == 3:
            return [f"nn.BatchNorm2d({shape[-1]}, eps={epsilon:g}, momentum={1 - momentum:.6g})"]
        case ReLU():
            return ["nn.ReLU()"]
        case Dropout(rate):
            return [f"nn.Dropout({rate:g})"]
        case MaxPool2D(size):
            return [f"nn.MaxPool2d({size}{_stride(placed.layer.step, size)})"]
        case AveragePool2D(size):
            return [f"nn.AvgPool2d({size}{_stride(placed.layer.step, size)})"]
        case GlobalAveragePool():
            return ["nn.AdaptiveAvgPool2d(1)", "nn.Flatten()"]
        case Flatten():
            return ["nn.Flatten()"]
        case ZeroPadShortcut(filters, stride):
            return [f"ZeroPadShortcut({filters - shape[-1]}, {stride})"]
        case Residual():
            body, shortcut = (", ".join(_layers(each)) for each in (placed.body, placed.shortcut))
            return [f"Residual([{body}], [{shortcut}])"]
    raise Unsupported(f"there is no plain code for a layer {type(placed.layer).__name__} here")


def _convolution(shape: Shape, sizes: str, kernel: int, stride: int, padding: Padding, more: str) -> list[str]:
    (top, bottom), (left, right) = (margins(side, kernel, stride, padding) for side in shape[:2])
    strided = f", {stride}" if stride != 1 else ""
    if (top, left) == (bottom, right):
        inside = (f", padding={top}" if top == left else f", padding=({top}, {left})") if top or left else ""
        return [f"nn.Conv2d({shape[-1]}, {sizes}{strided}{inside}{more})"]
    return [f"nn.ZeroPad2d(({left}, {right}, {top}, {bottom}))", f"nn.Conv2d({shape[-1]}, {sizes}{strided}{more})"]


def _stride(step: int, size: int) -> str:
    return "" if step == size else f", {step}"
