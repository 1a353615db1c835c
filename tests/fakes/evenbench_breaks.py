"""Backends that break in one phase of a worker, each in one way: docs/reliability.md has the table.

A module of one line per way imports this one: ``Adapter = breaking("segfault")``. The phase is that of the variable
``PHASE``: ``import``, or the name of the step that is going on when the adapter is called.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
from evenbench_wrong import Right

from bench.worker import clock

PHASE = "BREAKS_IN"
STEPS = {"build": "build", "certify": "certify", "fit": "fit", "export": "export", "warm-up": "warm_up",
         "timed": "slice", "finish": "finish"}  # fmt: skip
"""By phase: the function, of the adapter or of ``bench.worker.session``, during which it breaks."""
IN_WORKER = "EVENBENCH_PARENT" in os.environ


def reply(content: bytes) -> None:
    """Write to the pipe to the parent, and to every other pipe that there is."""
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            if number > 2 and stat.S_ISFIFO(os.fstat(number).st_mode):
                os.write(number, content)
        except OSError:
            continue  # the listing's own descriptor, or the reading end of a pipe


def scratch() -> Path:
    """The folder of the run: the worker's log is in it."""
    return Path(os.readlink("/proc/self/fd/2")).parent


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def raise_an_error() -> None:
    raise RuntimeError("upside down")


def hang() -> None:
    threading.Event().wait()


def print_without_end() -> None:
    while True:
        os.write(1, b"x" * 65535 + b"\n")


def start_threads_without_end() -> None:
    while True:
        threading.Thread(target=hang, daemon=True).start()


def allocate_without_end() -> None:
    held = []
    while True:
        held.append(np.ones(2**24))


def exit_without_a_reply() -> None:
    os._exit(0)


def write_half_a_reply() -> None:
    reply(b'{"ok": {"first_call": 0.1, "cold')
    os._exit(0)


def reply_to_another_request() -> None:
    reply(json.dumps({"ok": {"batches": 4}}).encode() + b"\n")
    hang()


def jump() -> None:
    """The clocks of this process go on by an hour."""
    real, monotonic, now = time.time, time.monotonic, clock.now
    time.time, time.monotonic, clock.now = (lambda: real() + 3600), (lambda: monotonic() + 3600), (lambda: now() + 3600)


def fill_the_disk() -> None:
    with (scratch() / "filler").open("wb") as file:
        while True:
            file.write(b"x" * 2**20)
            file.flush()


def make_it_read_only() -> None:
    """For whoever opens a file from now on."""
    folder = str(scratch().parent)
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)


def remove_the_scratch() -> None:
    shutil.rmtree(scratch())


WAYS = {
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stopped": stop,
    "raises": raise_an_error,
    "hangs": hang,
    "prints": print_without_end,
    "threads": start_threads_without_end,
    "allocates": allocate_without_end,
    "exits": exit_without_a_reply,
    "half-a-reply": write_half_a_reply,
    "another-reply": reply_to_another_request,
    "clock-jump": jump,
    "disk-full": fill_the_disk,
    "read-only": make_it_read_only,
    "no-scratch": remove_the_scratch,
}
"""What happens, by name. Beside these: ``nan``, which every output and weight becomes."""


def breaking(way: str) -> type[Right]:
    """A backend that breaks in this way, in the phase that the environment names."""
    assert way in WAYS or way == "nan"
    phase, done = os.environ.get(PHASE, ""), []

    def due() -> bool:
        """Whether the phase is going on, and it has not broken before."""
        frame = sys._getframe()
        while frame is not None:
            if frame.f_code.co_name == STEPS.get(phase) and not done:
                return True
            frame = frame.f_back
        return False

    def break_if_due() -> None:
        if way in WAYS and due():
            done.append(phase)
            WAYS[way]()

    class Breaks(Right):
        TASKS: ClassVar[frozenset[str]] = Right.TASKS | {"fit"}
        WRITES: ClassVar[tuple[str, ...]] = ("onnx",) if phase == "export" else ()

        def build(self, *arguments):
            break_if_due()
            super().build(*arguments)

        def forward(self, x):
            break_if_due()
            y = super().forward(x)
            return np.full_like(y, np.nan) if way == "nan" and due() else y

        def train_step(self, *arguments):
            break_if_due()
            loss = super().train_step(*arguments)
            return float("nan") if way == "nan" and due() else loss

        def weights(self):
            weights = super().weights()
            spoiled = way == "nan" and due()
            return {name: np.full_like(each, np.inf) if spoiled else each for name, each in weights.items()}

        def export(self, path, format_name):
            break_if_due()
            path.write_bytes(b"no model")

        def settings(self):
            break_if_due()
            return super().settings()

    if phase == "import" and IN_WORKER and way in WAYS:
        WAYS[way]()
    return Breaks
