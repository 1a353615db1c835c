"""The highest rate of requests at which a latency bound holds, from probes at several rates.

A bound such as *p99 within 15 ms* holds at a rate if at most 1% of the requests are late. A probe shows that it holds,
or that it fails, where the 95% interval of its share of late requests lies wholly on one side of that 1%; else it is
undecided. The search widens until the bound holds at one rate and fails at another, and then probes on both sides of
where a logistic curve through all probes crosses the allowed share, until that rate's standard error is 2%.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.stats import beta

from bench.values import Measured, Missing

Verdict: TypeAlias = Literal["holds", "fails", "undecided"]
BATCHES = 20
"""Successive parts of a probe, whose shares of late requests tell how much late requests come in clusters."""
SIDE = 0.975
"""Of a two-sided 95% interval."""
FIRST, WIDER, LOWER = 0.6, 1.3, 0.6
"""The first rate as a share of the capacity; the factors by which it grows until the bound fails, and falls until it
holds."""
PRECISE = 0.02
"""Standard error of the rate, relative, at which the search ends."""
LESS, MORE = 0.94, 1.06
"""The rates of further probes over the crossing that is known so far, in turn."""
FEWEST = 5
"""Probes that a curve is fitted to."""
HALF = 0.5
"""Added to counts of late requests: none is no share of which a logarithm can be taken."""
NORMAL = 1.96
"""Standard errors of a 95% interval's half-width."""
LEAST_SLOPE = 5.0
"""Of the curve: late requests grow 1.6-fold at least where the rate grows by a tenth, or the probes are too noisy to
tell."""
MOST_PROBES = 24
LEAST = 0.01
"""Share of the capacity below which no rate is tried."""
NEAR = 0.3
"""Probes within this share of the middle have a part in the curve."""


@dataclass(frozen=True)
class Late:
    """Late requests of a probe. ``clustering``: the variance of their count over that of independent ones."""

    late: int
    requests: int
    clustering: float = 1.0

    @property
    def share(self) -> float:
        """Of late requests."""
        return self.late / self.requests

    @property
    def logit(self) -> float:
        """Of the share, with half a request added to both kinds: finite where none or all are late."""
        return math.log((self.late + HALF) / (self.requests - self.late + HALF))

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the share: Clopper and Pearson's (1934), with the counts divided by the clustering."""
        late, requests = self.late / self.clustering, self.requests / self.clustering
        low = float(beta.ppf(1 - SIDE, late, requests - late + 1)) if late > 0 else 0.0
        high = float(beta.ppf(SIDE, late + 1, requests - late)) if late < requests else 1.0
        return low, high

    def verdict(self, allowed: float) -> Verdict:
        """Whether at most this share is late."""
        low, high = self.interval
        return "holds" if high <= allowed else "fails" if low > allowed else "undecided"


def count_late(latencies: Sequence[float], bound: float) -> Late:
    """Of the latencies in the order of their schedule, those above the bound."""
    late = np.asarray(latencies) > bound
    share, size = float(late.mean()), len(late) // BATCHES
    clustering = 1.0
    if size > 1 and 0 < share < 1:
        parts = late[: size * BATCHES].reshape(BATCHES, size).mean(axis=1)
        clustering = max(1.0, float(parts.var(ddof=1)) * size / (share * (1 - share)))
    return Late(int(late.sum()), len(late), clustering)


def requests_needed(percent: float) -> int:
    """So many that twenty late ones are allowed: fewer tell little of a percentile."""
    return round(20 / (1 - percent / 100))


