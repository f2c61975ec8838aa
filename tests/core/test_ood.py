import numpy as np
import pytest

from photoz import ood
from photoz.errors import InvalidBundle
from photoz.ood import FARTHEST, FEATURES, FeatureGroup

SIZE = 64


def stamps(radius, n=20, noise=0.02, bands=3):
    rng = np.random.default_rng(1)
    y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    profile = np.exp(-np.hypot(x, y) / radius)[..., np.newaxis]
    return (profile + noise * rng.standard_normal((n, SIZE, SIZE, bands))).astype(np.float32)


def unit_group(p, scale=1.0):
    return FeatureGroup(np.zeros(p), np.ones(p), np.zeros(p), np.eye(p), scale)


def test_noise_is_that_of_the_border_in_each_band():
    images = stamps(3.0) * np.array([1.0, 2.0, 0.1], np.float32)
    noise = np.exp(ood.extract_features(images, None)["noise"]).mean(axis=0)
    np.testing.assert_allclose(noise, [0.02, 0.04, 0.002], rtol=0.1)


def test_smaller_sources_are_more_concentrated():
    values = [
        ood.extract_features(stamps(radius), None)["concentration"].mean() for radius in (0.5, 1.0, 2.0, 4.0, 8.0)
    ]
    assert (np.diff(values) < -0.02).all()


def test_concentration_is_independent_of_brightness_and_dead_bands():
    images = stamps(2.0)
    expected = ood.extract_features(images, None)["concentration"]
    np.testing.assert_allclose(ood.extract_features(images * 1000, None)["concentration"], expected, rtol=1e-4)
    images[..., 1] = 0.0
    found = ood.extract_features(images, None)["concentration"]
    np.testing.assert_allclose(found, expected, atol=0.05)


def clipped(images, share, bands=slice(None)):
    peak = images[:, 24:40, 24:40, bands].max(axis=(1, 2), keepdims=True)
    spoilt = images.copy()
    spoilt[..., bands] = np.minimum(images[..., bands], share * peak)
    return spoilt


@pytest.mark.parametrize("bands", [slice(None), 0, 2])
def test_clipped_core_is_more_concentrated_than_any_star(bands):
    spoilt = clipped(stamps(2.0), 0.5, [bands] if isinstance(bands, int) else bands)
    assert (ood.extract_features(stamps(0.1), None)["concentration"] <= 1.0).all()
    assert (ood.extract_features(spoilt, None)["concentration"] > ood.PLATEAU_PIXELS).all()
    assert (ood.extract_features(1000 * spoilt + np.float32(0.01), None)["concentration"] > ood.PLATEAU_PIXELS).all()


def test_half_precision_pixels_are_not_a_plateau():
    images = stamps(4.0, n=200).astype(np.float16).astype(np.float32)
    assert (ood.extract_features(images, None)["concentration"] < 1.0).all()


def test_empty_band_is_not_a_plateau():
    images = stamps(2.0)
    images[..., 1] = 0.0
    assert (ood.extract_features(images, None)["concentration"] < 1.0).all()


@pytest.mark.parametrize("factor", [1e36, 1e37, 1e38])
def test_pixels_that_overflow_give_a_high_score_without_warning(factor):
    seen = ood.extract_features(stamps(2.0) * np.float32(factor), None)
    assert ood.score({name: unit_group(values.shape[1]) for name, values in seen.items()}, seen).min() > 3.0


def test_network_features_are_an_optional_group():
    assert list(ood.extract_features(stamps(2.0), None)) == ["noise", "concentration"]
    assert ood.extract_features(stamps(2.0), np.ones((20, 7), np.float32))[FEATURES].shape == (20, 7)


def test_score_is_the_largest_distance_in_units_of_its_scale():
    parts = {"one": unit_group(2), "two": unit_group(1, scale=10.0)}
    seen = {"one": np.array([[0.3, 0.4], [0.0, 0.0]]), "two": np.array([[0.1], [0.2]])}
    np.testing.assert_allclose(ood.score(parts, seen), [0.5, 0.02], rtol=0.01)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_not_finite_have_the_largest_distance(value):
    assert ood.score({"one": unit_group(2)}, {"one": np.array([[0.0, value]])}).tolist() == [FARTHEST]


def test_feature_groups_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    parts = {name: FeatureGroup(*rng.normal(size=(3, 4)), rng.normal(size=(4, 2)), 1.5) for name in ("noise", FEATURES)}
    ood.save(parts, tmp_path / "ood.npz")
    seen = {name: rng.normal(size=(5, 4)) for name in parts}
    loaded = ood.load(tmp_path / "ood.npz")
    assert list(loaded) == list(parts)
    np.testing.assert_array_equal(ood.score(loaded, seen), ood.score(parts, seen))


def test_other_file_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", **{"noise/mean": np.zeros(3)})
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04")
    for name in ("other.npz", "broken.npz"):
        with pytest.raises(InvalidBundle, match="does not hold feature groups of the training images"):
            ood.load(tmp_path / name)
