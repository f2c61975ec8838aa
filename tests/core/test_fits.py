"""FITS files that astropy has written, in every layout that is read."""

import bz2
import gzip
import re
from functools import partial

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from photoz.io.fits import MAX_CUTOUT_BYTES
from photoz.io.layout import conform
from photoz.io.reader import open_cutouts
from tests.core.cutout_files import BANDS_FIRST, IMAGES, SPEC, check_images, refusal


def header(**values):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [150.0, 2.0], [4.5, 4.5]
    wcs.wcs.cdelt = [-0.2 / 3600, 0.2 / 3600]
    cards = wcs.to_header()
    cards.update({"BUNIT": "nanomaggy", **values})
    return cards


def write(path, *hdus, primary=None):
    fits.HDUList([primary or fits.PrimaryHDU(), *hdus]).writeto(path)


def as_cube(path, pixels=BANDS_FIRST, bands="gri"):
    fits.PrimaryHDU(pixels, header(BANDS=bands)).writeto(path)


def as_table(path):
    columns = {"OBJID": np.arange(4), "E_BV": np.full(4, 0.1), "Z": np.full(4, 0.2), "TEXT": ["a", "b", "c", "d"]}
    hdu = fits.table_to_hdu(Table({"IMAGE": BANDS_FIRST, **columns}))
    hdu.header.update({"TUNIT1": "nanomaggy", "BANDS": "g, r,i"})
    write(path, hdu)


def as_extensions(path, make=fits.ImageHDU, options=None, bands="BANDS", **cards):
    described = header(**{bands: "gri"}, **cards)
    write(path, *(make(pixels, described, f"G{row}", **options or {}) for row, pixels in enumerate(BANDS_FIRST)))


PACKED = {"make": fits.CompImageHDU, "options": {"compression_type": "GZIP_2", "quantize_level": 0}, "bands": "FILTERS"}
LAYOUTS = dict.fromkeys(("cube.fits", "cube.fits.gz", "cube.fits.bz2"), as_cube)
LAYOUTS |= {"table.fits": as_table, "extensions.fit": as_extensions}
LAYOUTS["packed.fits.fz"] = partial(as_extensions, **PACKED)


@pytest.mark.parametrize("name", LAYOUTS)
def test_images_of_each_layout(tmp_path, name):
    path = tmp_path / name
    LAYOUTS[name](path)
    with open_cutouts(path) as opened:
        assert (opened.bands, opened.unit, opened.provenance) == (("g", "r", "i"), "nanomaggy", name)
        assert opened.pixel_scale == (None if name == "table.fits" else pytest.approx(0.2))
        cutouts, _ = conform(opened, SPEC)
        check_images(cutouts.images, IMAGES)
        np.testing.assert_array_equal(cutouts.read_images(np.array([3, 0])), IMAGES[[3, 0]])
    content = path.read_bytes()
    for kept in (0.2, 0.6, 0.95):
        path.write_bytes(content[: int(kept * len(content))])
        assert name in refusal(path)


def test_columns_of_a_table_by_their_usual_names_and_those_of_extensions(tmp_path):
    as_table(tmp_path / "table.fits")
    with open_cutouts(tmp_path / "table.fits") as opened:
        cutouts, reading = conform(opened, SPEC)
    columns = {name: values.tolist() for name, values in cutouts.columns.items()}
    assert columns == {"text": list("abcd"), "object_id": [0, 1, 2, 3], "ebv": [0.1] * 4, "z_spec": [0.2] * 4}
    assert cutouts.column("z_spec").dtype == np.dtype("=f8")
    names = {"objid": "object_id", "e_bv": "ebv", "z": "z_spec"}
    expected = [f"the column {name} is {column}" for name, column in names.items()]
    assert reading.used == [*expected, "pixels are in nanomaggy"]
    assert reading.assumed == ["pixels are 0.2 arcsec wide"]
    as_extensions(tmp_path / "extensions.fits", ORIGIN="mine", MAGZPT=25.0, BUNIT="adu", E_BV=0.3)
    with open_cutouts(tmp_path / "extensions.fits") as cutouts:
        columns = {name: values.tolist() for name, values in cutouts.columns.items()}
        assert columns.pop("ra") == pytest.approx([150.0] * 4, rel=1e-9)
        assert columns.pop("dec") == pytest.approx([2.0] * 4, rel=1e-9)
        assert columns == {"object_id": ["G0", "G1", "G2", "G3"], "ebv": [0.3] * 4}
        assert (cutouts.provenance, cutouts.zero_point) == ("mine", 25.0)


