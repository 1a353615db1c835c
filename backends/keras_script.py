"""A row of Keras on TensorFlow as plain code (``backends.script``)."""

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
    Placed,
    ReLU,
    Residual,
    ZeroPadShortcut,
)
from backends.script import FILE, Script, packed

SETTINGS = """
keras.config.set_image_data_format("channels_last")
tf.config.threading.set_intra_op_parallelism_threads({threads})
tf.config.threading.set_inter_op_parallelism_threads(1)
tf.config.experimental.enable_tensor_float_32_execution(False)"""
RUN = """

def run(x, *made):
    for layer in made:
        x = layer(x)
    return x

"""
WEIGHTS = """
for layer in model.layers:
    for v in layer.weights:  # kernels by Glorot & Bengio 2010, equation 16
        if v.name == "kernel":
            fans = np.prod(v.shape[:-2]) * np.array(v.shape[-2:])
        limit = {"kernel": (6 / fans.sum()) ** 0.5, "bias": fans[0] ** -0.5}[v.name]
        v.assign(rng.uniform(-limit, limit, v.shape).astype(np.float32))"""
NORMALIZED = """
for layer in model.layers:
    for v in layer.weights:  # kernels by Glorot & Bengio 2010, equation 16
        if v.name == "kernel":
            fans = np.prod(v.shape[:-2]) * np.array(v.shape[-2:])
            fans = 0 * fans + fans[1] if isinstance(layer, layers.DepthwiseConv2D) else fans
        limit = {"kernel": (6 / fans.sum()) ** 0.5, "bias": fans[0] ** -0.5}.get(v.name, 0.1)
        center = float(v.name in ("gamma", "moving_variance"))
        v.assign((center + rng.uniform(-limit, limit, v.shape)).astype(np.float32))"""


def script(model: ModelSpec, device: str, precision: str, mode: str, threads: int) -> Script:
    """The code of a row.

    Raises:
        Unsupported: a layer for which there is no code, or another device or precision than fp32 on the CPU.
    """
    if device != "cpu" or precision != "fp32":
        raise Unsupported("plain code of Keras is for fp32 on the CPU")
    kinds = {type(placed.layer) for placed in model.walk()}
    lines = list[str]()
    if Residual in kinds or ZeroPadShortcut in kinds:
        lines += [*RUN.splitlines(), f"images = x = keras.Input({model.input_shape})"]
        lines += _calls(model.placed())
        lines += ["model = keras.Model(images, x)"]
    else:
        lines += ["model = keras.Sequential([", f"    keras.Input({model.input_shape}),"]
        lines += [*packed([_layer(placed) for placed in model.placed()], "    "), "])"]
    plain = kinds.isdisjoint({BatchNorm, DepthwiseConv2D})
    lines += (WEIGHTS if plain else NORMALIZED).splitlines()[1:]
    forward = "lambda x: model(x, training=False)"
    compiled = f"tf.function({forward}, jit_compile={mode == 'xla'})"
    infer = (
        f"forward = {forward if mode == 'eager' else compiled}",
        "",
        "",
        "def infer(x):",
        "    return forward(tf.constant(x)).numpy()",
    )
    settings = SETTINGS.format(threads=threads).splitlines()[1:]
    export = (
        f"model(np.zeros((1, *{model.input_shape}), np.float32))",
        f'model.export("{FILE}", format="onnx", verbose=False)',
    )
    return Script(
        packages=("tensorflow", "keras"),
        imports=("import keras", "import tensorflow as tf", "from keras import layers"),
        settings=tuple(settings),
        model=tuple(lines),
        infer=infer,
        export=export,
        exporter=("onnx", "tf2onnx"),
    )


def _calls(placed: Sequence[Placed]) -> list[str]:
    """Statements that apply the layers to ``x``."""
    lines, waiting = list[str](), list[str]()

    def flush() -> None:
        if waiting:
            lines.extend(["x = run(", *packed(["x", *waiting], "    "), ")"])
            waiting.clear()

    for each in placed:
        if isinstance(each.layer, Residual):
            flush()
            lines.append(f"x = layers.add([{_applied(each.body)}, {_applied(each.shortcut)}])")
        else:
            waiting.append(_layer(each))
    flush()
    return lines


def _applied(placed: Sequence[Placed]) -> str:
    return f"run({', '.join(['x', *map(_layer, placed)])})" if placed else "x"


def _layer(placed: Placed) -> str:
    shape = placed.input_shape
    match placed.layer:
        case Conv2D(filters, kernel, stride, padding, bias):
            return f"layers.Conv2D({filters}, {kernel}{_more(stride, padding, bias)})"
        case DepthwiseConv2D(kernel, stride, padding, bias):
            return f"layers.DepthwiseConv2D({kernel}{_more(stride, padding, bias)})"
        case Dense(units, bias):
            return f"layers.Dense({units}{'' if bias else ', use_bias=False'})"
        case BatchNorm(momentum, epsilon):
            return f"layers.BatchNormalization(momentum={momentum:g}, epsilon={epsilon:g})"
        case ReLU():
            return "layers.ReLU()"
        case Dropout(rate):
            return f"layers.Dropout({rate:g})"
        case MaxPool2D(size):
            return f"layers.MaxPooling2D({size}, {placed.layer.step})"
        case AveragePool2D(size):
            return f"layers.AveragePooling2D({size}, {placed.layer.step})"
        case GlobalAveragePool():
            return "layers.GlobalAveragePooling2D()"
        case Flatten():
            return "layers.Flatten()"
        case ZeroPadShortcut(filters, stride):
            extra = [[0, 0], [0, 0], [0, 0], [0, filters - shape[-1]]]
            return f"lambda x: keras.ops.pad(x[:, ::{stride}, ::{stride}, :], {extra})"
    raise Unsupported(f"there is no plain code for a layer {type(placed.layer).__name__} here")


def _more(stride: int, padding: str, bias: bool) -> str:
    parts = (f"strides={stride}" * (stride != 1), 'padding="same"' * (padding == "same"), "use_bias=False" * (not bias))
    return "".join(f", {part}" for part in parts if part)
