"""TensorFlow's ``tf.data`` over image files: a pool of threads decodes and changes the images in a graph."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from backends.base import ENTRY, ImageFiles, Images, InputPipeline, Labels

PREFETCH = 2
"""Batches that are made ahead."""
ENDLESS = 2**62


class TfData(InputPipeline):
    """``finish`` brings images and labels to the device."""

    def __init__(
        self, tf: Any, files: ImageFiles, batch_size: int, workers: int, finish: Callable[[Any, Any], tuple[Any, Any]]
    ) -> None:
        self._tf, self._files, self._size, self._finish = tf, files, batch_size, finish
        self.ahead = PREFETCH + 1 + math.ceil(workers / batch_size) if workers else 0
        self._asked, self._rows = 0, (self.ahead + 2) * batch_size
        with tf.device("/CPU:0"):
            self._order = tf.Variable(np.zeros((self._rows, len(ENTRY)), np.int32), trainable=False)
            self._paths, self._labels = tf.constant(list(files.paths)), tf.constant(files.labels)
            data = tf.data.Dataset.range(ENDLESS).map(self._load, num_parallel_calls=workers or None)
            data = data.batch(batch_size, drop_remainder=True)
            data = data.prefetch(PREFETCH) if workers else data
            options = tf.data.Options()
            options.threading.private_threadpool_size = max(1, workers)
            options.threading.max_intra_op_parallelism = 1
            options.autotune.enabled = False  # it would choose other numbers
            # By default a batch is made ahead in a thread, where no workers are asked for too.
            options.experimental_optimization.apply_default_optimizations = workers > 0
            self._data = data.with_options(options)
        self._stream: Any = None
        where = f"{workers} thread{'s' * (workers > 1)}, {PREFETCH} batches ahead" if workers else "no workers"
        self.describes = f"tf.data, {where}"

    def ask(self, entries: npt.NDArray[np.int32]) -> None:
        tf = self._tf
        first = self._asked * self._size % self._rows  # the place of a batch that was taken long ago
        self._asked += 1
        with tf.device("/CPU:0"):
            self._order.scatter_update(tf.IndexedSlices(entries, tf.range(first, first + self._size)))

    def next(self) -> tuple[Any, Any]:
        if self._stream is None:
            self._stream = iter(self._data)
        return self._finish(*next(self._stream))

    def _load(self, number: Any) -> tuple[Any, Any]:
        tf, files = self._tf, self._files
        height, width, channels = files.shape
        entry = tf.gather(self._order, number % self._rows)
        file, top, left, flipped = entry[0], entry[1], entry[2], entry[3] > 0
        x = tf.io.decode_png(tf.io.read_file(self._paths[file]), channels)
        x = tf.ensure_shape(x, files.shape)
        if files.crop_padding:
            around = [files.crop_padding, files.crop_padding]
            x = tf.slice(tf.pad(x, [around, around, [0, 0]]), [top, left, 0], files.shape)
        if files.flip:
            x = tf.cond(flipped, lambda: tf.reverse(x, [1]), lambda: x)
        if files.cutout:
            inside = []
            for first, side in ((entry[4], height), (entry[5], width)):
                index = tf.range(side)
                inside.append((index >= first) & (index < first + files.cutout))
            x = tf.where((inside[0][:, None] & inside[1][None, :])[..., None], tf.zeros_like(x), x)
        return (tf.cast(x, tf.float32) / 255 - files.mean) / files.std, self._labels[file]

    def to_host(self, x: Any, y: Any) -> tuple[Images, Labels]:
        return x.numpy(), y.numpy()

    def close(self) -> None:
        self._stream = None
