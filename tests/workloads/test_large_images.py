"""Images so large that the reference would take all memory are refused before anything starts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.cli import measuring
from bench.errors import UsageError
from bench.runner.plan import Request
from bench.worker.reference_outputs import bytes_needed
from bench.workloads.models import MODELS
from bench.workloads.workload import RECIPES, Workload


def test_memory_grows_with_the_area_of_the_images() -> None:
    sizes = [bytes_needed(replace(MODELS["article-keras"], input_shape=(side, side, 3))) for side in (32, 512)]
    assert sizes[0] == pytest.approx(300e6, rel=0.2), "342 MB were measured"
    assert 200 * sizes[0] < sizes[1] < 400 * sizes[0]
    assert bytes_needed(MODELS["article-keras"], 64) == sizes[0] // 2, "of a small folder"
    assert bytes_needed(MODELS["resnet20"]) == pytest.approx(181e6, rel=0.3), "181 MB, with small batches"


def test_what_needs_more_than_there_is_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = Workload(MODELS["article-keras"], "digits", RECIPES["article-keras"])
    request = Request(("reference",), workload, devices="cpu")
    measuring.plan_on_data(request)
    monkeypatch.setattr("bench.machine.host.available_memory", lambda: 10**8)
    with pytest.raises(
        UsageError, match=r"certifying article-keras on 32x32x3 images needs about 0.3 GB, this machine"
    ):
        measuring.plan_on_data(request)
