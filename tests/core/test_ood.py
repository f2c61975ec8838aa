import numpy as np
import pytest

from photoz import ood
from photoz.errors import InvalidBundle
from photoz.images import Border, measure_border
from photoz.ood import FARTHEST, FEATURES, FeatureGroup

SIZE = 64


def stamps(radius, n=20, noise=0.02, bands=3):
    rng = np.random.default_rng(1)
    y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    profile = np.exp(-np.hypot(x, y) / radius)[..., np.newaxis]
    return (profile + noise * rng.standard_normal((n, SIZE, SIZE, bands))).astype(np.float32)


def unit_group(p, scale=1.0):
    return FeatureGroup(np.zeros(p), np.ones(p), np.zeros(p), np.eye(p), scale)


def concentration(images, noise=None):
    border = None if noise is None else Border(noise, 0 * noise)
    return ood.extract_features(images, None, border)["concentration"][:, 0]


def test_noise_is_the_logarithm_of_that_of_the_border():
    images = stamps(3.0) * np.array([1.0, 2.0, 0.0], np.float32)
    expected = np.log(np.maximum(measure_border(images).noise, 1e-12))
    np.testing.assert_allclose(ood.extract_features(images, None)["noise"], expected)
    np.testing.assert_allclose(np.exp(expected).mean(axis=0), [0.02, 0.04, 1e-12], rtol=0.1)


def defects(images, name):
    """Return a group of features of cutouts with a noise of 1 in each band."""
    noise = np.ones((len(images), images.shape[-1]))
    return ood.extract_features(images, None, Border(noise, 0 * noise))[name]


def star(fwhm, offset=0.0, bands=3):
    """One star with a peak of 100 in each band."""
    y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2 - offset
    profile = np.exp(-(x**2 + y**2) / (2 * (fwhm / 2.355) ** 2))
    return np.repeat(100 * profile[np.newaxis, ..., np.newaxis], bands, axis=-1).astype(np.float32)


def test_background_is_in_units_of_the_noise():
    images = stamps(3.0)
    border = measure_border(images)
    background = ood.extract_features(images + 2 * border.noise[:, None, None].astype(np.float32), None)["background"]
    np.testing.assert_allclose(background, border.median / border.noise + 2, atol=1e-4)
    assert not ood.extract_features(np.ones_like(images), None)["background"].any()  # without noise