def test_an_image_for_each_band_in_any_order_with_the_primary_header_of_the_galaxy(tmp_path):
    for keyword, names in (("EXTNAME", "GRI"), ("FILTER", "gri"), ("BAND", "GRI")):
        images = [fits.ImageHDU(BANDS_FIRST[0, band], header(**{keyword: f"DES_{names[band]}"})) for band in (2, 0, 1)]
        write(tmp_path / f"{keyword}.fits", *images)
        with open_cutouts(tmp_path / f"{keyword}.fits") as opened:
            cutouts, reading = conform(opened, SPEC)
            np.testing.assert_array_equal(cutouts.images[:], IMAGES[:1])
            assert cutouts.columns.keys() == {"object_id", "ra", "dec"}
            assert cutouts.columns["object_id"].tolist() == [keyword]
        taken = "I,G,R" if keyword == "EXTNAME" else ",".join(f"DES_{names[band]}" for band in (2, 0, 1))
        assert reading.used[0] == f"the bands g,r,i are taken from {taken}"
    primary = fits.PrimaryHDU()
    primary.header.update({"OBJID": 224, "EBV": 0.05, "REDSHIFT": 0.1})
    bands = [fits.ImageHDU(BANDS_FIRST[0][row], name=name) for row, name in enumerate("gri")]
    bands[0].header["REDSHIFT"] = 0.2  # the nearer one counts
    write(tmp_path / "galaxy.fits", *bands, primary=primary)
    with open_cutouts(tmp_path / "galaxy.fits") as cutouts:
        columns = {name: values.tolist() for name, values in cutouts.columns.items()}
        assert columns == {"object_id": ["224"], "ebv": [0.05], "z_spec": [0.2]}
        assert (cutouts.zero_point, cutouts.pixel_scale, cutouts.unit) == (None, None, "")
        np.testing.assert_array_equal(cutouts.images[:], IMAGES[:1])


def test_files_in_other_orders_of_bands_keep_their_zero_points(tmp_path):
    powers = (1, 0, 2)  # by band
    for row, order in enumerate(((0, 1, 2), (2, 0, 1))):
        planes = [
            fits.ImageHDU(
                BANDS_FIRST[row, band] * np.float32(10.0 ** powers[band]),
                header(FILTER="gri"[band], BUNIT="adu", MAGZERO=22.5 + 2.5 * powers[band]),
            )
            for band in order
        ]
        write(tmp_path / f"galaxy-{row}.fits", *planes)
    with open_cutouts(tmp_path) as opened:
        cutouts, _ = conform(opened, SPEC)
        np.testing.assert_allclose(cutouts.images[:], IMAGES[:2], rtol=1e-5)


def test_numbered_keywords_name_the_bands_and_large_packed_files_are_refused(tmp_path, monkeypatch):
    assert MAX_CUTOUT_BYTES == 67_108_864
    packed = fits.CompImageHDU(BANDS_FIRST[0], header(BAND0="F606W", BAND1=" g", BAND2="z"))
    write(tmp_path / "packed.fits.fz", packed)
    for limit, name in ((768, "MAX_CUTOUT_BYTES"), (768, "MAX_UNPACKED_BYTES"), (767, "MAX_UNPACKED_BYTES")):
        monkeypatch.setattr(f"photoz.io.fits.{name}", limit)
        if limit == 768:
            with open_cutouts(tmp_path / "packed.fits.fz") as cutouts:
                assert cutouts.bands == ("F606W", "g", "z")
    assert "unpacks into 768 bytes, expected at most 767: unpack it first" in refusal(tmp_path / "packed.fits.fz")


