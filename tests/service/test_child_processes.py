"""What runs in child processes of the service: files in FITS and HDF5, and positions on the sky."""

import asyncio
import io
import os
import shlex
import shutil
import sys
import time

import h5py
import httpx
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from photoz.errors import InvalidDataset, InvalidInput, MalformedInput, TooLarge, UnsupportedType
from photoz.io import formats
from photoz.io.cutouts import Reading
from photoz.protocol.contract import READING_HEADERS
from service import files, predict, sky
from service.errors import RequestError
from service.jobs import JobQueue
from tests.service.helpers import check_error
from tests.service.requests import local_worker, make_request
from tests.survey.loopback_archive import draw, frame_bytes, frame_path, frame_wcs, running_archive
from tests.toys import GRIZ, galaxies

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


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Options for an archive with a galaxy at RA, DEC, brighter in each band."""
    pytest.importorskip("astroquery", reason="needs astroquery: pip install 'photoz[sky]'")
    wcs = frame_wcs(RA, DEC, 20.0, SHAPE)
    with running_archive() as archive:
        for number, band in enumerate("ugriz"):
            archive.files[frame_path(band, 100)] = frame_bytes(draw(wcs, SHAPE, [(RA, DEC, 10.0 * (number + 1))]), wcs)
        archive.catalogue = [(RA, DEC, 100, 0.1 * 3.793, 0.1 * 2.751)]
        cache = str(tmp_path_factory.mktemp("sky") / "a cache")
        yield ["--archive", f"{archive.url}/sas", "--catalogue", archive.url, "--cache", cache]


def test_a_position_is_cut_out(options, card):
    arrays, _ = sky.cut_out(RA, DEC, options, card.image)
    np.testing.assert_allclose(arrays["images"].sum(axis=(1, 2)), [[10, 20, 30, 40, 50]], rtol=0.005)
    np.testing.assert_allclose(arrays["ebv"], [0.1], rtol=1e-6)
    assert arrays["ra"].tolist() == [RA]
    with pytest.raises(RequestError, match=NOT_FOUND) as refused:
        sky.cut_out(10, 10, options, card.image)
    assert refused.value.status == 502


def assume(ra, dec, options, spec):
    return {"images": galaxies(spec, 1), "ra": np.array([ra])}, Reading(used=[f"{dec:g}, {options}"])


def test_a_child_looks_up_each_position(monkeypatch, small_bundle):
    monkeypatch.setattr(sky, "TIMEOUT", 600)
    with local_worker(bundle=small_bundle.path, sky="--cache 'a cache'") as post:
        monkeypatch.setattr(sky, "cut_out", assume)
        found = post(predict.sky, b'{"ra": 1.5, "dec": -2}')
        monkeypatch.setattr(sky, "cut_out", end)
        refused = post(predict.sky, b'{"ra": 1.5, "dec": -2}')
    check_error(refused, 502, "the process that asked the archive ended with 3")
    assert (found.status_code, found.headers[READING_HEADERS["used"]]) == (200, "-2, ['--cache', 'a cache']")
    with np.load(io.BytesIO(found.content)) as arrays:
        np.testing.assert_array_equal(arrays["images"], galaxies(GRIZ, 1))
        assert arrays["ra"].tolist() == [1.5]


def test_it_is_off_by_default_and_needs_packages(client, monkeypatch):
    check_error(client.post("/sky", json={"ra": RA, "dec": DEC}), 404, "its operator may allow that, with PHOTOZ_SKY")
    for ra in (400, "--help"):
        check_error(client.post("/sky", json={"ra": ra, "dec": DEC}), 422, "ra: input should be")
    assert client.get("/ui/options.json").json()["sky"] is False
    monkeypatch.setattr(sky, "PACKAGES", ("numpy", "nowhere"))
    with pytest.raises(InvalidInput, match=r"PHOTOZ_SKY needs nowhere: install photoz\[sky\]"):
        sky.check_packages()


@pytest.mark.acceptance
def test_a_position_on_the_page(options, start_service, bundle_path, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: make acceptance installs it")
    if not (chromium := shutil.which("chromium")):
        pytest.skip("needs the browser chromium: install chromium")
    variables = {"PHOTOZ_BUNDLE": bundle_path, "PHOTOZ_SKY": shlex.join(options)}
    with start_service(tmp_path, **variables) as running, playwright.sync_playwright() as started:
        refused = httpx.post(f"{running.url}/sky", json={"ra": 10, "dec": 10}, timeout=180.0)
        check_error(refused, 502, NOT_FOUND)
        page = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"]).new_page()
        page.goto(running.url)
        page.fill("#ra", str(RA))
        page.fill("#dec", str(DEC))
        page.get_by_role("button", name="Look it up").click()
        page.locator("#status", has_text="1 redshift of").wait_for(timeout=180_000)
        assert page.locator("#pictures canvas").count() == 6
