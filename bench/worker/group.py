"""Several processes that train one model together, behind the pipes of one worker.

The worker starts them by the framework's own launcher, and loads no framework itself. Each of them runs a session
(``bench.worker.session``) and gets every request; their replies become one: the time of the slowest, the sum of memory
and counters, the mean of losses, each of which is of a process' own part of a batch.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import backends
from backends.base import PROCESSES, Launch
from bench.worker import protocol
from bench.worker.protocol import (
    ALIVE,
    Certified,
    Certify,
    Close,
    Closed,
    Finished,
    Job,
    KeptOutputs,
    Request,
    TimedSlice,
    Work,
)

SOCKET, RANK_NAME = "EVENBENCH_RANKS", "EVENBENCH_RANK_NAME"
"""Environment variables of a process of the group: where the worker listens, and which variable has its rank."""
AGREE = "agree"
"""Key of a line by which processes agree on a number: that of the first."""
START_SECONDS, LOOK_SECONDS = 120.0, 1.0
"""The longest time until all processes have come, and how often it is looked whether their launcher still runs."""


def processes_of(job: Job) -> int:
    """How many processes a job's workers have: more than one where the backend scales by processes."""
    count = job.processes or 1
    return count if count > 1 and backends.describe(job.backend).SCALES_BY == PROCESSES else 1


def parts_of(job: Job, normalizes: bool) -> int:
    """In how many parts a batch is normalized, if the model normalizes: by each process."""
    return processes_of(job) if normalizes else 1


def rank_folder(folder: Path, rank: int) -> Path:
    """Where a process of a group writes, in place of ``folder``."""
    return folder if rank == 0 else folder / f"rank-{rank}"


def connect() -> tuple[int, TextIO, BinaryIO] | None:
    """In a process of a group: its rank, and the streams of its requests and replies; None: it is in none."""
    path = os.environ.get(SOCKET)
    if path is None:
        return None
    rank = int(os.environ[os.environ[RANK_NAME]])
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    requests, replies = connection.makefile("r", encoding="utf-8"), connection.makefile("wb")
    replies.write(f"{rank}\n".encode())
    replies.flush()
    return rank, requests, replies


class Peers:
    """How a process of a group agrees with the others; alone, it agrees with itself."""

    def __init__(self, requests: TextIO | None = None, replies: BinaryIO | None = None) -> None:
        self._requests, self._replies = requests, replies

    def agree(self, number: float) -> float:
        """The number of the first process, for all. All of them have to call it."""
        if self._requests is None or self._replies is None:
            return number
        self._replies.write(json.dumps({AGREE: number}).encode() + b"\n")
        self._replies.flush()
        return float(json.loads(self._requests.readline())[AGREE])


