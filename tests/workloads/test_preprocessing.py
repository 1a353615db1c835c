"""Pixels on their way into a model: normalized, augmented by a seeded generator."""

from __future__ import annotations

import numpy as np

from bench.workloads.preprocessing import Changes, augment, normalize
from bench.workloads.recipe import Augmentation


def images(count: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (count, 12, 10, 3), np.uint8)


def drawn(options: Augmentation, pixels: np.ndarray, seed: int = 1) -> np.ndarray:
    return augment(pixels, options, np.random.default_rng(seed))


def test_normalize() -> None:
    pixels = np.array([[[[0, 51, 255]]]], np.uint8)
    np.testing.assert_allclose(normalize(pixels, 0.5, 0.5).ravel(), [-1, -0.6, 1], atol=1e-7)
    assert normalize(pixels, 0.0, 1.0).dtype == np.float32


def test_nothing_asked_nothing_done() -> None:
    pixels = images()
    np.testing.assert_array_equal(drawn(Augmentation(), pixels), pixels)


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    options, pixels = Augmentation(crop_padding=4, flip=True, cutout=4), images()
    np.testing.assert_array_equal(drawn(options, pixels), drawn(options, pixels))
    assert (drawn(options, pixels) != drawn(options, pixels, seed=2)).any()
    assert drawn(options, pixels).shape == pixels.shape
    assert drawn(options, pixels).dtype == np.uint8


def test_flip_mirrors_about_half() -> None:
    pixels = images(1000)
    flipped = drawn(Augmentation(flip=True), pixels)
    mirrored = (flipped == pixels[:, :, ::-1]).all(axis=(1, 2, 3))
    same = (flipped == pixels).all(axis=(1, 2, 3))
    assert (mirrored ^ same).all()
    assert 400 < mirrored.sum() < 600


def test_crop_moves_the_image_and_fills_with_zeros() -> None:
    pixels = images(500)
    cropped = drawn(Augmentation(crop_padding=2), pixels)
    padded = np.pad(pixels, [(0, 0), (2, 2), (2, 2), (0, 0)])
    places = set()
    for image, around in zip(cropped, padded, strict=True):
        found = [(r, c) for r in range(5) for c in range(5) if (around[r : r + 12, c : c + 10] == image).all()]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) == 25, "every place is drawn"


def test_cutout_is_a_square_that_may_hang_over_the_border() -> None:
    pixels = images(500)
    holes = (drawn(Augmentation(cutout=4), pixels) == 0).all(axis=3)
    sizes = holes.sum(axis=(1, 2))
    assert sizes.max() == 16
    assert 4 <= sizes.min() < 16
    np.testing.assert_array_equal(drawn(Augmentation(cutout=4), pixels)[~holes], pixels[~holes])


def test_changes_that_are_known_are_those_of_augment() -> None:
    options = Augmentation(crop_padding=2, flip=True, cutout=3)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
    changes = Changes.drawn(6, (8, 8), options, np.random.default_rng(5))
    np.testing.assert_array_equal(changes.apply(pixels, options), augment(pixels, options, np.random.default_rng(5)))
    assert len(set(changes.top.tolist())) > 1
    assert set(changes.flipped.tolist()) == {True, False}
