"""Level shifts in a series of a metric: PELT, with a penalty that is calibrated here.

PELT (Killick, Fearnhead & Eckley 2012, JASA 107:1590) finds the segmentation with the least sum of squares plus a
penalty for each change, by ``ruptures`` (Truong, Oudre & Vayatis 2020, Signal Processing 167). Noise is estimated from
differences of successive points, which a change of level hardly touches (von Neumann 1941); where the residuals are
autocorrelated it is the long-run variance that counts, (1 + rho) / (1 - rho) times as large for an AR(1) (as in Shi,
Gallagher, Lund & Killick 2022, Computational Statistics & Data Analysis 170), while differences show 1 - rho of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

AFTER = 3
"""A new level has at least this many points."""
FEWEST = 8
"""Shorter series are not searched."""
PENALTY = 5.0
"""Penalty of a change, in units of ln(n) times the variance of the noise.

Simulations (benchmarks/change_points.py) give at most one false change per 1,000 points of white noise.
That holds in series of 20 points too, where the noise is poorly known."""
MAX_RHO = 0.8


@dataclass(frozen=True)
class Change:
    """A new level begins at point ``index``; levels and noise are in the series' unit (logarithms for ``of_logs``)."""

    index: int
    before: float
    after: float
    noise: float

    @property
    def size(self) -> float:
        """In standard deviations of the noise."""
        return abs(self.after - self.before) / self.noise if self.noise else math.inf


def find_changes(values: Sequence[float]) -> list[Change]:
    """Changes of level, oldest first; none in fewer than ``FEWEST`` points."""
    observed = np.asarray(values, np.float64)
    if len(observed) < FEWEST:
        return []
    noise = _noise(observed)
    if noise == 0:
        noise = max(float(np.abs(observed).max()), 1.0) * 1e-9
    borders = _segment(observed, noise)
    rho = _rho(observed, borders)
    if rho > 0:
        borders = _segment(observed, noise * math.sqrt(1 + rho) / (1 - rho))
        noise /= math.sqrt(1 - rho)
    levels = [float(np.mean(piece)) for piece in np.split(observed, borders)]
    return [Change(at, levels[i], levels[i + 1], noise) for i, at in enumerate(borders)]


def find_relative_changes(values: Sequence[float]) -> list[Change]:
    """As ``find``, on logarithms of the values: changes and noise are relative."""
    return find_changes([math.log(value) for value in values])


def _segment(observed: npt.NDArray[np.float64], noise: float) -> list[int]:
    """Indices at which segments begin, without the first."""
    import ruptures

    scaled = (observed - np.median(observed)) / noise
    search = ruptures.KernelCPD(kernel="linear", min_size=AFTER).fit(scaled.reshape(-1, 1))
    return [int(at) for at in search.predict(pen=PENALTY * math.log(len(observed)))[:-1]]


def _noise(observed: npt.NDArray[np.float64]) -> float:
    """Standard deviation of the noise: median of the absolute differences of successive points, over the normal's
    (0.6745 sqrt(2)); the mean square where the median is of few points or zero."""
    steps = np.abs(np.diff(observed))
    robust = float(np.median(steps)) / (0.6745 * math.sqrt(2))
    return robust or float(np.sqrt(np.mean(steps**2) / 2))


def _rho(observed: npt.NDArray[np.float64], borders: Sequence[int]) -> float:
    """Lag-1 autocorrelation of the residuals of the segments, corrected for the bias of short series (Kendall 1954)."""
    pieces = [piece - piece.mean() for piece in np.split(observed, list(borders))]
    products = math.fsum(float(piece[1:] @ piece[:-1]) for piece in pieces)
    squares = math.fsum(float(piece @ piece) for piece in pieces)
    if squares == 0:
        return 0.0
    rho, n = products / squares, len(observed)
    return min(max(rho + (1 + 3 * rho) * len(pieces) / n, 0.0), MAX_RHO)
