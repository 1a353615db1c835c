"""Adapters that end badly: each must cost only its own row."""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
from typing import ClassVar

import numpy as np
from evenbench_wrong import Right

from backends.base import Unsupported


class Rude(Right):
    """Certifies well; misbehaves at the first call of a measuring worker."""

    def infer(self, x):
        self.misbehave()
        return super().infer(x)

    def misbehave(self):
        raise NotImplementedError


class Segfaults(Rude):
    def misbehave(self):
        os.kill(os.getpid(), signal.SIGSEGV)


class IsKilled(Rude):
    def misbehave(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Hangs(Rude):
    def misbehave(self):
        threading.Event().wait()


class Raises(Rude):
    def misbehave(self):
        raise RuntimeError("the kernel of conv2d is\nupside down")


class Refuses(Rude):
    def misbehave(self):
        raise Unsupported("no convolutions on Mondays")


class RunsOutOfMemory(Rude):
    def misbehave(self):
        np.empty(1 << 60, np.uint8)


class Exits(Rude):
    def misbehave(self):
        print("a last word on standard error", file=__import__("sys").stderr, flush=True)
        os._exit(3)


class WritesGarbage(Rude):
    """Writes to every pipe it can find, the parent's among them, and to standard output as frameworks do."""

    def misbehave(self):
        print("a framework's greeting on standard output")
        for number in map(int, os.listdir("/proc/self/fd")):
            try:
                if number > 2 and stat.S_ISFIFO(os.fstat(number).st_mode):
                    os.write(number, b"\x00\xffnot json\n")
            except OSError:
                continue  # the listing's own descriptor, or the reading end of a pipe


class Prints(Right):
    """Well-behaved, but chatty: prints to standard output at every call."""

    MODES: ClassVar[tuple[str, ...]] = ("chatty",)

    def infer(self, x):
        os.write(1, b"written to file descriptor 1\n")
        print("printed")
        return super().infer(x)


class LossIsNotANumber(Right):
    """Trains to a loss that is NaN: it must fail its certificate, and no NaN may reach a record."""

    def train_step(self, x, y, learning_rate):
        return float("nan")


class SmallMemory(Right):
    """Has room for eight images."""

    def infer(self, x):
        if len(x) > 8 and len(x) != 256:  # evaluation's batch
            np.empty(1 << 60, np.uint8)
        return super().infer(x)


class DiesAboveFour(Right):
    """Memory ends in the middle of a slice, as when the kernel ends the process: not while it warms up."""

    def infer(self, x):
        callers = []
        frame = sys._getframe()
        while frame is not None:
            callers.append(frame.f_code.co_name)
            frame = frame.f_back
        if len(x) > 4 and "slice" in callers:
            raise MemoryError("no room")
        return super().infer(x)


class TellsEverything(Rude):
    """Prints and raises all that its process knows."""

    def misbehave(self):
        print(dict(os.environ))
        for name, value in os.environ.items():
            print(f"{name}={value}")
        raise RuntimeError(f"with {dict(os.environ)}")