@dataclass
class RateSearch:
    """``allowed``: share of requests that may be late. ``capacity``: requests per second that can be served at most,
    about."""

    allowed: float
    capacity: float
    probes: list[tuple[float, Late]] = field(default_factory=list)
    """Rate and late requests of those that count, in their order."""

    def next_rate(self) -> float | None:
        """The rate of the next probe; None: the search has ended."""
        if len(self.probes) >= MOST_PROBES:
            return None
        if not self.probes:
            return FIRST * self.capacity
        holds, fails = self.bracket
        if all(late.verdict(self.allowed) == "holds" for _, late in self.probes):
            return WIDER * max(rate for rate, _ in self.probes)
        if all(late.verdict(self.allowed) == "fails" for _, late in self.probes):
            lower = LOWER * min(rate for rate, _ in self.probes)
            return lower if lower >= LEAST * self.capacity else None
        crossing = self.crossing
        if crossing is None:
            low, high = (0.0 if holds is None else holds), (math.inf if fails is None else fails)
            if low > 0 and high < math.inf:
                return math.sqrt(low * high)
            return self.probes[-1][0] * (LESS if low == 0 else MORE)
        if crossing.error is not None and crossing.error <= PRECISE and self._on_both_sides(crossing.rate):
            return None
        return crossing.rate * (LESS if len(self.probes) % 2 else MORE)

    @property
    def bracket(self) -> tuple[float | None, float | None]:
        """The lowest rate at which a probe shows that the bound fails, and the highest below it that shows that it
        holds."""
        verdicts = [(rate, late.verdict(self.allowed)) for rate, late in self.probes]
        fails = min((rate for rate, verdict in verdicts if verdict == "fails"), default=None)
        holds = [rate for rate, verdict in verdicts if verdict == "holds" and (fails is None or rate < fails)]
        return max(holds, default=None), fails

    @property
    def result(self) -> Measured | Missing:
        """Requests per second at which the allowed share is late, with the 95% interval of this search."""
        rates = [rate for rate, _ in self.probes]
        crossing = self.crossing
        if crossing is not None and self._on_both_sides(crossing.rate):
            width = 0.0 if crossing.error is None else NORMAL * crossing.error
            return Measured(crossing.rate, crossing.rate * (1 - width), crossing.rate * (1 + width), 1)
        if all(late.share > self.allowed for _, late in self.probes):
            return Missing(f"the bound holds at no rate that was tried; the lowest was {min(rates):.3g} requests/s")
        highest = max(rates)
        return Missing(f"the bound holds at {highest:,.0f} requests/s, and no probe shows a rate at which it fails")

    def _on_both_sides(self, rate: float) -> bool:
        near = [tried for tried, _ in self.probes if abs(tried / rate - 1) <= NEAR]
        return any(tried <= rate for tried in near) and any(tried >= rate for tried in near)

    @property
    def crossing(self) -> Crossing | None:
        """Where logit(share) = a + b x, x = rate / middle - 1, crosses the allowed share: fitted by likelihood to the
        probes near the middle of where the bound holds and fails. None: they show no rise."""
        if len({late.share > self.allowed for _, late in self.probes}) < 2:
            return None
        wanted = math.log(self.allowed / (1 - self.allowed))
        middle = min(self.probes, key=lambda probe: abs(probe[1].logit - wanted))[0]
        near = [(rate / middle - 1, late) for rate, late in self.probes if abs(rate / middle - 1) <= NEAR]
        if len(near) < FEWEST or len({place for place, _ in near}) < 2:
            return None
        clustering = sum(late.clustering * late.late for _, late in near) / max(1, sum(late.late for _, late in near))
        clustering = max(1.0, clustering)
        at = np.array([place for place, _ in near])
        late = np.array([(each.late + HALF) / clustering for _, each in near])
        requests = np.array([(each.requests + 2 * HALF) / clustering for _, each in near])

        def loss(line: npt.NDArray[np.float64]) -> float:
            logit = line[0] + line[1] * at
            return float(np.sum(requests * np.logaddexp(0, logit) - late * logit))

        found = minimize(loss, [wanted, 2 * LEAST_SLOPE], method="L-BFGS-B", bounds=[(None, None), (LEAST_SLOPE, None)])
        height, slope = (float(value) for value in found.x)
        place = (wanted - height) / slope
        share = 1 / (1 + np.exp(-(height + slope * at)))
        weights = requests * share * (1 - share)
        design = np.stack([np.ones_like(at), at])
        covariance = np.linalg.pinv((design * weights) @ design.T)
        gradient = np.array([1.0, place]) / slope
        error = math.sqrt(float(gradient @ covariance @ gradient)) / (1 + place) if place > -1 else None
        return Crossing(middle * (1 + place), error) if place > -1 else None


@dataclass(frozen=True)
class Crossing:
    """A rate, and its standard error relative to it."""

    rate: float
    error: float | None
