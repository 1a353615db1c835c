"""PyTorch's ``DataLoader`` over image files: Pillow decodes, tensors are changed one by one, worker processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from backends.base import ImageFiles, Images, InputPipeline, Labels

PREFETCH = 2
"""Batches that every worker makes ahead: PyTorch's default."""


class TorchLoader(InputPipeline):
    """``finish`` brings images and labels to the device. ``channels_first``: of the images that it gets."""

    def __init__(
        self,
        files: ImageFiles,
        workers: int,
        finish: Callable[[Any, Any], tuple[Any, Any]],
        channels_first: bool,
        pinned: bool,
    ) -> None:
        self._files, self._workers = files, workers
        self._finish, self._channels_first, self._pinned = finish, channels_first, pinned
        self._asked: deque[list[tuple[int, ...]]] = deque()
        self._stream: Any = None
        self.ahead = PREFETCH * workers
        where = (
            f"{workers} worker process{'es' * (workers > 1)}, {PREFETCH} batches ahead of each"
            if workers
            else "no workers"
        )
        self.describes = f"torch.utils.data.DataLoader, Pillow, {where}{', pinned memory' if pinned else ''}"

    def ask(self, entries: npt.NDArray[np.int32]) -> None:
        self._asked.append(list(map(tuple, entries.tolist())))

    def next(self) -> tuple[Any, Any]:
        if self._stream is None:
            self._stream = iter(self._loader())
        return self._finish(*next(self._stream))

    def _loader(self) -> Any:
        from torch.utils.data import DataLoader

        ahead = {"prefetch_factor": PREFETCH} if self._workers else {}
        return DataLoader(
            _Pictures(self._files, self._channels_first), batch_sampler=_Sampler(self._asked),
            num_workers=self._workers, pin_memory=self._pinned, **ahead,
        )  # fmt: skip

    def to_host(self, x: Any, y: Any) -> tuple[Images, Labels]:
        x = x.permute(0, 2, 3, 1) if self._channels_first else x
        return np.ascontiguousarray(x.float().cpu().numpy()), y.cpu().numpy()

    def close(self) -> None:
        self._stream = None  # its end joins the workers


class _Sampler:
    """The batches that were asked for, in their order."""

    def __init__(self, asked: deque[list[tuple[int, ...]]]) -> None:
        self._asked = asked

    def __iter__(self) -> Iterator[list[tuple[int, ...]]]:
        while True:
            yield self._asked.popleft()


class _Pictures:
    """One image by its entry."""

    def __init__(self, files: ImageFiles, channels_first: bool) -> None:
        self._files, self._channels_first = files, channels_first

    def __getitem__(self, entry: tuple[int, ...]) -> tuple[Any, int]:
        import torch
        from PIL import Image

        files, (file, top, left, flipped, hole_top, hole_left) = self._files, entry
        height, width, _ = files.shape
        with Image.open(files.paths[file]) as image:
            x = torch.from_numpy(np.array(image).reshape(files.shape))
        if files.crop_padding:
            around = (files.crop_padding, files.crop_padding)
            padded = torch.nn.functional.pad(x, (0, 0, *around, *around))
            x = padded[top : top + height, left : left + width]
        if flipped:
            x = x.flip(1)
        if files.cutout:
            x = x.clone()
            x[max(hole_top, 0) : hole_top + files.cutout, max(hole_left, 0) : hole_left + files.cutout] = 0
        x = x.permute(2, 0, 1) if self._channels_first else x
        return x.float().div_(255).sub_(files.mean).div_(files.std), int(files.labels[file])
