"""Cutouts brought into the layout of a model."""

import h5py
import numpy as np
import pytest

from photoz.errors import InvalidDataset
from photoz.images import ImageSpec
from photoz.io.cutouts import Cutouts
from photoz.io.layout import conform
from photoz.io.reader import open_cutouts

SPEC = ImageSpec(size=8, bands="gri", pixel_scale=0.2, unit="nanomaggy")
IMAGES = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
SAID = {"bands": ("g", "r", "i"), "unit": "nanomaggy", "pixel_scale": 0.2}


def test_what_fits_is_neither_copied_nor_remarked():
    cutouts, assumptions = conform(Cutouts(IMAGES, {}, **SAID), SPEC)
    assert cutouts.images is IMAGES
    assert assumptions == ()


def test_what_a_file_does_not_say_is_reported():
    _, assumptions = conform(Cutouts(IMAGES, {}), SPEC)
    assert assumptions == (
        "the bands are g,r,i in this order",
        "pixels are in nanomaggy",
        "pixels are 0.2 arcsec wide",
    )


@pytest.mark.parametrize("size", [9, 12, 13])
def test_central_pixels_of_larger_cutouts(size):
    larger = np.zeros((2, size, size, 3), np.float32)
    start = (size - 8) // 2
    larger[:, start : start + 8, start : start + 8] = IMAGES[:2]
    cutouts, assumptions = conform(Cutouts(larger, {}, **SAID), SPEC)
    np.testing.assert_array_equal(cutouts.images[:], IMAGES[:2])
    assert assumptions == (f"the central 8x8 of {size}x{size} pixels are used",)


def test_more_bands_than_the_model_takes():
    more = np.concatenate([IMAGES[..., 2:], 9 * IMAGES[..., :1], IMAGES[..., :2]], axis=-1)
    cutouts, _ = conform(Cutouts(more, {}, **SAID | {"bands": ("i", "z", "g", "r")}), SPEC)
    np.testing.assert_array_equal(cutouts.images[:], IMAGES)


@pytest.mark.parametrize(
    ("unit", "zero_point", "factor"),
    [("Jy", None, 1e6 / 3.631), ("nJy", None, 1e-3 / 3.631), ("maggies", None, 1e9), ("", 22.5, 1.0), ("", 30.0, 1e-3)],
)
def test_unit_or_zero_point_is_converted(unit, zero_point, factor):
    said = SAID | {"unit": unit, "zero_point": zero_point}
    cutouts, assumptions = conform(Cutouts(IMAGES, {}, **said), SPEC)
    np.testing.assert_allclose(cutouts.images[:], IMAGES * factor, rtol=1e-6)
    assert len(assumptions) == (factor != 1.0)


def test_options_replace_what_the_file_says():
    said = SAID | {"bands": ("a", "b", "c"), "unit": "count"}
    cutouts, _ = conform(Cutouts(IMAGES, {}, **said), SPEC, bands=("i", "r", "g"), zero_point=25.0)
    np.testing.assert_allclose(cutouts.images[:], IMAGES[..., ::-1] * 0.1, rtol=1e-6)


REFUSED = {
    "band missing": ({"bands": ("g", "r", "z")}, IMAGES, "expected the bands g,r,i, got g,r,z; missing: i"),
    "band twice": ({"bands": ("g", "g", "i")}, IMAGES, "each band once, got g,g,i"),
    "unknown unit": ({"unit": "adu"}, IMAGES, "pixels are in adu, which is unknown"),
    "another scale": (
        {"pixel_scale": 0.396},
        IMAGES,
        "expected pixels of 0.2 arcsec, got 0.396",
    ),
    "too small": ({}, IMAGES[:, :7, :7], "at least 8x8 pixels, got 7x7"),
    "other number of bands": ({"bands": ()}, IMAGES[..., :2], "expected 3 bands as the second or the last axis"),
    "ambiguous": ({}, np.ones((2, 3, 8, 3), np.float32), "second or the last axis"),
    "no image": ({}, np.ones((4, 8)), "four axes"),
}


@pytest.mark.parametrize(("said", "images", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_converted_is_refused(said, images, message):
    with pytest.raises(InvalidDataset, match=message):
        conform(Cutouts(images, {}, **SAID | said), SPEC)


def test_model_in_another_unit_takes_no_other():
    spec = ImageSpec(size=8, bands="gri", pixel_scale=0.2, unit="count")
    with pytest.raises(InvalidDataset, match="expected pixels in count, as the model was trained, got nanomaggy"):
        conform(Cutouts(IMAGES, {}, **SAID), spec)


def test_two_columns_of_one_meaning_are_refused():
    columns = {"E_BV": np.zeros(4), "ebv_sfd": np.zeros(4)}
    with pytest.raises(InvalidDataset, match="E_BV, ebv_sfd may be ebv"):
        conform(Cutouts(IMAGES, columns, **SAID), SPEC)


def test_magnitude_in_z_is_no_redshift():
    columns = {"g": np.full(4, 19.0), "r": np.full(4, 18.0), "z": np.full(4, 17.0)}
    spec = ImageSpec(size=8, bands="grz", pixel_scale=0.2)
    cutouts, _ = conform(Cutouts(IMAGES, columns, **SAID | {"bands": ("g", "r", "z")}), spec)
    assert "z_spec" not in cutouts.columns


def test_layout_of_hayat_2021(tmp_path):
    with h5py.File(tmp_path / "hayat.h5", "w") as file:
        file["images"] = np.moveaxis(np.pad(IMAGES, ((0, 0), (5, 5), (5, 5), (0, 0))), -1, 1)
        file["e_bv"], file["specz_redshift"], file["ObjID"] = np.full(4, 0.1), np.full(4, 0.2), np.arange(4)
    with open_cutouts(tmp_path / "hayat.h5") as opened:
        cutouts, assumptions = conform(opened, SPEC)
        np.testing.assert_array_equal(cutouts.images[:], IMAGES)
        np.testing.assert_array_equal(cutouts.images[1:3], IMAGES[1:3])
    assert {"ebv", "z_spec", "object_id"} == cutouts.columns.keys()
    assert assumptions[:3] == (
        "the column ObjID is object_id",
        "the column e_bv is ebv",
        "the column specz_redshift is z_spec",
    )


def test_first_of_several_names_is_the_object_id():
    columns = {"NAME": np.array(["a"] * 4), "OBJID": np.arange(4)}
    conformed, assumptions = conform(Cutouts(IMAGES, columns), SPEC)
    assert conformed.columns["object_id"].tolist() == [0, 1, 2, 3]
    assert assumptions[0] == "the column OBJID is object_id"
