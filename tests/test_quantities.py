"""Times and percentages as users write them."""

from __future__ import annotations

import pytest

from bench import quantities
from bench.errors import UsageError


@pytest.mark.parametrize(("text", "value"), [("90", 90), ("90s", 90), ("5m", 300), ("1.5h", 5400), (" 2 m ", 120)])
def test_seconds(text: str, value: float) -> None:
    assert quantities.seconds("--budget", text) == value


@pytest.mark.parametrize("text", ["", "0", "-5m", "5 minutes", "m", "nan", "1e3"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="not a time such as 90s, 5m or 1h"):
        quantities.seconds("--budget", text)


@pytest.mark.parametrize(("text", "value"), [("2%", 0.02), ("0.02", 0.02), (".5 %", 0.005)])
def test_fraction(text: str, value: float) -> None:
    assert quantities.fraction("--precision-target", text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "2", "0%", "100%", "two", "-1%"])
def test_percentages_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="not a percentage such as 2%"):
        quantities.fraction("--precision-target", text)
