"""PyTorch with an exporter that writes another model than it trained."""

from __future__ import annotations

from backends.pytorch import Adapter as PyTorch


class ExportsHalf(PyTorch):
    """Its file's weights have the precision of float16."""

    def export_onnx(self, path):
        super().export_onnx(path)
        import numpy as np
        import onnx
        from onnx import numpy_helper

        model = onnx.load(str(path))
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.dtype == np.float32:
                tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16).astype(np.float32), tensor.name))
        onnx.save(model, str(path))
