"""What `photoz inspect` lists: each HDU, dataset or column, and what it is taken for."""

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from click.testing import CliRunner
from pyarrow import parquet

from photoz.errors import PhotozError
from photoz.io.contents import list_contents
from photoz.io.options import NO_OPTIONS, ReadOptions
from photoz_client.cli import photoz
from tests.core.cutout_files import BANDS_FIRST, IMAGES
from tests.core.test_options import as_fits, as_hdf5, as_zarr


def listed(path, **options):
    return sorted(list_contents(path, ReadOptions(**options)))


def test_each_hdu_is_listed_with_what_it_is_taken_for(tmp_path):
    as_fits(path := tmp_path / "mine.fits")
    assert list(list_contents(path, NO_OPTIONS)) == [
        "SCI (HDU 1): 3x8x8 float32, no unit: image",
        "MASK (HDU 2): 3x8x8 int32, no unit: mask: pixels are NaN where it is not 0",
        "MODEL (HDU 3): 3x8x8 float32, no unit: left out: MODEL",
        "CATALOG (HDU 4): table, 9 rows",
        "  flux: float32",
    ]
    assert "MODEL (HDU 3): 3x8x8 float32, no unit: image" in listed(path, hdu=("MODEL",))
    cards = {"FILTER": "g", "BUNIT": "nJy", "PIXSCALE": 0.2}
    plane = fits.ImageHDU(BANDS_FIRST[0, 0])
    plane.header.update(cards)
    fits.HDUList([fits.PrimaryHDU(), plane]).writeto(tmp_path / "band.fits")
    assert listed(tmp_path / "band.fits") == ["HDU 1: 8x8 float32, the unit nJy, 0.2 arcsec: image of band g"]
    columns = [
        fits.Column("flux", "192E", dim="(8,8,3)", unit="nJy", array=np.moveaxis(IMAGES, -1, 1).reshape(4, -1)),
        fits.Column("name", "3A", array=["a", "b", "c", "d"]),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "table.fits")
    assert listed(tmp_path / "table.fits")[:2] == ["  flux: 3x8x8 float32, nJy: images", "  name: text"]


@pytest.mark.parametrize(("name", "write"), [("mine.h5", as_hdf5), ("mine.zarr", as_zarr)])
def test_datasets_of_all_groups_are_listed(tmp_path, name, write):
    write(path := tmp_path / name)
    lines = listed(path)
    assert lines[:3] == [
        "deep/id: 4 int64: left out",
        "deep/images: 4x8x8x3 float32: left out",
        "images: 4x8x8x3 float32: images",
    ]
    assert {"deep/id: 4 int64: column", "models: 3x8x8x3 float32: left out"} <= set(
        listed(path, column=("deep/images",))
    )


def test_arrays_and_columns_are_listed(tmp_path):
    np.savez(tmp_path / "mine.npz", images=IMAGES, id=np.arange(4), bands="gri")
    assert listed(tmp_path / "mine.npz") == [
        "bands: text: column",
        "id: 4 int64: column",
        "images: 4x8x8x3 float32: images",
    ]
    parquet.write_table(pa.table({"id": [1, 2], "text": ["a", "b"]}), tmp_path / "mine.parquet")
    assert listed(tmp_path / "mine.parquet") == ["id: 2 of int64", "text: 2 of string"]  # no images: no roles
    np.save(tmp_path / "mine.npy", IMAGES)
    assert listed(tmp_path / "mine.npy") == ["images: 4x8x8x3 float32: images"]
    (tmp_path / "text.h5").write_text("z_spec")
    with pytest.raises(PhotozError, match=r"text.h5 cannot be read"):
        listed(tmp_path / "text.h5")


def test_inspect_lists_the_contents_of_a_file_that_is_refused(tmp_path):
    as_fits(path := tmp_path / "mine.fits")
    result = CliRunner().invoke(photoz, ["inspect", str(path)])
    assert "MODEL (HDU 3): 3x8x8 float32, no unit: left out: MODEL" in result.stdout
    assert result.exit_code == 1
    assert "mine.fits: expected 5 bands" in result.stderr
    np.savez(tmp_path / "mine.npz", images=np.ones((2, 64, 64, 5)))
    result = CliRunner().invoke(photoz, ["inspect", str(tmp_path / "mi*.npz")])
    assert result.stdout.startswith(f"{tmp_path / 'mine.npz'}:\n  images: 2x64x64x5 float64: images\n")
