"""Defects of real frames, drawn into cutouts."""

import numpy as np
import pytest

from training import defects

NOISE = np.array([0.1, 0.2, 0.3])


def blank() -> np.ndarray:
    return np.zeros((32, 32, 3), np.float32)


def test_background_has_its_level_in_the_centre_and_rises_to_two_edges() -> None:
    image = blank()
    defects.leave_sky_in(image, np.array([1.0, 2.0, 3.0]), np.array([[0.5, 0.0, 0.0], [0.0, 0.0, 0.25]]))
    np.testing.assert_allclose(image.mean(axis=(0, 1)), [1.0, 2.0, 3.0], rtol=1e-5)
    np.testing.assert_allclose(image[-1, 5, :2], [1.5, 2.0])
    np.testing.assert_allclose(image[7, [0, -1], 2], [2.75, 3.25])


def test_hits_change_each_pixel_of_one_band_once() -> None:
    image = blank()
    defects.add_hits(image, 1, np.array([3.2, 2.9, 40.0]), np.array([4.0, 4.1, 5.0]), 7.0)
    assert {tuple(index) for index in np.argwhere(image)} == {(3, 4, 1), (31, 5, 1)}
    assert image.sum() == 14.0


def test_dead_column_is_zero_in_one_band() -> None:
    image = blank() + np.float32(1.0)
    defects.kill_column(image, 2, 9)
    assert not image[:, 9, 2].any()
    assert image.sum() == image.size - 32


@pytest.mark.parametrize("angle", [0.0, np.pi / 2, 0.4])
def test_trail_crosses_the_cutout_at_its_distance(angle: float) -> None:
    image = blank()
    defects.draw_trail(image, 0, angle, 6.0, 2.0)
    y, x = np.indices((32, 32)) - 15.5
    across = y * np.cos(angle) + x * np.sin(angle)
    assert (image[..., 0] * across).sum() / image[..., 0].sum() == pytest.approx(6.0, abs=0.05)
    assert 1.8 < image.max() <= 2.0
    assert not image[..., 1:].any()


def test_given_fraction_of_the_cutouts_gets_a_defect_in_proportion_to_the_noise() -> None:
    rng = np.random.default_rng(0)
    images = np.stack([blank() + np.float32(0.01)] * 2000)
    images[:, 15:17, 15:17] = 1.0
    spoilt = images.copy()
    defects.spoil(spoilt, NOISE, 0.4, rng)
    changed = (spoilt != images).any(axis=(1, 2, 3))
    assert changed.mean() == pytest.approx(0.4, abs=0.04)  # a few are moved by 0 pixels
    again = images.copy()
    defects.spoil(again, 10 * NOISE, 0.4, np.random.default_rng(0))
    largest = [np.abs(changed_images - images).max(axis=(1, 2, 3))[changed] for changed_images in (spoilt, again)]
    ratios = largest[1] / largest[0]
    assert np.isclose(ratios, 10.0, rtol=0.01).mean() > 0.4  # all but dead columns and moves
