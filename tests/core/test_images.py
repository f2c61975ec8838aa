import re

import numpy as np
import pytest
from pydantic import ValidationError

from photoz import images as module
from photoz.errors import InvalidEbv, InvalidImages
from photoz.images import SDSS_IMAGES, Batch, ImageSpec, as_reddening, signal_to_noise

SPEC = ImageSpec(size=8, bands="gri")


def cutouts(n=3, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).uniform(1, 100, (n, *SPEC.shape)).astype(dtype)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8", "<f2", "g", "<i2", ">i2", "<i4", ">i8", "u1", ">u2"])
def test_real_types_and_byte_orders_give_the_same_pixels(dtype):
    whole = np.round(cutouts())
    batch = Batch.of(whole.astype(dtype), SPEC)
    assert batch.images.dtype == np.dtype("=f4")
    np.testing.assert_array_equal(batch.images, whole)


@pytest.mark.parametrize(
    "relaid",
    [np.asfortranarray, lambda a: a[::-1][::-1], lambda a: np.moveaxis(np.moveaxis(a, -1, 1).copy(), 1, -1)],
    ids=["fortran", "strided", "transposed"],
)
def test_memory_layout_does_not_matter(relaid):
    images = cutouts()
    batch = Batch.of(relaid(images), SPEC)
    assert batch.images.flags.c_contiguous
    np.testing.assert_array_equal(batch.images, images)


def test_nested_lists_and_single_cutouts_are_accepted():
    images = cutouts(1)
    np.testing.assert_array_equal(Batch.of(images[0].tolist(), SPEC).images, images)


@pytest.mark.parametrize("shape", [(3, 3, 8, 8), (3, 8, 8)])
def test_bands_first_are_refused_with_a_hint(shape):
    with pytest.raises(InvalidImages, match=r"expected images of shape \(n, 8, 8, 3\).*moveaxis"):
        Batch.of(np.ones(shape), SPEC)


@pytest.mark.parametrize("shape", [(2, 8, 8, 5), (2, 9, 9, 3), (8, 8), (), (1, 2, 8, 8, 3), (0,)])
def test_wrong_shape_is_refused_with_both_shapes(shape):
    message = f"expected images of shape (n, 8, 8, 3) with bands g,r,i, got {shape}"
    with pytest.raises(InvalidImages, match=f"^{re.escape(message)}$"):
        Batch.of(np.ones(shape), SPEC)


@pytest.mark.parametrize("dtype", [bool, complex, "U5", object, "M8[s]", [("x", "f4")]])
def test_pixels_that_are_not_real_numbers_are_refused(dtype):
    with pytest.raises(InvalidImages, match="real numbers, got dtype"):
        Batch.of(np.zeros((1, 8, 8, 3), dtype=dtype), SPEC)


@pytest.mark.parametrize(
    ("images", "reason"), [(np.ones((0, 8, 8, 3)), "at least one cutout"), ([[1.0, 2.0], [3.0]], "regular array")]
)
def test_no_or_ragged_cutouts_are_refused(images, reason):
    with pytest.raises(InvalidImages, match=reason):
        Batch.of(images, SPEC)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_pixel_not_finite_in_float32_is_masked(value):
    images = cutouts(2, np.float64)
    images[1, 4, 4, 0] = value
    batch = Batch.of(images, SPEC)
    assert batch.images[1, 4, 4, 0] == 0
    np.testing.assert_array_equal(batch.masked, [False, True])
    np.testing.assert_array_equal(batch.band_missing, [False, False])


def test_mask_of_a_masked_array_is_used():
    images = np.ma.masked_array(cutouts(2), mask=False)
    images.data[0, 1, 2, 0] = 1e9
    images[0, 1, 2, 0] = np.ma.masked
    batch = Batch.of(images, SPEC)
    assert batch.images[0, 1, 2, 0] == 0
    np.testing.assert_array_equal(batch.masked, [True, False])


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_band_without_signal_is_missing(value):
    images = cutouts(2)
    images[0, :, :, 2] = value
    np.testing.assert_array_equal(Batch.of(images, SPEC).band_missing, [True, False])


