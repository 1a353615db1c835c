"""Tests by LoadGen in the live workers of a round, which take turns: one test each, in alternating order."""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from backends.model import ModelSpec
from bench.analysis.load_search import RateSearch
from bench.machine import speed_variables
from bench.machine.slice_noise import Noise, reasons
from bench.runner import roof
from bench.runner.interleaving import Live, Turns
from bench.runner.load import STREAM_SAMPLES, TOO_SHORT, Load, LoadTest, Served, of_probe, probes
from bench.runner.plan import Row
from bench.runner.worker_process import WorkerError
from bench.worker.protocol import Probe, ReadServed, Scenario, Started, StartServer, TimedMetric

IMAGES, IMAGE_BYTES = 1024, 32 * 2**20
"""Different images of a test, and bytes that they may take."""
ROWS_ASKED = 8
"""Images of a test whose logits are judged."""
SECOND_TRIES = 4
"""Tests of a row that are made again, because they were disturbed or the generator fell behind."""
SPARE, MOST_SPARE = 1.3, 5.0
"""LoadGen is told to expect so many times the rate that is known, so that a test has queries enough; more at most."""
SLOWER = 20.0
"""A test may take so many times longer than planned: of a rate far above the capacity a queue remains."""
BOUNDS = 50
"""Times the bound that a test lasts at least: at a rate that cannot be served, the queue must have time to grow."""
CLOCK_SLACK = 1.05
USUAL_BOUND = 0.1
"""Seconds that LoadGen is told where no bound is given."""


