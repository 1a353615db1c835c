"""The inputs of certificates, warm-up and users' files, from the files that the parent wrote."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bench.array_files import read_arrays
from bench.worker.protocol import Work


def batch_of(work: Work, size: int, start: int = 0) -> tuple[Any, Any]:
    """``size`` normalized images for timing and certificates, from ``start`` on, repeated if there are fewer, and their
    labels. For a user's file: its inputs by name, and None."""
    if work.inputs is not None:
        batches = {}
        for name, values in read_inputs(work).items():
            axis = work.batch_axes.get(name)
            if axis is not None:
                index = (start + np.arange(size)) % values.shape[axis]
                values = np.ascontiguousarray(np.take(values, index, axis=axis))
            batches[name] = values
        return batches, None
    x, y = sample_of(work)
    index = (start + np.arange(size)) % len(x)
    return x[index], y[index]


def read_inputs(work: Work) -> dict[str, npt.NDArray[Any]]:
    """All samples of a user's file's inputs, by name."""
    assert work.inputs is not None, "a user's file"
    return {key.removeprefix("input "): values for key, values in read_arrays(work.inputs).items()}


def sample_of(work: Work) -> tuple[Any, Any]:
    """The normalized images for timing and certificates, and their labels."""
    x = np.load(work.data / "sample_x.npy", mmap_mode="r", allow_pickle=False)
    return x, np.load(work.data / "sample_y.npy", mmap_mode="r", allow_pickle=False)
