"""Images of a batch, and files of cutouts brought into the layout of a model."""

import re
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from photoz import images as module
from photoz.errors import InvalidDataset, InvalidEbv, InvalidImages
from photoz.images import SDSS_IMAGES, Batch, ImageSpec, as_reddening, parse_bands, signal_to_noise
from photoz.io.cutouts import Cutouts, Reading
from photoz.io.layout import conform, described, same_scale
from photoz.io.options import ReadOptions
from tests.core.cutout_files import BANDS_FIRST, IMAGES, SPEC, check_images


def cutouts(n=3, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).uniform(1, 100, (n, *SPEC.shape)).astype(dtype)


def test_types_byte_orders_and_memory_layout_do_not_matter():
    whole = np.round(cutouts(17))
    kinds = ["<f4", ">f4", "<f8", ">f8", "<f2", "g", "<i2", ">i2", "<i4", ">i8", "u1", ">u2"]
    transposed = np.moveaxis(np.moveaxis(whole, -1, 1).copy(), 1, -1)
    for same in (*map(whole.astype, kinds), np.asfortranarray(whole), whole[::-1][::-1], transposed, whole.tolist()):
        batch = Batch.of(same, SPEC)
        assert (batch.images.dtype, batch.images.flags.c_contiguous) == (np.dtype("=f4"), True)
        np.testing.assert_array_equal(batch.images, whole)
        assert not (batch.masked | batch.band_missing).any()
    np.testing.assert_array_equal(Batch.of(whole[0], SPEC).images, whole[:1])


def test_wrong_shapes_and_images_without_real_numbers_are_refused():
    for shape in ((2, 8, 8, 5), (2, 9, 9, 3), (8, 8), (), (1, 2, 8, 8, 3), (0,), (3, 3, 8, 8), (1, 3, 8, 8)):
        message = f"expected images of shape (n, 8, 8, 3) with bands g,r,i, got {shape}"
        if shape[-3:] == (3, 8, 8):
            message += "; the bands come first here: move them last with numpy.moveaxis(images, -3, -1)"
        with pytest.raises(InvalidImages, match=f"^{re.escape(message)}$"):
            Batch.of(np.ones(shape), SPEC)
    for images, reason in (
        (np.ones((0, 8, 8, 3)), "^expected at least one cutout, got none$"),
        ([[1.0, 2.0], [3.0]], "^images do not form a regular array"),
        ([np.ones((8, 8, 3)), np.full((8, 8, 3), np.nan)], "^cutout 1 has no finite pixel; expected some"),
        *((np.zeros((1, 8, 8, 3), kind), "of real numbers, got dtype") for kind in (bool, complex, "U5", object)),
    ):
        with pytest.raises(InvalidImages, match=reason):
            Batch.of(images, SPEC)


def test_pixels_not_finite_in_float32_are_masked_and_bands_without_signal_missing():
    for value in (np.nan, np.inf, -np.inf, 1e300):
        images = cutouts(2, np.float64)
        images[1, 4, 4, 0] = value
        before, batch = images.copy(), Batch.of(images, SPEC)
        np.testing.assert_array_equal(images, before)
        images[1, 4, 4, 0] = 0.0
        np.testing.assert_array_equal(batch.images, images.astype(np.float32))
        assert (batch.masked.tolist(), batch.band_missing.tolist()) == ([False, True], [False, False])
    images = np.ma.masked_array(cutouts(2), mask=False)
    images[0, 1, 2, 0] = np.ma.masked
    for masked in (images, images.astype(np.int16)):
        batch = Batch.of(masked, SPEC)
        assert (batch.images[0, 1, 2, 0], batch.masked.tolist()) == (0, [True, False])
    for value in (np.nan, 0.0):
        images = cutouts(2)
        images[0, :, :, 2] = value
        batch = Batch.of(images, SPEC)
        assert (batch.band_missing.tolist(), batch.masked.tolist()) == ([True, False], [np.isnan(value), False])
    for pixels in (np.tile([1, -1], 32), np.full(64, 3e38)):
        images[:, :, :, 1:] = pixels.reshape(8, 8, 1)
        batch = Batch.of(images, SPEC)
        np.testing.assert_array_equal(batch.images, images)
        assert not (batch.masked | batch.band_missing).any()


