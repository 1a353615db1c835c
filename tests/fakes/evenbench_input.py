"""Adapters with an input pipeline in plain Python: a right one, one of known cost, and ones that cheat or are wrong."""

from __future__ import annotations

import time
from collections import deque
from queue import Queue
from threading import Thread

import numpy as np
from evenbench_wrong import Right
from PIL import Image

COST = 0.010
"""Seconds that a batch of ``Known`` takes, of any size."""


class Pipeline:
    """Makes every batch when it is asked to come."""

    ahead = 0
    describes = "plain Python"

    def __init__(self, files, batch_size, workers):
        self.files, self.batch_size, self.asked = files, batch_size, deque()

    def ask(self, entries):
        self.asked.append(entries)

    def next(self):
        return self.make(self.asked.popleft())

    def make(self, entries):
        images = np.stack([self.changed(self.decoded(entry[0]), *entry[1:]) for entry in entries.tolist()])
        mean, std = np.float32(self.files.mean), np.float32(self.files.std)
        return (images.astype(np.float32) / np.float32(255) - mean) / std, self.files.labels[entries[:, 0]]

    def decoded(self, file):
        with Image.open(self.files.paths[file]) as image:
            return np.array(image).reshape(self.files.shape)

    def changed(self, x, top, left, flipped, hole_top, hole_left):
        files, (height, width, _) = self.files, self.files.shape
        if files.crop_padding:
            around = (files.crop_padding, files.crop_padding)
            x = np.pad(x, (around, around, (0, 0)))[top : top + height, left : left + width]
        x = x[:, ::-1] if flipped else x
        if files.cutout:
            x = x.copy()
            x[max(hole_top, 0) : hole_top + files.cutout, max(hole_left, 0) : hole_left + files.cutout] = 0
        return x

    def to_host(self, x, y):
        return x, y

    def close(self):
        pass


class Reads(Right):
    """Right."""

    TASKS = Right.TASKS | {"input"}
    PIPELINE = Pipeline

    def input_pipeline(self, files, batch_size, workers):
        return self.PIPELINE(files, batch_size, workers)


class KnownPipeline(Pipeline):
    def next(self):
        end = time.perf_counter() + COST
        batch = super().next()
        while time.perf_counter() < end:
            pass
        return batch


class KnownInput(Reads):
    """A batch takes ten milliseconds."""

    PIPELINE = KnownPipeline


class CachingPipeline(Pipeline):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._known = {}

    def decoded(self, file):
        if file not in self._known:
            self._known[file] = super().decoded(file)
        return self._known[file]


class CachesImages(Reads):
    """Decodes every file once."""

    PIPELINE = CachingPipeline


class UnflippedPipeline(Pipeline):
    def changed(self, x, top, left, flipped, hole_top, hole_left):
        return super().changed(x, top, left, 0, hole_top, hole_left)


class NeverFlips(Reads):
    """Leaves one of the changes out."""

    PIPELINE = UnflippedPipeline


class MislabelingPipeline(Pipeline):
    def make(self, entries):
        x, y = super().make(entries)
        return x, np.roll(y, 1)


class Mislabels(Reads):
    """Gives every image the label of its neighbour."""

    PIPELINE = MislabelingPipeline


class BufferingPipeline(Pipeline):
    """A thread makes batches, also while the clock stands still."""

    ahead = 8

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.made, self.todo = Queue(), Queue()
        Thread(target=self.work, daemon=True).start()

    def ask(self, entries):
        self.todo.put(entries)

    def work(self):
        while True:
            entries = self.todo.get()
            end = time.perf_counter() + COST
            batch = self.make(entries)
            time.sleep(max(0.0, end - time.perf_counter()))
            self.made.put(batch)

    def next(self):
        return self.made.get()


class Buffers(Reads):
    """Has eight batches ready when the clock could begin, each of which took ten milliseconds."""

    PIPELINE = BufferingPipeline