def test_cutout_without_finite_pixel_is_refused():
    images = cutouts(3)
    images[2] = np.nan
    with pytest.raises(InvalidImages, match="cutout 2 has no finite pixel"):
        Batch.of(images, SPEC)


def test_input_array_is_not_changed():
    images = cutouts(1)
    images[0, 0, 0, 0] = np.nan
    before = images.copy()
    Batch.of(images, SPEC)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("ebv", [0.1, [0.1, 0.1], [[0.1], [0.1]], np.full(2, 0.1, dtype=">f8")])
def test_reddening_is_one_number_or_one_per_cutout(ebv):
    batch = Batch.of(cutouts(2), SPEC, ebv, 0.5)
    np.testing.assert_array_equal(batch.ebv, np.full(2, 0.1, dtype=np.float32))
    assert not batch.ebv_assumed.any()


@pytest.mark.parametrize(("ebv", "assumed"), [(None, [1, 1]), (np.nan, [1, 1]), ([0.2, np.nan], [0, 1])])
def test_unknown_reddening_is_assumed(ebv, assumed):
    batch = Batch.of(cutouts(2), SPEC, ebv, 0.5)
    np.testing.assert_array_equal(batch.ebv_assumed, np.array(assumed, dtype=bool))
    assert batch.ebv[1] == 0.5


@pytest.mark.parametrize("bad", [-0.01, 10.1, np.inf, 1e39])
def test_reddening_out_of_range_is_refused(bad):
    with pytest.raises(InvalidEbv, match="expected 0 <= ebv <= 10 mag.*cutout 1"):
        as_reddening([0.1, bad], 2)
    assert as_reddening([0.0, 10.0], 2).tolist() == [0.0, 10.0]


@pytest.mark.parametrize("ebv", [[0.1], [0.1, 0.1, 0.1], [[0.1, 0.1]], "much", [{}, {}]])
def test_reddening_of_wrong_length_or_type_is_refused(ebv):
    with pytest.raises(InvalidEbv, match="expected"):
        as_reddening(ebv, 2)


@pytest.mark.parametrize(("size", "box"), [(8, slice(3, 5)), (23, slice(9, 13)), (64, slice(24, 40))])
def test_signal_to_noise_is_that_of_the_central_box_over_border_noise(rng, size, box):
    images = rng.normal(0.3, 2.0, (3, size, size, 2)).astype(np.float32)
    border = np.concatenate([images[:, [0, -1]].reshape(3, -1, 2), images[:, 1:-1, [0, -1]].reshape(3, -1, 2)], axis=1)
    noise = 1.4826 * np.median(np.abs(border - np.median(border, axis=1, keepdims=True)), axis=1)
    measured = module.measure_border(images)
    np.testing.assert_allclose(measured.noise, noise, rtol=1e-5)
    np.testing.assert_allclose(measured.median, np.median(border, axis=1), rtol=1e-5)
    core = images[:, box, box].reshape(3, -1, 2)
    np.testing.assert_array_equal(module.central_box(images), core)
    expected = core.sum(axis=1) / (noise * np.sqrt(core.shape[1]))
    np.testing.assert_allclose(signal_to_noise(images, noise), expected, rtol=1e-4)
    np.testing.assert_array_equal(signal_to_noise(images, 0 * noise), np.zeros((3, 2)))


def test_default_spec_is_sdss():
    assert SDSS_IMAGES.shape == (64, 64, 5)
    assert SDSS_IMAGES.bands == ("u", "g", "r", "i", "z")
    np.testing.assert_array_equal(SDSS_IMAGES.extinction, [5.155, 3.793, 2.751, 2.086, 1.479])
    assert ImageSpec(bands=("r", "F606W")).extinction[1] == 0.0


@pytest.mark.parametrize("bands", [(), "rr", ("g", "g")])
def test_repeated_bands_are_refused(bands):
    with pytest.raises(ValidationError, match="distinct bands"):
        ImageSpec(bands=bands)