def test_reddening_is_one_number_or_one_per_cutout_and_may_be_unknown():
    for ebv, expected, assumed in (
        (0.1, [0.1, 0.1], [False, False]),
        ([[0.0], [10.0]], [0.0, 10.0], [False, False]),
        (np.full(2, 0.1, dtype=">f8"), [0.1, 0.1], [False, False]),
        (None, [0.5, 0.5], [True, True]),
        ([0.2, np.nan], [0.2, 0.5], [False, True]),
    ):
        batch = Batch.of(cutouts(2), SPEC, ebv, 0.5)
        assert batch.ebv.tolist() == np.float32(expected).tolist()
        assert (batch.ebv.dtype, batch.ebv_assumed.tolist()) == (np.float32, assumed)
    assert Batch.of(cutouts(2), SPEC).ebv.tolist() == [-1.0, -1.0]
    for bad in (-0.01, 10.1, np.inf, 1e39):
        with pytest.raises(InvalidEbv, match=r"^expected 0 <= ebv <= 10 mag, got (-0.01|10.1|inf) for cutout 1$"):
            as_reddening([0.1, bad], 2)
    shapes = "^expected ebv as one number, or as 2, one for each cutout, got shape "
    rows = [(other, shapes) for other in ([0.1], [0.1, 0.1, 0.1], [[0.1, 0.1]])]
    for other, message in (*rows, ("much", "^expected ebv as numbers: "), ([{}, {}], "^expected ebv as numbers: ")):
        with pytest.raises(InvalidEbv, match=message):
            as_reddening(other, 2)


def test_batches_are_sliced_and_concatenated():
    batch = Batch.of(cutouts(40), SPEC, np.where(np.arange(40) < 20, 0.1, np.nan), 0.5, np.arange(40).astype(str))
    parts = batch[:30], batch[30:]
    assert (len(parts[0]), parts[1].names.tolist()) == (30, [str(i) for i in range(30, 40)])
    again = Batch.concatenate(parts)
    for name in ("images", "ebv", "ebv_assumed", "masked", "band_missing"):
        np.testing.assert_array_equal(getattr(again, name), getattr(batch, name))
    assert again.object_id is None
    assert again[5:].names.tolist() == list(range(35))
    assert Batch.concatenate([batch]) is batch


