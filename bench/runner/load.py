"""What ``bench serve`` asks for, and what one test by LoadGen came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.analysis import load_search
from bench.analysis.intervals import percentile
from bench.analysis.load_search import Late, Verdict, count_late
from bench.worker.protocol import KeptOutputs, Probed, Scenario

SCENARIOS: tuple[Scenario, ...] = ("single-stream", "multi-stream", "offline", "server")
STREAM_SAMPLES = 8
"""Of a multi-stream query, as in MLPerf's rules."""
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
STREAM_QUERIES = 1024
"""Of a single-stream or multi-stream test, at least."""
TOO_SHORT = "LoadGen's own checks of duration and number of queries failed"
BEHIND = "the generator fell behind"
LARGEST_SLIP = 0.1
"""Share of the bound by which one in a hundred queries may be issued late at most: else the generator fell behind. It
is also the slack, as a share of the median latency, where there is no bound."""


@dataclass(frozen=True)
class Load:
    """How models are served, and under what load."""

    scenarios: tuple[Scenario, ...] = SCENARIOS
    percent: float = 99.0
    bound: float | None = None
    """Seconds within which that percentile of latencies shall lie; None: only the given rates are tried."""
    rates: tuple[float, ...] = ()
    """Queries per second that are tried beside the search."""
    max_batch: int = 8
    max_delay: float = 0.0
    """Seconds that the first sample of a batch waits for others at most."""
    instances: int = 1
    seconds: float = 2.0
    """Of a test, at least."""

    @property
    def allowed(self) -> float:
        """Share of queries that may be late."""
        return 1 - self.percent / 100

    @property
    def text(self) -> str:
        """In one line, for records: ``batches of 8 at most, 1 instance, p99 within 15 ms``."""
        parts = [f"batches of {self.max_batch} at most"]
        if self.max_delay:
            parts.append(f"waiting {1e3 * self.max_delay:g} ms for others")
        parts.append(f"{self.instances} instance{'s' * (self.instances != 1)}")
        if self.bound is not None:
            parts.append(f"p{self.percent:g} within {1e3 * self.bound:g} ms")
        return ", ".join(parts)

    def batch_size(self, scenario: Scenario) -> int:
        """The largest batch of a scenario."""
        return {"single-stream": 1, "multi-stream": min(STREAM_SAMPLES, self.max_batch)}.get(scenario, self.max_batch)

    def queries(self, scenario: Scenario) -> int:
        """Of a test, at least."""
        if scenario == "server":
            return load_search.requests_needed(self.percent)
        return 1 if scenario == "offline" else STREAM_QUERIES


@dataclass(frozen=True)
class Served:
    """Logits of a test, and what decides its inputs."""

    seed: int
    drawn: int
    """Number of images that were drawn from the seed."""
    outputs: KeptOutputs
    """``steps`` are numbers of images."""


@dataclass(frozen=True)
class LoadTest:
    """One test by LoadGen. Latencies are seconds, from the scheduled time to the answer."""

    scenario: Scenario
    rate: float | None
    """Queries per second that were to arrive (server)."""
    queries: int
    samples: int
    seconds: float
    """Of the whole test; offline, where all queries are scheduled at once: until the last answer."""
    percentiles: Mapping[str, float]
    """Of latencies: ``50`` to ``99.9``."""
    slip: float
    """99th percentile of what queries were issued too late, seconds."""
    batches: int
    late: Late | None
    """None: there is no bound."""
    invalid: str
    """Why it does not count; empty: it does."""
    summary: str
    """LoadGen's own."""
    searched: bool = False
    """Whether it counts in the search for the highest rate."""
    reasons: tuple[str, ...] | None = None
    """Why it is disturbed; None: nothing of it is visible here."""
    served: Served | None = field(default=None, compare=False)

    @property
    def fell_behind(self) -> bool:
        """Whether the generator issued its queries too late."""
        return self.invalid.startswith(BEHIND)

    @property
    def achieved(self) -> float:
        """Samples per second."""
        return self.samples / self.seconds

    def verdict(self, allowed: float) -> Verdict | None:
        """Whether the bound holds; None: there is none, or the test does not count."""
        return None if self.late is None or self.invalid else self.late.verdict(allowed)


def probes(tests: Sequence[LoadTest]) -> list[LoadTest]:
    """Those that a search goes by. A generator that fell behind at a rate, and not at a higher one, was held up by
    something else: that test tells nothing."""
    searched = [test for test in tests if test.searched and test.rate is not None]
    issued = max((test.rate or 0.0 for test in searched if not test.invalid), default=0.0)
    return [test for test in searched if not (test.fell_behind and (test.rate or 0.0) <= issued)]


def of_probe(scenario: Scenario, rate: float | None, load: Load, probed: Probed) -> LoadTest:
    """What a test came to.

    Raises:
        ValueError: LoadGen reported no query.
    """
    if not probed.latencies:
        raise ValueError("LoadGen reported no query")
    ordered, slips = sorted(probed.latencies), sorted(probed.slips)
    late = count_late(probed.latencies, load.bound) if scenario == "server" and load.bound is not None else None
    slip = percentile(slips, 99)
    return LoadTest(
        scenario=scenario,
        rate=rate,
        queries=len(probed.latencies),
        samples=probed.samples,
        seconds=ordered[-1] if scenario == "offline" else probed.seconds,
        percentiles={f"{percent:g}": percentile(ordered, percent) for percent in PERCENTILES},
        slip=slip,
        batches=probed.batches,
        late=late,
        invalid=_why_invalid(scenario, load, slip, percentile(ordered, 50), probed.summary),
        summary=probed.summary,
    )


def _why_invalid(scenario: Scenario, load: Load, slip: float, median: float, summary: str) -> str:
    if "Min duration satisfied : Yes" not in summary or "Min queries satisfied : Yes" not in summary:
        return TOO_SHORT
    allowed = LARGEST_SLIP * (median if load.bound is None else load.bound)
    if scenario == "server" and slip > allowed:
        return f"{BEHIND}: one in a hundred queries was issued {1e3 * slip:.3g} ms late"
    return ""