@pytest.mark.parametrize("offset", [0.0, 0.25, 0.5])
def test_nothing_as_wide_as_the_psf_is_sharp_or_has_a_dark_line(offset):
    image = star(2.6, offset)
    assert (defects(image, "sharpness") < 0.1).all()
    assert (defects(image, "dark_line") < 0.1).all()
    image[0, SIZE // 2 + 2, SIZE // 2 - 3, 1] += 300.0
    assert (defects(image, "sharpness") > 20).tolist() == [[False, True, False]]


@pytest.mark.parametrize("line", [np.s_[:, 30], np.s_[:, :, 33]])
def test_dead_row_or_column_is_a_dark_line(line):
    image = star(3.3)
    image[..., 2][line] = 0.0
    assert (defects(image, "dark_line") > 50).tolist() == [[False, False, True]]


def test_light_in_a_single_band_is_no_source():
    image = star(4.0) * np.array([0.2, 1.0, 1.5], np.float32)
    assert (defects(image, "single_band") < 0.1).all()
    image[:, :, 45, 0] += np.float32(10.0)  # a trail, beside the star
    excess = defects(image, "single_band")
    np.testing.assert_allclose(excess[:, 0], 20.0 / 3.0, rtol=0.1)  # two pixels, in units of the noise of three bands
    assert (excess[:, 1:] < 0.1).all()


def test_defects_in_one_band_alone():
    image = star(4.0, bands=1)
    assert {name: values.shape for name, values in ood.extract_features(image, None).items()} == {
        name: (1, 1) for name in ("noise", "background", "sharpness", "single_band", "dark_line", "concentration")
    }


def test_concentration_of_point_sources_is_the_ratio_of_gaussian_apertures():
    images = np.zeros((1, SIZE, SIZE, 3), np.float32)
    images[0, 35, 33, 0], images[0, 30, 31, 1], images[0, 10, 10, 2] = 1.0, 8.0, 100.0
    r2, light = np.array([3.5**2 + 1.5**2, 1.5**2 + 0.5**2]), np.array([1.0, 8.0 / 4.0])  # in units of the noise
    core, whole = (light @ np.exp(-r2 / (2 * sigma**2)) for sigma in (2.0, 6.0))  # pixels of 64
    assert concentration(images, noise=np.array([[1.0, 4.0, 0.0]])) == pytest.approx(core / whole, rel=1e-5)


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize(
    ("values", "is_plateau"),
    [([1.0] * 4, False), ([1.0] * 5, True), ([1.0] * 4 + [0.9992], True), ([1.0] * 4 + [0.9988], False)],
)
def test_plateau_is_more_than_four_equal_pixels(size, values, is_plateau):
    images = np.zeros((1, size, size, 2), np.float32)
    images[0, size // 2, size // 2 - 4 : size // 2 - 4 + len(values), 1] = values
    assert (concentration(images, np.ones((1, 2))) == len(values)) == is_plateau


def clipped(images, share, bands=slice(None)):
    peak = images[:, 24:40, 24:40, bands].max(axis=(1, 2), keepdims=True)
    spoilt = images.copy()
    spoilt[..., bands] = np.minimum(images[..., bands], share * peak)
    return spoilt


@pytest.mark.parametrize("bands", [slice(None), 0, 2])
def test_clipped_core_is_more_concentrated_than_any_star(bands):
    spoilt = clipped(stamps(2.0), 0.5, [bands] if isinstance(bands, int) else bands)
    assert (concentration(stamps(0.1)) <= 1.0).all()
    assert (concentration(spoilt) > ood.PLATEAU_PIXELS).all()
    assert (concentration(1000 * spoilt + np.float32(0.01)) > ood.PLATEAU_PIXELS).all()


def test_half_precision_pixels_and_empty_bands_are_not_plateaus():
    assert (concentration(stamps(4.0, n=200).astype(np.float16).astype(np.float32)) < 1.0).all()
    images = stamps(2.0)
    images[..., 1] = 0.0
    assert (concentration(images) < 1.0).all()


@pytest.mark.parametrize("factor", [1e36, 1e37, 1e38])
def test_pixels_that_overflow_give_a_high_score_without_warning(factor):
    seen = ood.extract_features(stamps(2.0) * np.float32(factor), None)
    assert ood.score({name: unit_group(values.shape[1]) for name, values in seen.items()}, seen).min() > 3.0


def test_network_features_are_an_optional_group():
    assert FEATURES not in ood.extract_features(stamps(2.0), None)
    assert ood.extract_features(stamps(2.0), np.ones((20, 7), np.float32))[FEATURES].shape == (20, 7)


def test_distance_is_that_of_whitened_features_with_compressed_tails():
    whitening = np.array([[1.0, 0.5], [0.0, 2.0]])
    group = FeatureGroup(np.array([1.0, 2.0]), np.array([2.0, 0.5]), np.array([0.1, -0.2]), whitening, scale=4.0)
    offset = 3 * np.arcsinh(np.array([1.0, 6.0]) / 3) - [0.1, -0.2]
    expected = np.hypot(offset[0], 0.5 * offset[0] + 2 * offset[1]) / 4
    np.testing.assert_allclose(group.distance(np.array([[3.0, 5.0], [np.nan, 0.0]])), [expected, FARTHEST])


def test_score_is_the_largest_distance_in_units_of_its_scale():
    parts = {"one": unit_group(2), "two": unit_group(1, scale=10.0)}
    seen = {"one": np.array([[0.3, 0.4], [0.0, 0.0]]), "two": np.array([[0.1], [0.2]])}
    np.testing.assert_allclose(ood.score(parts, seen), [0.5, 0.02], rtol=0.01)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_not_finite_have_the_largest_distance(value):
    assert ood.score({"one": unit_group(2)}, {"one": np.array([[0.0, value]])}).tolist() == [FARTHEST]


def test_feature_groups_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    parts = {name: FeatureGroup(*rng.uniform(1, 2, (3, 4)), np.eye(4), 1.5) for name in ("noise", FEATURES)}
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": np.zeros(2)}, "the shapes of noise do not fit together"),
        ({"whitening": np.eye(3)[:2]}, "the shapes of noise do not fit together"),
        ({"whitening": np.zeros(3)}, "the shapes of noise do not fit together"),
        ({"scale": np.ones(2)}, "the shapes of noise do not fit together"),
        ({"centre": np.array([0.0, np.nan, 0.0])}, "expected finite numbers for noise"),
        ({"std": np.array([1.0, 0.0, 1.0])}, "expected a std and a scale of noise above 0"),
        ({"scale": np.float64(-1.0)}, "expected a std and a scale of noise above 0"),
    ],
)
def test_groups_that_give_no_score_are_refused(tmp_path, change, message):
    group = {
        "mean": np.zeros(3),
        "std": np.ones(3),
        "centre": np.zeros(3),
        "whitening": np.eye(3),
        "scale": np.float64(1),
    }
    path = tmp_path / "ood.npz"
    np.savez(path, **{f"noise/{name}": value for name, value in (group | change).items()})
    with pytest.raises(InvalidBundle, match=message):
        ood.load(path)
