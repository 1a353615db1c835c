"""Which layer is blamed: on profiles whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from bench.analysis.attribution import Part, Profile, attribute

PARTS: dict[Part, float] = {
    ("conv2d_1", False): 2e-3,
    ("conv2d_1", True): 4e-3,
    ("conv2d_2", False): 1e-3,
    ("conv2d_2", True): 2e-3,
    ("dense_1", False): 5e-4,
    ("(optimizer)", False): 1e-3,
    ("(unmapped)", False): 2e-4,
}


def profile(rng: np.random.Generator, slower: dict[Part, float], noise: float = 0.01) -> Profile:
    """Every part varies by itself, and the whole process by a common factor."""
    common = rng.lognormal(0, noise)
    parts = {
        part: seconds * slower.get(part, 1.0) * common * rng.lognormal(0, 2 * noise) for part, seconds in PARTS.items()
    }
    return Profile(sum(parts.values()), parts)


def pairs(seed: int, slower: dict[Part, float], count: int = 8) -> list[tuple[Profile, Profile]]:
    rng = np.random.default_rng(seed)
    return [(profile(rng, {}), profile(rng, slower)) for _ in range(count)]


def test_the_slower_layer_is_blamed_and_no_other() -> None:
    for seed in range(10):
        blames = attribute(pairs(seed, {("conv2d_2", True): 1.5}))
        assert [blame.name for blame in blames if blame.blamed] == ["conv2d_2 backward"]
        first = blames[0]
        assert first.change == pytest.approx(0.5, abs=0.1)
        assert first.change_low is not None
        assert first.change_high is not None
        assert first.change_low < 0.5 < first.change_high
        assert first.explains == pytest.approx(1e-3 / sum(PARTS.values()), rel=0.2)


def test_equal_sides_blame_none() -> None:
    blamed = sum(any(blame.blamed for blame in attribute(pairs(seed, {}))) for seed in range(300))
    assert blamed <= 6, "one in a hundred"


def test_a_faster_layer_is_credited() -> None:
    blames = attribute(pairs(1, {("conv2d_1", True): 0.7}))
    assert [blame.name for blame in blames if blame.credited] == ["conv2d_1 backward"]
    assert not any(blame.blamed for blame in blames)


def test_a_new_part_has_no_change_of_its_own() -> None:
    made = pairs(2, {})
    added = [(one, Profile(other.step + 1e-3, {**other.parts, ("new", False): 1e-3})) for one, other in made]
    first = attribute(added)[0]
    assert (first.layer, first.change, first.blamed) == ("new", None, True)


def test_one_pair_shows_no_spread() -> None:
    with pytest.raises(ValueError, match="two pairs"):
        attribute(pairs(0, {}, count=1))