@pytest.mark.parametrize(("size", "box"), [(8, slice(3, 5)), (23, slice(9, 13)), (64, slice(24, 40))])
def test_signal_to_noise_is_that_of_the_central_box_over_border_noise(rng, size, box):
    images = rng.normal(0.3, 2.0, (3, size, size, 2)).astype(np.float32)
    border = np.concatenate([images[:, [0, -1]].reshape(3, -1, 2), images[:, 1:-1, [0, -1]].reshape(3, -1, 2)], axis=1)
    measured = Batch.of(images, ImageSpec(size=size, bands="gr")).border
    below = np.sort(np.median(border, axis=1, keepdims=True) - border, axis=1)[:, -(border.shape[1] // 2) :]
    noise = np.sqrt((np.minimum(below, 3 / 0.6745 * below[:, [(below.shape[1] - 1) // 2]]) ** 2).mean(axis=1))
    np.testing.assert_allclose(measured.noise, noise, rtol=1e-5)
    np.testing.assert_allclose(measured.median, np.median(border, axis=1), rtol=1e-6)
    core = images[:, box, box].reshape(3, -1, 2)
    np.testing.assert_array_equal(module.central_box(images), core)
    expected = core.astype(float).sum(axis=1) / (noise * np.sqrt(core.shape[1]))
    np.testing.assert_allclose(signal_to_noise(images, noise), expected, rtol=1e-5)
    np.testing.assert_array_equal(signal_to_noise(images, 0 * noise), np.zeros((3, 2)))


def test_default_spec_is_sdss_and_its_fields_have_limits():
    sdss = ImageSpec(64, ("u", "g", "r", "i", "z"), 0.396, "nanomaggy", (5.155, 3.793, 2.751, 2.086, 1.479))
    assert (sdss, SDSS_IMAGES.shape) == (SDSS_IMAGES, (64, 64, 5))
    other = ImageSpec(bands=("r", "F606W"))
    assert (other.extinction.tolist(), other.extinction_coefficients) == ([2.751, 0.0], (2.751, None))
    texts = ("gri", "g,r,i", "g r i", "g; r; i", "")
    assert [parse_bands(text) for text in texts] == [*[("g", "r", "i")] * 4, ()]
    for field, allowed, refused in (
        ("size", [8, 1024], [7, 1025]),
        ("pixel_scale", [1e-3], [0.0, -0.1, np.inf, np.nan]),
        ("bands", [("g",)], [(), "rr", ("g", "g")]),
        ("extinction_coefficients", [(0, 20, None, 1, 1)], [(-0.1, 1, 1, 1, 1), (20.1, 1, 1, 1, 1), (1, 1)]),
    ):
        assert [getattr(ImageSpec(**{field: value}), field) for value in allowed] == allowed
        for value in refused:
            with pytest.raises(ValidationError):
                ImageSpec(**{field: value})


KNOWN = {"bands": ("g", "r", "i"), "unit": "nanomaggy", "pixel_scale": 0.2}


def test_what_fits_is_not_copied_and_of_larger_cutouts_the_central_pixels_are_used():
    cutouts, reading = conform(Cutouts(IMAGES, {}, **KNOWN), SPEC)
    assert cutouts.images is IMAGES
    assert (cutouts.spec, reading) == (SPEC, Reading(used=["pixels are in nanomaggy", "pixels are 0.2 arcsec wide"]))
    assert conform(Cutouts(IMAGES, {}, SPEC), SPEC)[1] == Reading()
    bands, unit = "the bands are g,r,i in this order", "pixels are in nanomaggy"
    assert conform(Cutouts(IMAGES, {}), SPEC)[1] == Reading(assumed=[bands, unit, "pixels are 0.2 arcsec wide"])
    for size in (9, 12, 13):
        larger = np.zeros((4, size, size + 1, 3), np.float32)
        top, left = (size - 8) // 2, (size + 1 - 8) // 2
        larger[:, top : top + 8, left : left + 8] = IMAGES
        cutouts, reading = conform(Cutouts(larger, {}, **KNOWN), SPEC)
        check_images(cutouts.images, IMAGES)
        assert reading.used[-1] == f"the central 8x8 of {size}x{size + 1} pixels"


def test_bands_are_known_without_prefixes_and_case_or_given():
    for names in (("SDSS_g", "DES.r", "hsc-i"), ("a G", "R", "I"), ("R", "G", "I")):
        cutouts, reading = conform(Cutouts(IMAGES, {}, **KNOWN | {"bands": names}), SPEC)
        order = [1, 0, 2] if names[0] == "R" else [0, 1, 2]
        np.testing.assert_array_equal(cutouts.images[:], IMAGES[..., order])
        assert reading.used[0] == f"the bands g,r,i are taken from {','.join(names)}"
    both = ImageSpec(size=8, bands=("g", "G", "i"), pixel_scale=0.2)
    reading = conform(Cutouts(IMAGES, {}, **KNOWN | {"bands": ("G", "g", "i")}), both)[1]
    assert reading.used[0] == "the bands g,G,i are taken from G,g,i"
    more = np.concatenate([IMAGES[..., 2:], 9 * IMAGES[..., :1], IMAGES[..., :2]], axis=-1)
    cutouts, reading = conform(Cutouts(more, {}, **KNOWN | {"bands": ("i", "z", "g", "r")}), SPEC)
    check_images(cutouts.images, IMAGES)
    assert reading.used[0] == "the bands g,r,i are taken from i,z,g,r"
    assert reading.left_out == ["the bands z"]
    given = Cutouts(IMAGES, {}, **KNOWN | {"bands": ("a", "b", "c"), "unit": "count"})
    with pytest.raises(
        InvalidDataset, match="^the file says that its bands are a,b,c, and the option i,r,g: leave out"
    ):
        conform(given, SPEC, ReadOptions(("i", "r", "g"), 25.0))
    cutouts, _ = conform(given, SPEC, ReadOptions(("i", "r", "g"), 25.0, override=True))
    np.testing.assert_allclose(cutouts.images[:], IMAGES[..., ::-1] * 0.1, rtol=1e-6)


def test_unit_or_zero_point_is_converted_unless_the_model_has_another_unit():
    for unit, zero_point, factor, text in (
        ("Jy", None, 1e6 / 3.631, "275406, for the unit Jy"),
        ("mJy", None, 1e3 / 3.631, "275.406, for the unit mJy"),
        ("uJy", None, 1 / 3.631, "0.275406, for the unit uJy"),
        ("nJy", None, 1e-3 / 3.631, "0.000275406, for the unit nJy"),
        ("maggies", None, 1e9, "1e+09, for the unit maggies"),
        ("maggy", None, 1e9, "1e+09, for the unit maggy"),
        ("nmgy", None, 1.0, "1, for the unit nmgy"),
        ("nanomaggies", None, 1.0, "1, for the unit nanomaggies"),
        ("", 22.5, 1.0, "1, for the zero point 22.5"),
        ("", 30.0, 1e-3, "0.001, for the zero point 30"),
    ):
        cutouts, reading = conform(Cutouts(IMAGES, {}, **KNOWN | {"unit": unit, "zero_point": zero_point}), SPEC)
        np.testing.assert_allclose(cutouts.images[:], IMAGES * factor, rtol=1e-6)
        assert reading.used[0] == f"pixels are multiplied by {text}"
    spec = replace(SPEC, unit="count")
    assert conform(Cutouts(IMAGES, {}, **KNOWN | {"unit": "count"}), spec)[1].used[0] == "pixels are in count"
    for unit, given in (("nanomaggy", "the unit nanomaggy"), ("", "the zero point 25")):
        cutouts = Cutouts(IMAGES, {}, **KNOWN | {"unit": unit, "zero_point": None if unit else 25.0})
        with pytest.raises(InvalidDataset, match=f"^expected pixels in count, as the model was trained, got {given}$"):
            conform(cutouts, spec)


def test_what_cannot_be_converted_is_refused():
    for given, images, message in (
        ({"bands": ("g", "r", "z")}, IMAGES, "^expected the bands g,r,i, got g,r,z; missing: i$"),
        ({"bands": ("g", "g", "i")}, IMAGES, "^expected each band once, got g,g,i, of which 2 are g$"),
        (
            {"unit": "adu"},
            IMAGES,
            "^pixels of images are in adu, which is no flux density, .*: give the AB zero point of such pixels$",
        ),
        (
            {"pixel_scale": 0.396},
            IMAGES,
            "^expected pixels of 0.2 arcsec, got 0.396: resample them, as commands do with --resample$",
        ),
        ({}, IMAGES[:, :7], "^expected cutouts of at least 8x8 pixels, got 7x8$"),
        ({}, BANDS_FIRST[..., :7], "^expected cutouts of at least 8x8 pixels, got 8x7$"),
        ({"bands": ()}, IMAGES[..., :2], r"^expected 3 bands as the second or the last axis of .* \(4, 8, 8, 2\)$"),
        ({}, np.ones((2, 3, 8, 3)), r"^the bands may be the second or the last axis of \(2, 3, 8, 3\): move them"),
        ({}, IMAGES[0, 0], r"^expected images of four axes, \(n, size, size, n_bands\), got shape \(8, 3\)$"),
    ):
        with pytest.raises(InvalidDataset, match=message):
            conform(Cutouts(images, {}, **KNOWN | given), SPEC)


def test_columns_by_other_names():
    two = {"E_BV": np.zeros(4), "ebv_sfd": np.zeros(4)}
    with pytest.raises(
        InvalidDataset, match="^any of the columns E_BV, ebv_sfd may be ebv: rename one of them to ebv$"
    ):
        conform(Cutouts(IMAGES, two, **KNOWN), SPEC)
    assert conform(Cutouts(IMAGES, two | {"ebv": np.ones(4)}, **KNOWN), SPEC)[1].assumed == []
    magnitudes = {"g": np.full(4, 19.0), "z": np.full(4, 17.0)}  # in z, no redshift
    spec = ImageSpec(size=8, bands="grz", pixel_scale=0.2)
    cutouts, _ = conform(Cutouts(IMAGES, magnitudes, **KNOWN | {"bands": ("g", "r", "z")}), spec)
    assert cutouts.columns.keys() == magnitudes.keys()
    names = {"NAME": np.array(["a"] * 4), "OBJID": np.arange(4), "Decl": np.ones(4)}
    hayat = {"e_bv": np.full(4, 0.1), "specz_redshift": np.full(4, 0.2)}  # of Hayat et al. 2021, with bands first
    cutouts, reading = conform(Cutouts(BANDS_FIRST, names | hayat, **KNOWN), SPEC)
    check_images(cutouts.images, IMAGES)
    assert cutouts.columns["object_id"].tolist() == [0, 1, 2, 3]
    expected = {"OBJID": "object_id", "e_bv": "ebv", "specz_redshift": "z_spec", "Decl": "dec"}
    assert reading.used[:4] == [f"the column {column} is {name}" for column, name in expected.items()]


def test_layout_of_a_file_is_described():
    assert [same_scale(scale, 0.4) for scale in (0.3919, 0.3921, 0.4079, 0.4081)] == [False, True, True, False]
    coefficients = ImageSpec(size=8, bands="gri", pixel_scale=0.2, extinction_coefficients=(3.0, 2.0, None))
    described_file = described(Cutouts(IMAGES, {}, coefficients), bands=("i", "g", "z"), size=32, pixel_scale=0.5)
    assert described_file == ImageSpec(32, ("i", "g", "z"), 0.5, "nanomaggy", (None, 3.0, None))
    assert described(Cutouts(IMAGES, {}, coefficients)) == coefficients
    assert described(Cutouts(IMAGES, {}, **KNOWN)) == SPEC
    tall = np.ones((2, 3, 9, 11))
    assert described(Cutouts(tall, {}, **KNOWN | {"unit": "Jy"})) == replace(SPEC, size=9)
    wide = Cutouts(np.ones((2, 11, 9, 3)), {}, **KNOWN | {"unit": "adu"})
    assert described(wide) == replace(SPEC, size=9, unit="adu")
    plain = Cutouts(tall, {}, unit="adu", zero_point=25.0)
    assert described(plain, bands=("g", "r", "i"), pixel_scale=0.2, size=10) == replace(SPEC, size=10)
    for arguments, message in (({"pixel_scale": 0.2}, "which bands its images have"), ({"bands": "gri"}, "how wide")):
        with pytest.raises(InvalidDataset, match=f"^the file does not say {message}"):
            described(plain, **arguments)


def test_noise_is_that_of_gaussian_pixels_and_hardly_changes_with_light_or_dead_pixels_on_the_border(rng):
    images = rng.normal(5.0, 2.0, (200, 64, 64, 1)).astype(np.float32)
    assert np.mean(module.measure_border(images).noise) == pytest.approx(2.0, rel=0.01)
    for value, column in ((40.0, slice(0, 10)), (-1e6, slice(0, 3))):  # a neighbour; dead pixels
        spoilt = images.copy()
        spoilt[:, 0, column] = value
        assert np.mean(module.measure_border(spoilt).noise) == pytest.approx(2.0, rel=0.15)
    images[:, :40] = 0.0  # most of the border
    assert (module.measure_border(images).noise == 0).all()


def test_an_ebv_for_all_cutouts_replaces_the_column():
    given = Cutouts(IMAGES, {"ebv": np.zeros(4)}, **KNOWN)
    cutouts, reading = conform(given, SPEC, ReadOptions(ebv=0.3))
    assert cutouts.columns["ebv"].tolist() == [0.3] * 4
    assert reading.used[0] == "E(B-V) is 0.3 mag, by the option"
