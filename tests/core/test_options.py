"""Options that choose the images of a file, where it holds several or hides them under another name."""

import h5py
import numpy as np
import pyarrow as pa
import pytest
import zarr
from astropy.io import fits
from pyarrow import parquet

from photoz.errors import InvalidDataset
from photoz.io.layout import conform
from photoz.io.options import ReadOptions
from photoz.io.reader import open_cutouts
from tests.core.cutout_files import BANDS_FIRST, IMAGES, SPEC

MODELS = IMAGES + np.float32(7.0)


def read(path, **options):
    """Return the images of a file, its columns and what was left out."""
    with open_cutouts(path, given := ReadOptions(**options)) as opened:
        cutouts, reading = conform(opened, SPEC, given)
        return np.asarray(cutouts.images[:]), cutouts.columns, reading.left_out


def as_fits(path):
    """Write an image, a mask and a model of one galaxy, and a catalogue."""
    mask = np.zeros((3, 8, 8), np.int32)
    mask[:, 0, 0] = 1
    names = {"SCI": BANDS_FIRST[0], "MASK": mask, "MODEL": np.moveaxis(MODELS[0], -1, 0).copy()}
    planes = [fits.ImageHDU(pixels, name=name) for name, pixels in names.items()]
    catalogue = fits.BinTableHDU.from_columns([fits.Column("flux", "E", array=np.ones(9))], name="CATALOG")
    fits.HDUList([fits.PrimaryHDU(), *planes, catalogue]).writeto(path)


def test_hdus_are_chosen_by_name_or_number(tmp_path):
    as_fits(path := tmp_path / "mine.fits")
    others = ["MASK (HDU 2)", "MODEL (HDU 3)", "1 table: CATALOG"]
    masked = IMAGES[:1].copy()
    masked[:, 0, 0] = np.nan
    for hdu, expected, left_out in (
        (("SCI",), IMAGES[:1], others),
        (("1",), IMAGES[:1], others),
        (("model",), MODELS[:1], ["SCI (HDU 1)", "MASK (HDU 2)", "1 table: CATALOG"]),
        (("SCI", "2"), masked, ["MODEL (HDU 3)", "1 table: CATALOG"]),
    ):
        images, _, said = read(path, hdu=hdu)
        np.testing.assert_array_equal(images, expected)
        assert said == left_out
    assert len(read(path, hdu=("SCI", "MODEL"))[0]) == 2
    assert read(path, hdu=("MASK",), zero_point=22.5)[0].max() == 1  # as an image
    for hdu, message in (
        ("STARS", r"mine.fits has no HDU STARS; it has HDU 0, SCI \(HDU 1\), MASK \(HDU 2\), MODEL \(HDU 3\), CATALOG"),
        ("CATALOG", "mine.fits holds no images"),
    ):
        with pytest.raises(InvalidDataset, match=message):
            read(path, hdu=(hdu,))
    with pytest.raises(InvalidDataset, match="^--hdu is for FITS files, got .*: use --column"):
        read(tmp_path / "mine.npz", hdu=("1",))


def test_columns_of_a_table_are_chosen(tmp_path):
    flat = [
        fits.Column(name, "192E", dim="(8,8,3)", array=np.moveaxis(pixels, -1, 1).reshape(4, -1))
        for name, pixels in (("DEEP", IMAGES), ("WIDE", MODELS))
    ]
    bands = [
        fits.Column(f"psf_{band}", "64E", dim="(8,8)", array=IMAGES[..., n].reshape(4, -1))
        for n, band in enumerate("gri")
    ]
    path = tmp_path / "table.fits"
    table = fits.BinTableHDU.from_columns([*flat, *bands], name="CUTOUTS")
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones((8, 8))), table]).writeto(path)
    with pytest.raises(InvalidDataset, match="got DEEP, WIDE: choose it by --column"):
        read(path, hdu=("CUTOUTS",))
    images, _, left_out = read(path, column=("wide",))
    np.testing.assert_array_equal(images, MODELS)
    assert left_out == ["HDU 1", "the columns DEEP, psf_g, psf_r, psf_i of CUTOUTS"]
    np.testing.assert_array_equal(
        read(path, column=("psf_i", "psf_g", "psf_r"), bands=tuple("igr"), override=True)[0], IMAGES
    )
    with pytest.raises(InvalidDataset, match=r"table.fits has no column of images all; it has DEEP, WIDE, psf_g"):
        read(path, column=("all",))


def as_hdf5(path):
    with h5py.File(path, "w") as file:
        file["images"], file["models"], file["other"] = IMAGES, MODELS[:3], np.ones(7)
        group = file.create_group("deep")
        group["images"], group["id"] = MODELS, np.arange(4)


def as_zarr(path):
    root = zarr.open_group(str(path), mode="w")
    for name, pixels in (("images", IMAGES), ("models", MODELS[:3])):
        root.create_array(name, data=pixels)
    group = root.create_group("deep")
    group.create_array("images", data=MODELS)
    group.create_array("id", data=np.arange(4))


@pytest.mark.parametrize(("name", "write"), [("mine.h5", as_hdf5), ("mine.zarr", as_zarr)])
def test_datasets_are_chosen_also_in_groups(tmp_path, name, write):
    write(path := tmp_path / name)
    images, columns, left_out = read(path, column=("deep/images",))
    np.testing.assert_array_equal(images, MODELS)
    assert columns["object_id"].tolist() == [0, 1, 2, 3]
    assert "what is not in the group deep/" in left_out
    images, columns, left_out = read(path, column=("models",))
    np.testing.assert_array_equal(images, MODELS[:3])
    assert not columns
    assert {"images, of the shape (4, 8, 8, 3)", "the group deep"} <= set(left_out)
    for column, message in (("stars", "holds no 'stars': .* it holds .*models"), ("far/images", "far.*deep")):
        with pytest.raises(InvalidDataset, match=message):
            read(path, column=(column,))


def test_arrays_and_columns_are_chosen(tmp_path):
    np.savez(tmp_path / "mine.npz", images=IMAGES, models=MODELS, id=np.arange(4))
    lists = {name: pa.FixedShapeTensorArray.from_numpy_ndarray(array) for name, array in (("a", IMAGES), ("b", MODELS))}
    parquet.write_table(pa.table(lists), tmp_path / "mine.parquet")
    for name, column, left_out in (
        ("mine.npz", "models", "images, of the shape (4, 8, 8, 3)"),
        ("mine.parquet", "b", "the column a"),
    ):
        images, _, said = read(tmp_path / name, column=(column,))
        np.testing.assert_array_equal(images, MODELS)
        assert said == [left_out]
        with pytest.raises(InvalidDataset, match=f"{name} holds no 'c': .* it holds "):
            read(tmp_path / name, column=("c",))
    with pytest.raises(InvalidDataset, match=r"expected one --column of .*mine.npz, got a,b$"):
        read(tmp_path / "mine.npz", column=("a", "b"))
