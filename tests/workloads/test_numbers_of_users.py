"""Numbers in models and recipes as users write them: 0 beside 0.0, and what leaves nothing to train on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backends.model import BatchNorm, Conv2D, Dropout
from bench.errors import UsageError
from bench.workloads.datasets.dataset import Dataset
from bench.workloads.workload import make_workload


def test_an_integer_is_a_number() -> None:
    assert isinstance(Dropout(0).rate, float)
    assert isinstance(BatchNorm(momentum=0).momentum, float)
    with pytest.raises(ValueError, match="'rate' must be 0 or more and below 1, not 1"):
        Dropout(1)
    with pytest.raises(ValueError, match="'filters' must be 1 or more, not 0"):
        Conv2D(0, 3)


def test_an_epsilon_of_zero_is_refused_for_every_backend() -> None:
    with pytest.raises(ValueError, match="'epsilon' must be above 0"):
        BatchNorm(epsilon=0)


@pytest.mark.parametrize(("validation", "refused"), [(0.2, False), (0.97, True)])
def test_a_validation_split_that_leaves_nothing(validation: float, refused: bool) -> None:
    images, labels = np.zeros((10, 32, 32, 3), np.uint8), np.arange(10) % 2
    dataset = Dataset("few", images, labels, images, labels, ("a", "b"), "0", "")
    workload = make_workload("article-pytorch", "digits", "article-pytorch")
    workload = replace(workload, recipe=replace(workload.recipe, validation=validation))
    if not refused:
        assert workload.on(dataset).dataset == "few"
        return
    with pytest.raises(UsageError, match="of 10 training images leaves none to train on"):
        workload.on(dataset)
