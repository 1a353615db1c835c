"""Google's ``grain``, the loader that JAX's users take, over image files: Pillow decodes, NumPy changes the images,
worker processes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from backends.base import ENTRY, ImageFiles, Images, InputPipeline, Labels, Unavailable

BUFFER = 1
"""Batches that every worker keeps ready: grain's default."""
IN_WORK = 3
"""Batches that a worker has in its hands besides: seen, with one to three workers."""
ENDLESS = 2**40


class GrainLoader(InputPipeline):
    """``finish`` brings images and labels to the device."""

    def __init__(
        self, files: ImageFiles, batch_size: int, workers: int, finish: Callable[[Any, Any], tuple[Any, Any]]
    ) -> None:
        try:
            import grain
            from absl import flags
        except ImportError as error:
            raise Unavailable("grain is missing, its input pipeline: pip install 'evenbench[input]'") from error
        if not flags.FLAGS.is_parsed():  # grain reads its own, which a program that is not absl's has not parsed
            flags.FLAGS.mark_as_parsed()
        self._finish = finish
        self._order = tempfile.NamedTemporaryFile(prefix="order-", suffix=".bin")  # noqa: SIM115  (closed by close)
        reads = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        data = grain.MapDataset.source(_Batches(self._order.name, batch_size)).map(_Pictures(files))
        stream = data.to_iter_dataset(reads)
        if workers:
            options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=BUFFER)
            stream = stream.mp_prefetch(options)
        self._data, self._stream = stream, None
        self.ahead = (BUFFER + IN_WORK) * workers
        where = (
            f"{workers} worker process{'es' * (workers > 1)}, {BUFFER} batch ahead of each" if workers else "no workers"
        )
        self.describes = f"grain, Pillow, NumPy, {where}"

    def ask(self, entries: npt.NDArray[np.int32]) -> None:
        self._order.write(np.ascontiguousarray(entries, np.int32).tobytes())
        self._order.flush()

    def next(self) -> tuple[Any, Any]:
        if self._stream is None:
            self._stream = iter(self._data)
        return self._finish(*next(self._stream))

    def to_host(self, x: Any, y: Any) -> tuple[Images, Labels]:
        return np.asarray(x, np.float32), np.asarray(y)

    def close(self) -> None:
        if self._stream is not None and hasattr(self._stream, "close"):
            self._stream.close()
        self._stream = None
        self._order.close()


class _Batches:
    """The entries of a batch by its number, from a file that grows while workers read it."""

    def __init__(self, path: str, size: int) -> None:
        self._path, self._size = path, size

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, number: int) -> npt.NDArray[np.int32]:
        length = self._size * len(ENTRY) * 4
        with open(self._path, "rb") as file:
            found = os.pread(file.fileno(), length, length * number)
        return np.frombuffer(found, np.int32).reshape(self._size, len(ENTRY))


class _Pictures:
    """A batch by its entries."""

    def __init__(self, files: ImageFiles) -> None:
        self._files = files

    def __call__(self, entries: npt.NDArray[np.int32]) -> tuple[Images, Labels]:
        images = np.stack([self._image(*entry) for entry in entries.tolist()])
        return images, self._files.labels[entries[:, 0]]

    def _image(self, file: int, top: int, left: int, flipped: int, hole_top: int, hole_left: int) -> Images:
        from PIL import Image

        files = self._files
        height, width, _ = files.shape
        with Image.open(files.paths[file]) as image:
            x = np.array(image).reshape(files.shape)
        if files.crop_padding:
            around = (files.crop_padding, files.crop_padding)
            x = np.pad(x, (around, around, (0, 0)))[top : top + height, left : left + width]
        if flipped:
            x = x[:, ::-1]
        if files.cutout:
            x = x.copy()
            x[max(hole_top, 0) : hole_top + files.cutout, max(hole_left, 0) : hole_left + files.cutout] = 0
        return (x.astype(np.float32) / np.float32(255) - np.float32(files.mean)) / np.float32(files.std)
