"""The server under real LoadGen: what is issued is answered, once, in batches of the size that is allowed."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from backends.base import Backend
from bench.worker.load import SCENARIOS, Server
from bench.worker.protocol import Probe, Probed, Scenario

IMAGES = np.random.default_rng(0).normal(size=(32, 2, 2, 1)).astype(np.float32)


class Doubles:
    """Logits are an image's values, doubled; a call takes ``seconds``."""

    def __init__(self, seconds: float = 0.0002) -> None:
        self.seconds, self.sizes = seconds, Counter[int]()

    def infer(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        self.sizes[len(x)] += 1
        time.sleep(self.seconds)
        return 2 * x.reshape(len(x), -1)


class Breaks(Doubles):
    """Fails at its fiftieth call."""

    def infer(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self.sizes.total() == 50:
            raise RuntimeError("broken")
        return super().infer(x)


def probed(
    folder: Path, scenario: Scenario, *instances: Doubles, max_batch: int = 4, **more: Any
) -> tuple[Probed, Server]:
    server = Server([cast(Backend, each) for each in instances], max_batch, more.pop("max_delay", 0.0))
    rate = 500.0 if scenario == "server" else 40000.0
    request = Probe(
        scenario=scenario, rate=rate, seconds=0.2, queries=64, samples=8, bound=0.05, percent=99.0, seed=1,
        images=len(IMAGES), log=folder,
    )  # fmt: skip
    return server.probe(replace(request, **more), IMAGES), server


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_query_is_answered_with_its_own_logits(tmp_path: Path, scenario: Scenario) -> None:
    instance = Doubles()
    probe, server = probed(tmp_path, scenario, instance)
    assert "Min duration satisfied : Yes" in probe.summary
    assert "Min queries satisfied : Yes" in probe.summary
    assert len(probe.slips) == len(probe.latencies)
    assert probe.samples == len(probe.latencies) * (8 if scenario == "multi-stream" else 1)
    assert min(probe.latencies) >= 0.0002
    assert max(instance.sizes) <= 4
    assert sum(size * count for size, count in instance.sizes.items()) == probe.samples + 1, "and one for the shape"
    assert sum(instance.sizes.values()) == probe.batches + 1
    assert server.served.any()
    wanted = 2 * IMAGES.reshape(len(IMAGES), -1)
    assert np.array_equal(server.outputs[server.served], wanted[server.served])


def test_a_test_lasts_as_long_as_is_asked(tmp_path: Path) -> None:
    probe, _ = probed(tmp_path, "server", Doubles(), seconds=0.5, queries=1)
    assert probe.seconds >= 0.45
    assert 150 < probe.samples < 400, "500 a second, at random"


def test_the_same_seed_is_the_same_schedule(tmp_path: Path) -> None:
    first, again, other = (probed(tmp_path, "server", Doubles(0), seed=seed)[0].samples for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_first_request_waits_for_others(tmp_path: Path) -> None:
    alone, together = Doubles(0), Doubles(0)
    probed(tmp_path, "server", alone, rate=2000.0)
    probed(tmp_path, "server", together, rate=2000.0, max_delay=0.02)
    assert together.sizes[4] > 0.8 * (together.sizes.total() - 1)
    assert together.sizes.total() < 0.7 * alone.sizes.total()


def test_all_instances_serve(tmp_path: Path) -> None:
    one, two = Doubles(0.004), Doubles(0.004)
    probed(tmp_path, "offline", one, two, rate=2000.0, seconds=0.1)
    assert min(one.sizes.total(), two.sizes.total()) > 0.2 * (one.sizes.total() + two.sizes.total())


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_error_of_an_instance_ends_the_test(tmp_path: Path, scenario: Scenario) -> None:
    with pytest.raises(RuntimeError, match="broken"):
        probed(tmp_path, scenario, Breaks(), queries=1000)


def test_every_batch_size_is_called_before(tmp_path: Path) -> None:
    one, two = Doubles(), Doubles()
    server = Server([cast(Backend, one), cast(Backend, two)], 4, 0.0)
    seconds = server.warm_up(lambda size: IMAGES[:size])
    assert len(seconds) == 4
    assert set(one.sizes) == set(two.sizes) == {1, 2, 3, 4}
