"""Files in FITS and HDF5, which child processes of the service read."""

import asyncio
import io
import os
import sys
import time

import h5py
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from photoz.errors import InvalidDataset, InvalidInput, MalformedInput, TooLarge, UnsupportedType
from photoz.io import formats
from photoz.protocol.contract import READING_HEADERS
from service import files
from service.errors import RequestError
from service.jobs import JobQueue
from tests.service.helpers import check_error
from tests.service.requests import make_request

LONG = 600.0  # seconds, which no job takes here
RA, DEC, SHAPE = 150.1, -2.2, (420, 500)
NOT_FOUND = "no cutout of 1 position: no object of"


def end(*job):
    os._exit(3)


def wait(*job):
    time.sleep(LONG)


def compute(content, spec, allowed, seconds):
    files.limit_resources(allowed, 0.1)
    while True:
        pass


def fits_bytes(*hdus):
    fits.HDUList(list(hdus)).writeto(buffer := io.BytesIO())
    return buffer.getvalue()


def cube(images, **header):
    return fits_bytes(fits.PrimaryHDU(np.moveaxis(images, -1, 1), fits.Header(header)))


def hdf5_bytes(attributes=(), **columns):
    with h5py.File(buffer := io.BytesIO(), "w") as file:
        file.attrs.update(attributes)
        for name, values in columns.items():
            file[name] = values
    return buffer.getvalue()


@pytest.fixture
def read(monkeypatch, card):
    monkeypatch.setattr(files, "TIMEOUT", 600)
    return lambda content: asyncio.run(files.FileReader(card.image).read(make_request(content)))


def test_cutouts_are_converted_to_the_layout_of_the_model(client, post_npz, images, card):
    spoilt, first = images.copy(), np.moveaxis(images, -1, 1)
    spoilt[2, 5, 6, 1] = np.nan
    columns = {"object_id": np.array([*"ébcdef"]), "z_spec": np.linspace(0, 0.2, 6), "ra": np.arange(6.0)}
    others = {"other": np.zeros(6), "dec": np.zeros(1)}
    text = columns | {"object_id": columns["object_id"].astype(object), "images": np.moveaxis(spoilt, -1, 1)}
    table = fits.table_to_hdu(Table({"image": first[:, ::-1], "z_spec": columns["z_spec"], "E_BV": np.ones(6)}))
    table.header["BANDS"] = "".join(reversed(card.image.bands))
    of_table = {"images": images, "z_spec": columns["z_spec"], "ebv": np.ones(6)}
    for answer, expected in (
        (post_npz("/cutouts", {"images": spoilt.astype(">f8"), **columns, **others}), {"images": spoilt} | columns),
        (client.post("/cutouts", content=hdf5_bytes(**text)), {"images": spoilt} | columns),
        (client.post("/cutouts", content=fits_bytes(fits.PrimaryHDU(), table)), of_table),
        (post_npz("/cutouts", {"images": images[0]}), {"images": images[:1]}),
    ):
        assert answer.headers["content-type"] == formats.NPZ.media_type
        with np.load(io.BytesIO(answer.content)) as found:
            assert set(found) == set(expected)
            for name, values in expected.items():
                np.testing.assert_array_equal(found[name], values, name, strict=name == "images")
    expected = post_npz("/predict_file", {"images": images}).json()
    nanojansky = cube(images * 3631.0, BANDS="".join(card.image.bands), BUNIT="nJy")
    predicted = client.post("/predict_file", content=nanojansky, headers={"content-type": formats.FITS.media_type})
    np.testing.assert_allclose(predicted.json()["z_mean"], expected["z_mean"], atol=1e-4)
    assert predicted.headers[READING_HEADERS["used"]] == "pixels are multiplied by 0.000275406, for the unit nJy"
    assert predicted.headers[READING_HEADERS["assumed"]] == f"pixels are {card.image.pixel_scale:g} arcsec wide"
    hostile = hdf5_bytes(
        {"bands": [*card.image.bands, "x\x1b[31m\r\nSet-Cookie: a=1"]}, images=spoilt[..., [*range(5), 0]]
    )
    answer = client.post("/cutouts", content=hostile)
    assert answer.headers[READING_HEADERS["left_out"]] == "the bands x\\x1b[31m\\r\\nSet-Cookie: a=1"
    labelled = {"images": images, "z_spec": np.linspace(0.05, 0.3, len(images))}
    scores = post_npz("/evaluate", labelled).json()
    assert client.post("/evaluate", content=hdf5_bytes(**labelled)).json() == scores
    check_error(client.post("/cutouts?ebv=1", content=b""), 422, "expected no options, got ?ebv")
    check_error(client.post("/cutouts", content=b"nothing"), 400, "a .npy, .npz, FITS or HDF5 file, got 7 bytes")