def test_a_folder_and_a_pattern(tmp_path):
    for row, pixels in enumerate(BANDS_FIRST):
        as_cube(tmp_path / f"galaxy-{row}.fits", pixels)
    for name in (".hidden.fits", "notes.txt"):
        (tmp_path / name).touch()
    for path in (tmp_path, tmp_path / "galaxy-*.fits"):
        with open_cutouts(path) as opened:
            assert opened.provenance == f"4 files in {tmp_path.name}"
            cutouts, _ = conform(opened, SPEC)
            check_images(cutouts.images, IMAGES)
            assert cutouts.column("object_id").tolist() == [f"galaxy-{row}" for row in range(4)]
    (tmp_path / "galaxy-1.fits").unlink()
    as_cube(tmp_path / "galaxy-1.fits", BANDS_FIRST[0], "irz")
    layout = "images (3, 8, 8), bands {}, pixel scale 0.2"
    assert refusal(tmp_path) == (
        f"expected files of one layout, got {layout.format('g,r,i')} in {tmp_path}/galaxy-0.fits; "
        f"{layout.format('i,r,z')} in {tmp_path}/galaxy-1.fits"
    )


def images_of(*shapes, **cards):
    return lambda path: write(path, *(fits.ImageHDU(np.ones(shape), header(**cards)) for shape in shapes))


FRAME = np.zeros((17, 1024, 1024), np.float32)
BROKEN = {
    "text": (lambda path: path.write_text("object_id,z\n1,2\n"), "mine.fits is not a readable FITS file: "),
    "no images": (Table({"z": [0.1]}).write, "holds no images: expected an image of two axes or more"),
    "spectrum": (images_of(9), "holds no images"),
    "two columns": (
        Table({"a": BANDS_FIRST, "b": BANDS_FIRST}).write,
        "expected one column of images in .*, got a, b: choose it by --column$",
    ),
    "two shapes": (images_of((3, 8, 8), (3, 9, 9)), r"got HDU 1 \(3, 8, 8\), HDU 2 \(3, 9, 9\): choose them by --hdu$"),
    "two cubes": (images_of((2, 3, 8, 8), (2, 3, 8, 8)), "^expected one image of four axes, or images of one shape"),
    "five axes": (images_of((2, 2, 3, 8, 8)), "^expected one image of four axes"),
    "bands without names": (
        images_of((8, 8), (8, 8)),
        "^expected FILTER, BAND or the name of each image to give its band",
    ),
    "one band twice": (images_of((8, 8), (8, 8), FILTER="g"), ", got .* \\(g\\), .* \\(g\\)$"),
    "frame": (lambda path: as_cube(path, FRAME), r"^PRIMARY in .* has the shape \(17, 1024, 1024\), which is no set"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_unusable_file_is_refused_with_its_name(tmp_path, name):
    path, (spoil, message) = tmp_path / "mine.fits", BROKEN[name]
    spoil(path)
    refused = refusal(path)
    assert str(path) in refused
    assert re.search(message, refused)


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2"])
@pytest.mark.parametrize(("write", "keyword", "row"), [(as_cube, b"NAXIS4", 768), (as_table, b"NAXIS2", 793)])
def test_file_that_declares_too_much_is_refused(tmp_path, suffix, write, keyword, row):
    write(tmp_path / "cube.fits")
    content = (tmp_path / "cube.fits").read_bytes()
    content = content.replace(keyword + b"  =                    4", keyword + b"  =           4000000000")
    path = tmp_path / f"cube.fits{suffix}"
    path.write_bytes({"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}[suffix](content))
    size = f"{4_000_000_000 * row:,}"
    expected = f"{path} unpacks into {size} bytes, expected at most 2,147,483,648: unpack it first"
    message = refusal(path)
    assert message == expected if suffix else "cube.fits" in message
