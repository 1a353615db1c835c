"""Denormal numbers, flushed or kept: the register is a thread's own, so a test sets it in a thread that ends."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bench.machine import denormals


def in_a_thread(work: Callable[[], Any]) -> Any:
    """What ``work`` returns in a thread of its own."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is not known how, and said so")
def test_flushed_where_it_was_asked_and_in_the_threads_that_begin_there() -> None:
    def product() -> float:
        return float((np.full(4, 1e-39, np.float32) * np.float32(1e30)).max())

    def after() -> tuple[str | None, float, float]:
        denormals.flush()
        return denormals.state(), product(), in_a_thread(product)

    assert in_a_thread(after) == (denormals.FLUSHED, 0.0, 0.0)
    assert denormals.state() == denormals.KEPT, "another thread is left alone"
    assert product() == pytest.approx(1e-9)


def test_where_it_is_not_known_how_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denormals.platform, "machine", lambda: "s390x")
    denormals.flush()
    assert denormals.state() is None
