"""Serve one model under load: MLPerf's LoadGen issues queries, instances of the model answer them in batches.

LoadGen's clock is the only one: it counts each latency from the time at which the query was scheduled. Queries of the
scenarios single-stream and multi-stream are answered in the thread that issues them, because nothing else is to be
served meanwhile; the others wait in a queue, from which every instance takes a batch (dynamic batching).

Scenarios: https://github.com/mlcommons/inference_policies/blob/master/inference_rules.adoc, section 3.
"""

from __future__ import annotations

import queue
import re
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from backends.base import Backend, Images, Unavailable
from bench.worker import clock
from bench.worker.protocol import Probe, Probed

SCENARIOS = {
    "single-stream": "SingleStream",
    "multi-stream": "MultiStream",
    "offline": "Offline",
    "server": "Server",
}
"""Names of scenarios, here and in LoadGen."""
SWITCH = 1e-4
"""Seconds after which a thread that runs Python gives way: LoadGen's thread must issue queries in time."""
WARM_UP_CALLS = 3
"""Of each batch size: the first may compile."""
SUMMARY, DETAIL, TRACE = "mlperf_log_summary.txt", "mlperf_log_detail.txt", "mlperf_log_trace.json"
_SAMPLE = re.compile(r'"sample_seq":(\d+),"query_seq":(\d+),.*"issue_start_ns":(-?\d+),"complete_ns":(-?\d+)')


@dataclass(frozen=True)
class Waiting:
    """A sample that waits to be served."""

    response: int
    """LoadGen's number of it."""
    index: int
    arrived: float


class Server:
    """Instances of one model, with one queue. ``outputs``: by image of the probe, the logits that were served last."""

    def __init__(self, instances: Sequence[Backend], max_batch: int, max_delay: float) -> None:
        """``max_delay``: seconds that the first sample of a batch waits for others at most."""
        self._instances, self._max_batch, self._max_delay = instances, max_batch, max_delay
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._images: Images = np.empty((0, 1, 1, 1), np.float32)
        self._batches = 0
        self._error: Exception | None = None
        self.outputs: npt.NDArray[Any] = np.empty((0, 0))
        self.served: npt.NDArray[np.bool_] = np.empty(0, np.bool_)

    def warm_up(self, images: Callable[[int], Images]) -> tuple[float, ...]:
        """Call every instance at every batch size; the seconds of the fastest call, by batch size from 1."""
        seconds = []
        for size in range(1, self._max_batch + 1):
            calls = []
            for instance in self._instances:
                for _ in range(WARM_UP_CALLS):
                    begin = clock.now()
                    instance.infer(images(size))
                    calls.append(clock.now() - begin)
            seconds.append(min(calls))
        return tuple(seconds)

    def probe(self, probe: Probe, images: Images) -> Probed:
        """One test by LoadGen. Raises what an instance raised."""
        lg = _loadgen()
        self._images, self._batches, self._error = images, 0, None
        self.outputs = np.empty((len(images), self._instances[0].infer(images[:1]).shape[1]))
        self.served = np.zeros(len(images), np.bool_)
        inline = probe.scenario in ("single-stream", "multi-stream")
        waiting = () if inline else self._instances
        threads = [threading.Thread(target=self._serve, args=(each, lg), daemon=True) for each in waiting]
        sut = lg.ConstructSUT(self._answer(lg) if inline else self._enqueue, lambda: None)
        qsl = lg.ConstructQSL(len(images), len(images), lambda _: None, lambda _: None)
        for thread in threads:
            thread.start()
        begin, usual = clock.now(), sys.getswitchinterval()
        sys.setswitchinterval(SWITCH)
        try:
            lg.StartTestWithLogSettings(sut, qsl, _settings(lg, probe), _log_settings(lg, probe.log), "")
        finally:
            seconds = clock.now() - begin
            sys.setswitchinterval(usual)
            for _ in threads:
                self._queue.put(None)
            for thread in threads:
                thread.join()
            lg.DestroyQSL(qsl)
            lg.DestroySUT(sut)
        if self._error is not None:
            raise self._error
        whole = probe.scenario == "multi-stream"
        latencies, slips = _read_trace(probe.log / TRACE, whole)
        return Probed(
            latencies=latencies,
            slips=slips,
            samples=len(latencies) * (probe.samples if whole else 1),
            batches=self._batches,
            seconds=seconds,
            summary=(probe.log / SUMMARY).read_text(),
        )

    def _enqueue(self, samples: Sequence[Any]) -> None:
        """LoadGen's callback: the samples of a query, or of all queries (offline)."""
        arrived = clock.now()
        for sample in samples:
            self._queue.put(Waiting(sample.id, sample.index, arrived))

    def _answer(self, lg: Any) -> Callable[[Sequence[Any]], None]:
        """LoadGen's callback that answers a query at once, in batches of at most ``max_batch``."""

        def answer(samples: Sequence[Any]) -> None:
            for start in range(0, len(samples), self._max_batch):
                batch = samples[start : start + self._max_batch]
                self._infer(self._instances[0], [sample.index for sample in batch])
                lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.id, 0, 0) for sample in batch])

        return answer

    def _serve(self, instance: Backend, lg: Any) -> None:
        """The thread of an instance."""
        while (batch := self._take()) is not None:
            self._infer(instance, [sample.index for sample in batch])
            lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.response, 0, 0) for sample in batch])

    def _take(self) -> list[Waiting] | None:
        """The next batch: what waits now, or comes within ``max_delay`` of the first's arrival. None: the test has
        ended."""
        first = self._queue.get()
        if first is None:
            return None
        batch = [first]
        while len(batch) < self._max_batch:
            left = first.arrived + self._max_delay - clock.now()
            try:
                sample = self._queue.get(timeout=left) if left > 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            if sample is None:  # of this thread, or of another: each ends one
                self._queue.put(None)
                break
            batch.append(sample)
        return batch

    def _infer(self, instance: Backend, indices: list[int]) -> None:
        """After an error LoadGen still waits for its answers: they are given, and the test counts for nothing."""
        if self._error is None:
            try:
                if len(indices) == 1:  # a view: the copy would be a part of a small model's latency
                    (index,) = indices
                    self.outputs[index] = instance.infer(self._images[index : index + 1])[0]
                else:
                    self.outputs[indices] = instance.infer(self._images[indices])
                self.served[indices] = True
            except Exception as error:  # noqa: BLE001  (of another thread: ``probe`` raises it)
                self._error = error
        self._batches += 1


