"""FITS files that astropy has written, in every layout that is read."""

import bz2
import gzip

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from photoz.errors import InvalidDataset
from photoz.images import ImageSpec
from photoz.io.layout import conform
from photoz.io.reader import open_cutouts

SPEC = ImageSpec(size=8, bands="gri", pixel_scale=0.2, unit="nanomaggy")
IMAGES = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
BANDS_FIRST = np.ascontiguousarray(np.moveaxis(IMAGES, -1, 1))


def header(**values):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [150.0, 2.0], [4.5, 4.5]
    wcs.wcs.cdelt = [-0.2 / 3600, 0.2 / 3600]
    made = wcs.to_header()
    made.update({"BUNIT": "nanomaggy", **values})
    return made


def as_cube(path):
    fits.PrimaryHDU(BANDS_FIRST, header(BANDS="gri")).writeto(path)


def as_table(path):
    table = Table({"IMAGE": BANDS_FIRST, "OBJID": np.arange(4), "E_BV": np.full(4, 0.1), "Z": np.full(4, 0.2)})
    hdu = fits.table_to_hdu(table)
    hdu.header.update({"TUNIT1": "nanomaggy", "BANDS": "g,r,i"})
    hdu.writeto(path)


def as_extensions(path):
    one_each = [fits.ImageHDU(pixels, header(BANDS="gri"), name=f"G{row}") for row, pixels in enumerate(BANDS_FIRST)]
    fits.HDUList([fits.PrimaryHDU(), *one_each]).writeto(path)


def as_packed_extensions(path):
    one_each = [
        fits.CompImageHDU(pixels, header(BANDS="gri"), name=f"G{row}", compression_type="GZIP_2", quantize_level=0)
        for row, pixels in enumerate(BANDS_FIRST)
    ]
    fits.HDUList([fits.PrimaryHDU(), *one_each]).writeto(path)


LAYOUTS = {
    "cube.fits": as_cube,
    "cube.fits.gz": as_cube,
    "cube.fits.bz2": as_cube,
    "table.fits": as_table,
    "extensions.fit": as_extensions,
    "packed.fits.fz": as_packed_extensions,
}


@pytest.fixture(params=LAYOUTS)
def path(request, tmp_path):
    LAYOUTS[request.param](tmp_path / request.param)
    return tmp_path / request.param


def test_images_of_each_layout(path):
    with open_cutouts(path) as opened:
        cutouts, _ = conform(opened, SPEC)
        assert cutouts.images.shape == IMAGES.shape
        np.testing.assert_array_equal(cutouts.images[:], IMAGES)
        np.testing.assert_array_equal(cutouts.images[1:3], IMAGES[1:3])
        np.testing.assert_array_equal(cutouts.read_images(np.array([3, 0])), IMAGES[[3, 0]])


def test_columns_of_a_table_by_their_usual_names(tmp_path):
    as_table(tmp_path / "table.fits")
    with open_cutouts(tmp_path / "table.fits") as opened:
        cutouts, assumptions = conform(opened, SPEC)
    assert cutouts.column("object_id").tolist() == [0, 1, 2, 3]
    assert cutouts.column("ebv").tolist() == [0.1] * 4
    assert cutouts.column("z_spec").dtype == np.float64
    assert assumptions[:3] == (
        "the column objid is object_id",
        "the column e_bv is ebv",
        "the column z is z_spec",
    )


def test_names_and_positions_of_extensions(tmp_path):
    as_extensions(tmp_path / "extensions.fits")
    with open_cutouts(tmp_path / "extensions.fits") as cutouts:
        assert cutouts.column("object_id").tolist() == ["G0", "G1", "G2", "G3"]
        np.testing.assert_allclose(cutouts.column("ra"), 150.0)
        np.testing.assert_allclose(cutouts.column("dec"), 2.0)
        assert cutouts.pixel_scale == pytest.approx(0.2)


def test_primary_header_describes_the_galaxy_of_all_bands(tmp_path):
    primary = fits.PrimaryHDU()
    primary.header.update({"OBJID": "mine", "EBV": 0.05, "REDSHIFT": 0.1})
    bands = [fits.ImageHDU(BANDS_FIRST[0][row], name=name) for row, name in enumerate("gri")]
    bands[0].header["REDSHIFT"] = 0.2  # the nearer one counts
    fits.HDUList([primary, *bands]).writeto(tmp_path / "galaxy.fits")
    with open_cutouts(tmp_path / "galaxy.fits") as cutouts:
        assert {name: values.tolist() for name, values in cutouts.columns.items()} == {
            "object_id": ["mine"],
            "ebv": [0.05],
            "z_spec": [0.2],
        }


