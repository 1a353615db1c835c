"""The machine's limit, on a clock that the test moves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from backends.base import Backend, roof_convolution
from bench.worker import clock, roof


class Kernels:
    """Its product takes the given seconds in turn, its triad a millisecond."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: list[float]) -> None:
        self.now, self.calls, self._seconds = 0.0, 0, seconds
        monkeypatch.setattr(clock, "now", lambda: self.now)

    def synchronize(self) -> None:
        """Every call is done when it returns."""

    def roof_kernels(self, size: int, length: int) -> dict[str, Callable[[], Any]]:
        def product() -> None:
            self.now += self._seconds[self.calls % len(self._seconds)]
            self.calls += 1

        def triad() -> None:
            self.now += 0.001
            self.calls += 1

        return {"product": product, "triad": triad}


def test_the_fastest_call_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = Kernels(monkeypatch, [0.05, 0.03, 0.04])
    found = roof.rates(cast(Backend, kernels), "cpu")
    assert found["product"] == pytest.approx(2 * roof.SIZE["cpu"] ** 3 / 0.03)
    assert found["triad"] == pytest.approx(12 * roof.MEMORY / 0.001)
    assert found["cached_triad"] == pytest.approx(12 * roof.CACHE / 0.001)


def test_a_clock_that_stands_still_tells_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by fakes that keep their own time: the loop never ended."""
    kernels = Kernels(monkeypatch, [0.0])
    found = roof.rates(cast(Backend, kernels), "cpu")
    assert set(found) == {"triad", "cached_triad"}
    assert kernels.calls < 3 * roof.SECONDS / 0.001, "it gave up at once"


def test_the_convolution_is_as_much_work_as_the_product() -> None:
    images, kernel = roof_convolution(roof.SIZE["cpu"])
    outputs = images[0] * (images[1] - kernel[0] + 1) * (images[2] - kernel[1] + 1)
    assert outputs * int(np.prod(kernel)) == roof.SIZE["cpu"] ** 3


@pytest.mark.parametrize(("backend", "mode"), [("onnxruntime", "all-optimizations"), ("openvino", "throughput")])
def test_a_runtime_tells_what_its_own_library_reaches(process: None, backend: str, mode: str) -> None:
    """In a process of its own: runtimes flush denormal numbers in the threads that call them."""
    code = (
        f"import backends; kernels = backends.load({backend!r})('cpu', 'fp32', {mode!r}, 1, 0).roof_kernels(64, 1);"
        " kernels['product'](); print(*kernels)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.split() == ["product"], done.stderr


def test_a_backend_without_kernels_has_no_rates() -> None:
    class Without(Backend):
        pass

    assert Without.roof_kernels(cast(Any, None), 1, 1) == {}