def _loadgen() -> Any:
    """LoadGen's module.

    Raises:
        Unavailable: it is not installed in this interpreter.
    """
    try:
        import mlperf_loadgen
    except ImportError as error:
        raise Unavailable("LoadGen is missing in its interpreter: pip install mlcommons-loadgen") from error
    return mlperf_loadgen


def _settings(lg: Any, probe: Probe) -> Any:
    """LoadGen's settings of a test."""
    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, SCENARIOS[probe.scenario])
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = round(1e3 * probe.seconds)
    settings.min_query_count = probe.queries
    settings.max_duration_ms = 0
    settings.single_stream_expected_latency_ns = max(1, round(1e9 / probe.rate))
    settings.multi_stream_expected_latency_ns = max(1.0, 1e9 * probe.samples / probe.rate)
    settings.multi_stream_samples_per_query = probe.samples
    settings.offline_expected_qps = probe.rate
    settings.server_target_qps = probe.rate
    settings.server_target_latency_ns = round(1e9 * probe.bound)  # it schedules twice as long beyond the last query
    settings.server_target_latency_percentile = probe.percent / 100
    generator = np.random.default_rng(probe.seed)
    for name in ("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed"):
        setattr(settings, name, int(generator.integers(2**62)))
    return settings


def _log_settings(lg: Any, folder: Path) -> Any:
    folder.mkdir(exist_ok=True)
    for name in (SUMMARY, DETAIL, TRACE):
        with suppress(FileNotFoundError):
            (folder / name).unlink()
    settings = lg.LogSettings()
    settings.log_output.outdir = str(folder)
    settings.log_output.copy_summary_to_stdout = False
    settings.enable_trace = True
    return settings


def _read_trace(path: Path, whole: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Seconds of every sample, or of every ``whole`` query, in the order in which they were scheduled: from the
    scheduled time to the (last) answer, and to the issue."""
    complete: dict[int, int] = {}
    issued: dict[int, int] = {}
    with path.open() as lines:
        for line in lines:
            if (found := _SAMPLE.search(line)) is not None:
                sample, query, issue_start, completed = (int(text) for text in found.groups())
                number = query if whole else sample
                complete[number] = max(completed, complete.get(number, completed))
                issued[number] = issue_start
    path.unlink()
    order = sorted(complete)
    return tuple(complete[number] / 1e9 for number in order), tuple(issued[number] / 1e9 for number in order)