@dataclass
class LoadTurns:
    """The tests of a load, in every live worker. ``folder``: of a row, for LoadGen's files."""

    load: Load
    model: ModelSpec
    timeout: float
    folder: Callable[[Row], Path]
    _started: dict[str, Started] = field(default_factory=dict)
    _tried_again: dict[str, int] = field(default_factory=dict)

    def measure(self, turns: Turns) -> None:
        """Start a server in every worker, then test every scenario."""
        self._started, self._tried_again = {}, {}
        for live in list(turns.live):
            turns.attempt(live, partial(self._start, turns, live))
        for scenario in self.load.scenarios:
            turns.announce(f"load {scenario}")
            if scenario != "server":
                self._each(turns, scenario, None)
                continue
            for rate in self.load.rates:
                self._each(turns, scenario, rate)
            if self.load.bound is not None:
                self._search(turns)

    def _start(self, turns: Turns, live: Live) -> None:
        turns.wait_asleep(live.worker)
        load = self.load
        request = StartServer(instances=load.instances, max_batch=load.max_batch, max_delay=load.max_delay)
        self._started[live.row.id] = live.ask(request, self.timeout)

    def _each(self, turns: Turns, scenario: Scenario, rate: float | None) -> None:
        """One test in every worker, in random order."""
        order = list(turns.live)
        secrets.SystemRandom().shuffle(order)
        for live in order:
            turns.attempt(live, partial(self._test_until_quiet, turns, live, scenario, rate))

    def _search(self, turns: Turns) -> None:
        """All searches go on in turns, a test each, until all have ended."""
        searches = {live.row.id: RateSearch(self.load.allowed, self._capacity(live)) for live in turns.live}
        turn = 0
        while True:
            going = [live for live in turns.live if searches[live.row.id].next_rate() is not None]
            if not going:
                return
            for live in going if turn % 2 == 0 else reversed(going):
                turns.attempt(live, partial(self._search_on, turns, live, searches[live.row.id]))
            turn += 1

    def _search_on(self, turns: Turns, live: Live, search: RateSearch) -> None:
        rate = search.next_rate()
        assert rate is not None
        test = self._test(turns, live, "server", rate)
        again = self._is_tried_again(live, test)
        live.load.append(replace(test, searched=not again))
        # A generator that falls behind makes queries late as well: such a rate is beyond what can be tested.
        search.probes = [(each.rate, each.late) for each in probes(live.load) if each.rate and each.late]

    def _test_until_quiet(self, turns: Turns, live: Live, scenario: Scenario, rate: float | None) -> None:
        spare, again = SPARE, True
        while again:
            test = self._test(turns, live, scenario, rate, spare)
            live.load.append(test)
            again = self._is_tried_again(live, test)
            if test.invalid == TOO_SHORT and spare < MOST_SPARE:
                spare, again = 2 * spare, True

    def _is_tried_again(self, live: Live, test: LoadTest) -> bool:
        """Whether a test was disturbed or issued too late, and the row has a second try left."""
        tries = self._tried_again.get(live.row.id, 0)
        if not (test.reasons or test.fell_behind) or tries >= SECOND_TRIES:
            return False
        self._tried_again[live.row.id] = tries + 1
        return True

    def _capacity(self, live: Live) -> float:
        """Samples per second: of an offline test, else of the calls before."""
        offline = [test.achieved for test in live.load if test.scenario == "offline"]
        return max(offline) if offline else self._expected(live)

    def _expected(self, live: Live) -> float:
        seconds = self._started[live.row.id].seconds
        return self.load.instances * max(size / each for size, each in enumerate(seconds, 1))

    def _test(self, turns: Turns, live: Live, scenario: Scenario, rate: float | None, spare: float = SPARE) -> LoadTest:
        """One test. ``spare``: see ``SPARE``.

        Raises:
            WorkerError: the worker failed, or says what cannot be.
        """
        load, queries = self.load, self.load.queries(scenario)
        expected = spare * self._capacity(live) if rate is None else rate
        seconds = load.seconds
        if rate is not None:
            seconds = max(seconds, queries / rate, BOUNDS * (load.bound or 0.0))
        images = min(IMAGES, max(1, IMAGE_BYTES // (4 * math.prod(self.model.input_shape))))
        request = Probe(
            scenario=scenario, rate=expected, seconds=seconds, queries=queries, samples=STREAM_SAMPLES,
            bound=USUAL_BOUND if load.bound is None else load.bound, percent=load.percent,
            seed=secrets.randbits(32), images=images, log=self.folder(live.row) / "loadgen",
        )  # fmt: skip
        asleep = turns.wait_asleep(live.worker)
        before, begin = live.watch.read(), time.perf_counter()
        probed = live.ask(request, self.timeout + SLOWER * seconds)
        elapsed = time.perf_counter() - begin
        noise = _of_a_server(live.watch.since(before, asleep, probed.counters))
        test = of_probe(scenario, rate, load, probed)
        if why := self._why_impossible(live.row, test, elapsed):
            raise WorkerError("failed", why)
        asked = tuple(secrets.SystemRandom().sample(range(images), images))
        kept = live.ask(ReadServed(images=asked, count=min(ROWS_ASKED, images)), self.timeout)
        turns.watch_peak(live, "infer")
        found = reasons(noise, elapsed, live.cpus)
        served = Served(request.seed, images, kept)
        return replace(test, served=served, reasons=None if found is None else tuple(found))

    def _why_impossible(self, row: Row, test: LoadTest, elapsed: float) -> str:
        """Why a test cannot be as it is told; empty if it can."""
        if test.seconds > elapsed * CLOCK_SLACK and not os.environ.get(speed_variables.SIMULATED_TIME):
            return f"self-check clock: a test of {test.seconds:.3g} s within {elapsed:.3g} s"
        job = replace(row.job, threads=row.job.threads * self.load.instances)
        metric = TimedMetric("throughput", "infer", 1, "end-to-end")
        return roof.why_impossible(self.model, job, metric, test.seconds / test.samples)


def _of_a_server(noise: Noise) -> Noise:
    """A server waits for queries, and LoadGen's threads end with the test: what they used is the worker's own."""
    if noise.others is None or noise.ran is None or noise.cpu is None:
        return replace(noise, ran=None)
    return replace(noise, others=max(0.0, noise.others + noise.ran - noise.cpu), ran=None)
