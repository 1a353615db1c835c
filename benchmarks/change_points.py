"""Change points in simulated series: the share that is found in time, and the number of false ones.

    python benchmarks/change_points.py [--quick]

Compares bench/analysis/change_points.py with ``ruptures`` at its defaults (``Pelt(model="l2", min_size=2, jump=5)`` and
``KernelCPD(kernel="linear")`` with the penalty of its user guide, ln(n) times the variance of the series) on the same
series. A change of 4 SD is found in time if the series up to five points after it yields a change within one point of
it. Numbers: results/change_points.json.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import ruptures
from bed import write
from tabulate import tabulate

from bench.analysis import change_points

Series = npt.NDArray[np.float64]
LENGTH, SHORT, BEFORE, AFTER, SIZE, RHO = 100, 20, 30, 5, 4.0, 0.3


def ours(series: Series) -> list[int]:
    """Indices of the changes by evenbench."""
    return [change.index for change in change_points.find_changes(list(series))]


def pelt(series: Series) -> list[int]:
    """Indices of the changes by ``ruptures`` at its defaults."""
    ends = ruptures.Pelt(model="l2").fit(series.reshape(-1, 1)).predict(pen=math.log(len(series)) * series.var())
    return [int(at) for at in ends[:-1]]


def kernel(series: Series) -> list[int]:
    """The same with ``KernelCPD``, without a grid of five points."""
    model = ruptures.KernelCPD(kernel="linear").fit(series.reshape(-1, 1))
    return [int(at) for at in model.predict(pen=math.log(len(series)) * series.var())[:-1]]


METHODS: dict[str, Callable[[Series], list[int]]] = {
    "evenbench": ours,
    "ruptures Pelt, defaults": pelt,
    "ruptures KernelCPD, linear": kernel,
}


def autoregressive(rng: np.random.Generator, length: int, rho: float) -> Series:
    """AR(1) noise of variance 1; the first 50 values are dropped."""
    noise = rng.normal(0, math.sqrt(1 - rho**2), length + 50)
    for i in range(1, len(noise)):
        noise[i] += rho * noise[i - 1]
    return noise[50:]


def main() -> None:
    """Simulate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer series, no file")
    count = 40 if parser.parse_args().quick else 1000
    rows, raw = [], dict[str, Any]()
    for name, find in METHODS.items():
        rng = np.random.default_rng(2026)  # the same series for all
        white = sum(len(find(rng.normal(0, 1, LENGTH))) for _ in range(count))
        short = sum(len(find(rng.normal(0, 1, SHORT))) for _ in range(count * LENGTH // SHORT))
        coloured = sum(len(find(autoregressive(rng, LENGTH, RHO))) for _ in range(count))
        steps = [np.concatenate([rng.normal(0, 1, BEFORE), rng.normal(SIZE, 1, AFTER)]) for _ in range(count)]
        found = sum(any(abs(at - BEFORE) <= 1 for at in find(step)) for step in steps)
        points = count * LENGTH / 1000
        false = {"white": white / points, "short": short / points, "ar1": coloured / points}
        raw[name] = {**false, "found": found / count, "series": count}
        rows.append([name, *(f"{rate:.2f}" for rate in false.values()), f"{100 * found / count:.1f}%"])
    headers = ["method", "false per 1,000 points, white noise", f"in series of {SHORT}", f"AR(1), rho {RHO}"]
    headers.append(f"{SIZE:g} SD found in time")
    print(tabulate(rows, headers, disable_numparse=True))
    print(f"{count} series each of {LENGTH} points (false), of {BEFORE} and {AFTER} (found)")
    write("change_points.json", raw, count < 1000)


if __name__ == "__main__":
    main()
