"""An ONNX file in ONNX Runtime, as its Python API page has it, timed around its runs.

python onnxruntime.py infer IMAGES.npy MODEL.onnx THREADS
"""

from __future__ import annotations

import sys
import time

from serve import pin, serve

pin()
sys.path.pop(0)  # this folder has files named like the frameworks

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402

images, model, threads = np.load(sys.argv[2], mmap_mode="r"), sys.argv[3], int(sys.argv[4])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
entry = session.get_inputs()[0]
x = np.array(images[:128] if entry.shape[-1] == 3 else images[:128].transpose(0, 3, 1, 2), order="C")
feed = {entry.name: x}


def seconds_per_step(steps: int) -> float:
    session.run(None, feed)
    begin = time.perf_counter()
    for _ in range(steps):
        session.run(None, feed)
    return (time.perf_counter() - begin) / steps


serve(seconds_per_step)
