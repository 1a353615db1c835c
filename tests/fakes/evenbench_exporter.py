"""PyTorch with exporters that write another model than was trained."""

from __future__ import annotations

from backends.pytorch import Adapter as PyTorch


class ExportsHalf(PyTorch):
    """Its file's weights have the precision of float16."""

    def export(self, path, format_name):
        super().export(path, format_name)
        import numpy as np
        import onnx
        from onnx import numpy_helper

        model = onnx.load(str(path))
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.dtype == np.float32:
                tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16).astype(np.float32), tensor.name))
        onnx.save(model, str(path))


class ExportsATable(PyTorch):
    """Its file looks logits up by the sum of an image's pixels: no layer is computed."""

    def export(self, path, format_name):
        super().export(path, format_name)
        import numpy as np
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        model = onnx.load(str(path))
        graph = model.graph
        x, y = graph.input[0].name, graph.output[0].name
        table = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)
        weights = {"axes": np.array([1, 2, 3]), "table": table, "zero": np.array(0), "last": np.array(63)}
        nodes = [
            helper.make_node("ReduceSum", [x, "axes"], ["sum"], keepdims=0),
            helper.make_node("Cast", ["sum"], ["whole"], to=TensorProto.INT64),
            helper.make_node("Clip", ["whole", "zero", "last"], ["place"]),
            helper.make_node("Gather", ["table", "place"], [y]),
        ]
        initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
        made = helper.make_graph(nodes, "table", graph.input, graph.output, initializers)
        onnx.save(helper.make_model(made, opset_imports=model.opset_import, ir_version=model.ir_version), str(path))