class Group:
    """The processes, from the worker's side."""

    def __init__(self, work: Work) -> None:
        self.count = processes_of(work.job)
        self._waited = 0.0
        self._folder = tempfile.TemporaryDirectory(prefix="ranks-")
        path = str(Path(self._folder.name) / "socket")
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        listening.listen(self.count)
        launch: Launch = backends.load(work.job.backend).launch(self.count)
        own = {SOCKET: path, RANK_NAME: launch.rank, "PYTHONSAFEPATH": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", *launch.arguments, "-m", "bench.worker"],
            stdin=subprocess.DEVNULL, stdout=2, env={**os.environ, **launch.environment, **own},
        )  # fmt: skip
        self._connections = self._accept(listening)
        # Without a buffer: the selector sees every line that is still to be read.
        self._lines = [connection.makefile("rb", buffering=0) for connection in self._connections]
        listening.close()

    def _accept(self, listening: socket.socket) -> list[socket.socket]:
        """The connections of all processes, by rank.

        Raises:
            RuntimeError: not all of them came.
        """
        found: dict[int, socket.socket] = {}
        deadline = time.monotonic() + START_SECONDS
        listening.settimeout(LOOK_SECONDS)
        while len(found) < self.count:
            try:
                connection, _ = listening.accept()
            except TimeoutError as error:
                missing = ", ".join(str(rank) for rank in range(self.count) if rank not in found)
                if self._process.poll() is not None:
                    raise RuntimeError(f"the launcher ended before process {missing} came (see the log)") from error
                if time.monotonic() > deadline:
                    raise RuntimeError(f"process {missing} did not come within {START_SECONDS:g} s") from error
                continue
            connection.settimeout(None)
            with connection.makefile("rb", buffering=0) as stream:
                found[int(stream.readline())] = connection
        return [found[rank] for rank in range(self.count)]

    def ask(self, line: str, alive: Callable[[], None]) -> bytes:
        """Send a request to all, and make one reply of theirs."""
        _, request, spawned_at = protocol.read_request(line)
        for rank, connection in enumerate(self._connections):
            connection.sendall(protocol.write_request(_of_rank(request, rank), spawned_at))
        lines = self._replies(alive)
        error = next((each for each in lines if each is not None and "error" in json.loads(each)), None)
        if error is not None:
            return error
        kind = request.reply_type()
        replies = [protocol.read_reply(each, kind) for each in lines if each is not None]
        return protocol.write_reply(self._with_waits(merged(replies), replies[0]))

    def _with_waits(self, reply: Any, first: Any) -> Any:
        """The reply with the time by phase of the slowest process, where a slice's is that of another than the
        first."""
        if isinstance(reply, TimedSlice):
            self._waited += reply.seconds - first.seconds
        report = getattr(reply, "report", None)
        if report is None or "timed" not in report.phases:
            return reply
        phases = {**report.phases, "timed": report.phases["timed"] + self._waited}
        return replace(reply, report=replace(report, phases=phases))

    def _replies(self, alive: Callable[[], None]) -> list[bytes | None]:
        """A line of every process, or those until the first error; meanwhile they may agree on numbers."""
        lines: list[bytes | None] = [None] * self.count
        agreed: dict[int, float] = {}
        with selectors.DefaultSelector() as selector:
            for rank, connection in enumerate(self._connections):
                selector.register(connection, selectors.EVENT_READ, rank)
            while any(line is None for line in lines):
                for key, _ in selector.select():
                    rank = int(key.data)
                    line = self._lines[rank].readline()
                    if not line:
                        return [protocol.write_error("failed", f"process {rank} of {self.count} ended early")]
                    if line == ALIVE:
                        alive()
                    elif line.startswith(b'{"agree"'):
                        agreed[rank] = json.loads(line)[AGREE]
                    else:
                        lines[rank] = line
                        if b'"error"' in line[:10]:
                            return [line]
                if len(agreed) == self.count:
                    for connection in self._connections:
                        connection.sendall(json.dumps({AGREE: agreed[0]}).encode() + b"\n")
                    agreed.clear()
        return lines


def _of_rank(request: Request[Any], rank: int) -> Request[Any]:
    """The request with files of the process' own."""
    if isinstance(request, Certify):
        out = rank_folder(request.out, rank)
        out.mkdir(exist_ok=True)
        return replace(request, out=out)
    if isinstance(request, Close):
        return replace(request, out=rank_folder(request.out.parent, rank) / request.out.name)
    return request


def merged(replies: Sequence[Any]) -> Any:
    """One reply of those of all processes, in their order."""
    first = replies[0]
    if isinstance(first, TimedSlice):
        slowest = max(replies, key=lambda each: each.seconds)
        ready = [each.ready for each in replies if each.ready is not None]
        return replace(slowest, counters=_summed([each.counters for each in replies]), ready=max(ready, default=None))
    if isinstance(first, KeptOutputs):
        return replace(first, values=_mean_values([each.values for each in replies]))
    if isinstance(first, Closed):
        return Closed(losses=_means([each.losses for each in replies]))
    if isinstance(first, Finished):
        return replace(
            first,
            peak_rss=_summed([each.peak_rss for each in replies]),
            rss=sum(each.rss for each in replies),
            framework_memory=_summed([each.framework_memory for each in replies]),
            report=_report(replies),
        )
    if isinstance(first, Certified):
        return replace(first, report=_report(replies))
    return first


def _report(replies: Sequence[Any]) -> Any:
    return replace(replies[0].report, peak_rss=sum(each.report.peak_rss for each in replies))


def _summed(mappings: Sequence[Mapping[str, int]]) -> dict[str, int]:
    return {name: sum(each.get(name, 0) for each in mappings) for name in mappings[0]}


def _means(losses: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(sum(each) / len(each) for each in zip(*losses, strict=True))


def _mean_values(
    values: Sequence[tuple[tuple[tuple[float, ...], ...], ...]],
) -> tuple[tuple[tuple[float, ...], ...], ...]:
    """The mean of losses: of every kept output its one value."""
    means = _means([[output[0][0] for output in each] for each in values]) if values[0] else ()
    return tuple(((mean,),) for mean in means)