@pytest.mark.parametrize("keyword", ["EXTNAME", "FILTER", "BAND"])
@pytest.mark.parametrize("names", ["gri", "GRI"])
def test_an_image_for_each_band_in_any_order(tmp_path, keyword, names):
    order = [2, 0, 1]
    images = [fits.ImageHDU(BANDS_FIRST[0, band], header(**{keyword: f"DES_{names[band]}"})) for band in order]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(tmp_path / "bands.fits")
    with open_cutouts(tmp_path / "bands.fits") as opened:
        cutouts, assumptions = conform(opened, SPEC)
        np.testing.assert_array_equal(cutouts.images[:], IMAGES[:1])
    assert assumptions == ("the bands g,r,i are taken from i,g,r",)


def test_a_folder_and_a_pattern(tmp_path):
    for row, pixels in enumerate(BANDS_FIRST):
        fits.PrimaryHDU(pixels, header(BANDS="gri")).writeto(tmp_path / f"galaxy-{row}.fits")
    for path in (tmp_path, tmp_path / "galaxy-*.fits"):
        with open_cutouts(path) as opened:
            cutouts, _ = conform(opened, SPEC)
            np.testing.assert_array_equal(cutouts.images[:], IMAGES)
            np.testing.assert_array_equal(cutouts.images[1:3], IMAGES[1:3])
            assert cutouts.images[2:2].shape == (0, 8, 8, 3)
            assert cutouts.column("object_id").tolist() == [f"galaxy-{row}" for row in range(4)]


def test_files_of_a_folder_have_one_layout(tmp_path):
    fits.PrimaryHDU(BANDS_FIRST[0], header(BANDS="gri")).writeto(tmp_path / "a.fits")
    fits.PrimaryHDU(BANDS_FIRST[0], header(BANDS="irg")).writeto(tmp_path / "b.fits")
    with pytest.raises(InvalidDataset, match=r"one layout.*a\.fits.*b\.fits"), open_cutouts(tmp_path):
        pass


BROKEN = {
    "nothing": (lambda path: path.write_bytes(b""), "not a readable FITS file|cannot be read"),
    "text": (lambda path: path.write_text("object_id,z\n1,2\n"), "not a readable FITS file"),
    "no images": (lambda path: Table({"z": [0.1]}).write(path), "holds no images"),
    "spectrum": (lambda path: fits.PrimaryHDU(np.ones(9)).writeto(path), "holds no images"),
    "two shapes": (
        lambda path: fits.HDUList(
            [fits.PrimaryHDU(), fits.ImageHDU(np.ones((3, 8, 8))), fits.ImageHDU(np.ones((3, 9, 9)))]
        ).writeto(path),
        r"of one shape.*\(3, 9, 9\)",
    ),
    "bands without names": (
        lambda path: fits.HDUList([fits.PrimaryHDU(np.ones((8, 8))), fits.ImageHDU(np.ones((8, 8)))]).writeto(path),
        "EXTNAME, FILTER or BAND",
    ),
    "a whole frame": (lambda path: fits.PrimaryHDU(np.zeros((9, 2048, 2048), np.float32)).writeto(path), "no set of"),
}


@pytest.mark.parametrize(("write", "message"), BROKEN.values(), ids=BROKEN)
def test_unusable_file_is_refused_with_its_name(tmp_path, write, message):
    path = tmp_path / "mine.fits"
    write(path)
    with pytest.raises(InvalidDataset, match=message) as refusal, open_cutouts(path):
        pass
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.95])
def test_truncated_file_is_refused(tmp_path, kept, path):
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InvalidDataset, match="mine|cube|table|extensions|packed"), open_cutouts(path) as cutouts:
        cutouts.images[:]


@pytest.mark.parametrize("suffix", ["gz", "bz2"])
@pytest.mark.parametrize(("write", "keyword"), [(as_cube, b"NAXIS4"), (as_table, b"NAXIS2")])
def test_packed_file_that_declares_too_much_is_refused(tmp_path, suffix, write, keyword):
    write(tmp_path / "cube.fits")
    content = (tmp_path / "cube.fits").read_bytes()
    content = content.replace(keyword + b"  =                    4", keyword + b"  =           4000000000")
    path = tmp_path / f"cube.fits.{suffix}"
    path.write_bytes({"gz": gzip, "bz2": bz2}[suffix].compress(content))
    with pytest.raises(InvalidDataset, match=r"unpacks into 3,\d\d\d,000,000,000 bytes"), open_cutouts(path):
        pass


def test_declared_size_beyond_the_file_is_refused(tmp_path):
    as_cube(tmp_path / "cube.fits")
    content = (tmp_path / "cube.fits").read_bytes()
    (tmp_path / "cube.fits").write_bytes(
        content.replace(b"NAXIS4  =                    4", b"NAXIS4  =           4000000000")
    )
    with pytest.raises(InvalidDataset, match=r"cube\.fits"), open_cutouts(tmp_path / "cube.fits") as cutouts:
        cutouts.images[:1]