def test_files_that_do_not_fit_are_refused(monkeypatch, card, images):
    monkeypatch.setattr(files, "limit_resources", lambda *limits: None)  # it is this process that reads

    def check(content, words, error=(InvalidDataset, InvalidInput)):
        with pytest.raises(error, match=words):
            files.parse_file(content, card.image, 10**9, 60)

    check(cube(images, BUNIT="erg"), "pixels of HDU 0 are in erg")
    for content, name in ((cube(images), "FITS"), (hdf5_bytes(images=images), "HDF5")):
        for n in (100, len(content) // 2, len(content) - 3000):
            check(content[:n], f"the {name} file")
    check(hdf5_bytes(images=h5py.ExternalLink("/etc/hostname", "images")), "is a link, perhaps to other files")
    references = np.full(images.shape, h5py.Reference(), h5py.ref_dtype)
    check(hdf5_bytes(images=references), "expected images as numbers or text, got dtype object")
    monkeypatch.setitem(sys.modules, "astropy", None)
    check(cube(images), "FITS files need astropy", UnsupportedType)


def hostile_files(images):
    whole, shape = cube(images), images.shape[1:]
    with h5py.File(packed := io.BytesIO(), "w") as file:
        file.create_dataset("images", (20_000, *shape), "f4", chunks=(1000, *shape), compression="gzip")
    return {  # without limits astropy would take all memory for the first, and seconds for the second
        "axes": whole.replace(b"NAXIS   =                    4", b"NAXIS   =  9223372036854775807"),
        "long header": whole[:240] + b"COMMENT x".ljust(80) * 200_000,
        "length": whole.replace(b"NAXIS4  =                    6", b"NAXIS4  =           9999999999"),
        "packed": packed.getvalue(),
    }


@pytest.mark.parametrize("name", ["axes", "long header", "length", "packed"])
def test_hostile_files_are_refused_by_a_child(read, images, name):
    words = "^the FITS file |^reading the file takes more than 16,777,216 bytes: send it in parts$|its reader failed"
    with pytest.raises((InvalidDataset, MalformedInput, TooLarge), match=words):
        read(hostile_files(images)[name])


@pytest.mark.parametrize("keyword", ["NAXIS", "ZNAXIS"])
@pytest.mark.parametrize("value", ["1000", "+1000000000"])
def test_too_many_axes_are_refused_before_a_child_starts(monkeypatch, read, images, keyword, value):
    def refuse_to_start(*arguments):
        raise AssertionError("a child is started")

    monkeypatch.setattr(JobQueue, "run", refuse_to_start)
    header = f"{'XTENSION':8}= 'IMAGE   '".ljust(80) + f"{keyword:8}= {value} / axes".ljust(80)
    with pytest.raises(MalformedInput, match=rf"^the FITS file has {keyword} = \d+: expected at most 999$"):
        read(cube(images) + header.encode().ljust(2880))


def test_lack_of_memory_is_said_and_plugins_of_hdf5_are_not_loaded(monkeypatch, card, images):
    monkeypatch.setattr(files, "limit_resources", lambda *limits: None)

    def fail(*arguments, **options):
        raise MemoryError

    content = hdf5_bytes(images=images)
    h5py.h5pl.append(b"/plugins")
    with monkeypatch.context() as patched:
        patched.setattr("astropy.io.fits.open", fail)
        with pytest.raises(TooLarge, match="^reading the file takes more than 9 bytes: send it in parts$"):
            files.parse_file(cube(images), card.image, 9, 60)
    files.parse_file(content, card.image, 9, 60)
    assert h5py.h5pl.size() == 0


def test_reader_that_dies_or_takes_too_long(monkeypatch, read, images):
    monkeypatch.setattr(files, "parse_file", compute)
    with pytest.raises(MalformedInput, match="its reader failed, or took too long"):
        read(cube(images))
    monkeypatch.setattr(files, "parse_file", wait)
    monkeypatch.setattr(files, "TIMEOUT", 0.1)
    with pytest.raises(RequestError, match=r"this took longer than 0\.1 s"):
        read(cube(images))
