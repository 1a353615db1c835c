"""ONNX files in lower precision, as runtimes read them: made by ONNX Runtime's tools, whichever runtime runs them."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np

from backends.base import Images, Unavailable

_TOOLS = "fp16 and int8 files are made by ONNX Runtime's tools: pip install 'evenbench[onnx]'"


def product(size: int) -> bytes | None:
    """An ONNX file that multiplies its input ``a``, a ``(size, size)`` matrix, by one of its own; None: the package
    onnx is not installed."""
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return None
    a, out = (helper.make_tensor_value_info(name, TensorProto.FLOAT, (size, size)) for name in ("a", "out"))
    weight = numpy_helper.from_array(np.ones((size, size), np.float32), "weight")
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "weight"], ["out"])], "product", [a], [out], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def to_fp16(onnx_path: Path, out: Path) -> None:
    """Write the file with weights and arithmetic in float16 (``onnxruntime.transformers.float16``); input and output
    stay float32.

    Raises:
        Unavailable: ONNX Runtime is not installed.
    """
    try:
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise Unavailable(_TOOLS) from error
    onnx.save(convert_float_to_float16(onnx.load(str(onnx_path)), keep_io_types=True), str(out))


def to_int8(onnx_path: Path, out: Path, calibration: Images) -> None:
    """Write the file in 8 bits by static quantization (QDQ, per channel, activation ranges by minimum and maximum over
    the calibration images), with the types that the quantizer's manual recommends for this processor.

    ``calibration``: normalized images in the layout of the file's input.

    Raises:
        Unavailable: ONNX Runtime is not installed.
    """
    try:
        import onnx
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise Unavailable(_TOOLS) from error
    prepared = out.with_suffix(".prepared.onnx")
    quant_pre_process(str(onnx_path), str(prepared), skip_symbolic_shape=True)
    name = onnx.load(str(onnx_path), load_external_data=False).graph.input[0].name
    quantize_static(
        str(prepared),
        str(out),
        _Calibration(name, [calibration[i : i + 64] for i in range(0, len(calibration), 64)]),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=_saturates(),
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QInt8 if _is_arm() else QuantType.QUInt8,
    )
    prepared.unlink()


def _is_arm() -> bool:
    return platform.machine().lower() in ("aarch64", "arm64")


def _saturates() -> bool:
    """Whether sums of 8-bit products may overflow, as on x86 without VNNI. 7-bit weights avoid it (manual of
    ``quantize_static``, "Choosing parameters for CPU inference")."""
    try:
        return not _is_arm() and "vnni" not in Path("/proc/cpuinfo").read_text()
    except OSError:
        return not _is_arm()  # unknown here, so avoid the overflow


class _Calibration:
    """The batches for the quantizer, which reads them one by one."""

    def __init__(self, name: str, batches: list[Images]) -> None:
        self._batches = iter([{name: batch} for batch in batches])

    def get_next(self) -> dict[str, Images] | None:
        return next(self._batches, None)
