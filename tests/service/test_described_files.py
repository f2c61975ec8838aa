"""FITS and HDF5 files in, and tables that astronomers' tools read out, over HTTP."""

import asyncio
import io
import os
import signal
import sys
import time
import warnings

import h5py
import numpy as np
import pytest
import qp
from astropy.io import fits
from astropy.io.votable import parse
from astropy.table import Table
from pyarrow import parquet

from photoz import estimates
from photoz.errors import MalformedInput, UnsupportedType
from photoz.estimates import COLUMNS
from photoz.io import formats
from photoz.protocol import contract
from service import files
from service.errors import RequestError
from service.formats.estimates import encode_estimates
from tests.service.helpers import check_error
from tests.service.requests import make_request

EBV = 0.03


def fits_bytes(*hdus):
    buffer = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(buffer)
    return buffer.getvalue()


def cube(images, **header):
    return fits_bytes(fits.PrimaryHDU(np.moveaxis(images, -1, 1), fits.Header(header)))


def hdf5_bytes(**columns):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, values in columns.items():
            file[name] = values
    return buffer.getvalue()


@pytest.fixture
def post_file(client):
    def post(path, content, **headers):
        return client.post(path, content=content, headers={"content-type": formats.FITS.media_type, **headers})

    return post


def test_each_layout_gives_the_estimates_of_a_npy_file(post_file, post_npy, card, images):
    expected = post_npy(f"/predict_file?ebv={EBV}", images).json()
    first, bands = np.moveaxis(images, -1, 1), "".join(card.image.bands)
    table = fits.table_to_hdu(Table({"image": first, "E_BV": np.full(len(images), EBV)}))
    table.header["BANDS"] = bands
    one_each = [fits.ImageHDU(pixels, fits.Header({"BANDS": bands, "OBJID": str(i)})) for i, pixels in enumerate(first)]
    packed = [fits.CompImageHDU(one.data, one.header, compression_type="GZIP_2", quantize_level=0) for one in one_each]
    layouts = {
        "cube": cube(images, BANDS=bands),
        "table": fits_bytes(fits.PrimaryHDU(), table),
        "one each": fits_bytes(fits.PrimaryHDU(), *one_each),
        "packed": fits_bytes(fits.PrimaryHDU(), *packed),
        "HDF5": hdf5_bytes(images=images),
        "HDF5, bands first": hdf5_bytes(images=first, e_bv=np.full(len(images), EBV)),
    }
    for layout, content in layouts.items():
        assert post_file(f"/predict_file?ebv={EBV}", content).json() == expected, layout
    mixed = [fits.ImageHDU(images[0, :, :, i], name=card.image.bands[i]) for i in (2, 0, 1, *range(3, len(bands)))]
    found = post_file(f"/predict_file?ebv={EBV}", fits_bytes(fits.PrimaryHDU(), *mixed))
    assert found.json()["z_mean"] == expected["z_mean"][:1]


def test_cutouts_are_converted_to_the_layout_of_the_model(post_file, post_npz, images):
    spoilt = images.copy()
    spoilt[2, 5, 6, 1] = np.nan
    columns = {
        "object_id": np.array(["é", "b", "c", "d", "e", "f"]),
        "z_spec": np.linspace(0, 0.2, 6),
        "ra": np.arange(6.0),
    }
    text = columns | {"object_id": columns["object_id"].astype(object)}
    answers = {
        "npz": post_npz("/cutouts", {"images": spoilt.astype(">f8"), **columns, "other": np.zeros(6)}),
        "HDF5": post_file("/cutouts", hdf5_bytes(images=np.moveaxis(spoilt, -1, 1), **text)),
    }
    for layout, answer in answers.items():
        assert answer.headers["content-type"] == formats.NPZ.media_type
        with np.load(io.BytesIO(answer.content)) as found:
            assert found["images"].dtype == np.float32, layout
            np.testing.assert_array_equal(found["images"], spoilt)
            assert set(found) == {"images", *columns}
            for name, values in columns.items():
                np.testing.assert_array_equal(found[name], values)
    check_error(post_file("/cutouts?ebv=1", hdf5_bytes(images=images)), 422, "expected no options, got ?ebv")
    check_error(post_file("/cutouts", b"nothing"), 400, "expected a .npy, .npz, FITS or HDF5 file, got 7 bytes")


def test_assumptions_are_said_in_a_header(post_file, post_npy, card, images):
    bands = "".join(card.image.bands)
    found = post_file("/predict_file", cube(images * 3631.0, BANDS=bands, BUNIT="nJy"))
    assert found.headers[contract.ASSUMED_HEADER] == (
        f"pixels are multiplied by 0.000275406, for the unit nJy; pixels are {card.image.pixel_scale:g} arcsec wide"
    )
    expected = post_npy("/predict_file", images).json()["z_mean"]
    np.testing.assert_allclose(found.json()["z_mean"], expected, atol=1e-4)
    assert contract.ASSUMED_HEADER not in post_npy("/predict_file", images).headers


def test_files_that_do_not_fit_are_refused(post_file, card, images):
    bands = "".join(card.image.bands)
    check_error(post_file("/predict_file", cube(images, BANDS=bands[:-1] + "x")), 422, "missing: ")
    check_error(post_file("/predict_file", cube(images, BUNIT="erg")), 422, "pixels are in erg")
    wide = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CDELT1": -1.0 / 3600, "CDELT2": 1.0 / 3600}
    check_error(post_file("/predict_file", cube(images, **wide)), 422, "arcsec, got 1: resample")
    check_error(post_file("/predict_file", cube(images[:, 1:, 1:])), 422, "expected cutouts of at least")
    for content in (cube(images), hdf5_bytes(images=images)):
        for n in (100, len(content) // 2, len(content) - 3000):
            check_error(post_file("/predict_file", content[:n]), 422, "file")


# Without limits astropy would take all memory for the first, and seconds for the second.
HOSTILE = {
    "axes": lambda content: content.replace(b"NAXIS   =                    4", b"NAXIS   =  9223372036854775807"),
    "long header": lambda content: content[:240] + b"COMMENT x".ljust(80) * 200_000,
    "length": lambda content: content.replace(b"NAXIS4  =                    6", b"NAXIS4  =           9999999999"),
}


@pytest.mark.parametrize("spoil", HOSTILE.values(), ids=HOSTILE)
def test_hostile_headers_are_refused(post_file, post_npy, images, spoil):
    content = spoil(cube(images))
    assert content != cube(images)
    assert post_file("/predict_file", content).status_code in (400, 413, 422)
    assert post_npy("/predict_file", images).status_code == 200


def test_file_that_unpacks_into_too_much_is_refused(post_file, card):
    zeros = h5py.h5s.create_simple((20_000, *card.image.shape))
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("images", zeros.shape, "f4", chunks=(1000, *card.image.shape), compression="gzip")
    check_error(post_file("/predict_file", buffer.getvalue()), 413, "reading the file takes more than", "bytes")


def test_hdf5_may_not_refer_to_other_files(post_file, images):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["images"] = h5py.ExternalLink("/etc/hostname", "images")
    check_error(post_file("/predict_file", buffer.getvalue()), 422, "is a link, perhaps to other files")


def die(*job):
    os.kill(os.getpid(), signal.SIGXCPU)


def wait(*job):
    time.sleep(60.0)


@pytest.mark.parametrize(
    ("function", "seconds", "error", "message"),
    [
        (die, 60.0, MalformedInput, "its reader failed, or took too long"),
        (wait, 0.1, RequestError, r"this took longer than 0\.1 s"),
    ],
)
def test_reader_that_does_not_end_well(monkeypatch, card, images, function, seconds, error, message):
    monkeypatch.setattr(files, "parse_file", function)
    monkeypatch.setattr(files, "TIMEOUT", seconds)
    with pytest.raises(error, match=message):
        asyncio.run(files.FileReader(card.image).read(make_request(cube(images))))


def test_missing_astropy_is_named(monkeypatch, card, images):
    monkeypatch.setattr(files, "limit_resources", lambda *limits: None)  # of this process
    monkeypatch.setitem(sys.modules, "astropy", None)
    with pytest.raises(UnsupportedType, match="FITS files need astropy"):
        files.parse_file(cube(images), card.image, 10**9, 60)


def test_labelled_table_is_evaluated(post_file, card, images):
    columns = {"images": np.moveaxis(images, -1, 1), "z_spec": np.linspace(0.05, 0.3, len(images))}
    table = fits_bytes(fits.PrimaryHDU(), fits.table_to_hdu(Table(columns)))
    answers = [post_file("/evaluate", content).json() for content in (table, hdf5_bytes(**columns))]
    assert answers[0] == answers[1]
    assert answers[0]["n_galaxies"] == len(images)


def read_fits_table(content):
    table = Table.read(io.BytesIO(content), character_as_bytes=False)
    with fits.open(io.BytesIO(content)) as hdus:
        assert hdus[1].header["TUCD2"] == "src.redshift.phot"
    return table.meta["MODEL"], {name: np.asarray(table[name]) for name in table.colnames}


def read_votable(content):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        file = parse(io.BytesIO(content), verify="exception")
    found = file.get_first_table()
    assert [field.ucd for field in found.fields][:2] == ["meta.id;meta.main", "src.redshift.phot"]
    return found.params[0].value, {field.name: np.asarray(found.array[field.name]) for field in found.fields}


def read_hdf5(content):
    with h5py.File(io.BytesIO(content)) as file:
        columns = {name: item.asstr()[()] if item.dtype.kind == "O" else item[()] for name, item in file.items()}
        return file.attrs["model"], columns


def read_parquet(content):
    table = parquet.read_table(io.BytesIO(content))
    columns = {name: np.array(table[name].to_pylist()) for name in table.column_names}
    return table.schema.metadata[b"model"].decode(), columns


READERS = {
    formats.FITS.media_type: read_fits_table,
    formats.VOTABLE.media_type: read_votable,
    formats.HDF5.media_type: read_hdf5,
    formats.PARQUET.media_type: read_parquet,
}


@pytest.mark.parametrize("pdf", ["true", "false"])
@pytest.mark.parametrize("media_type", READERS)
def test_tables_for_other_tools(post_npz, card, images, media_type, pdf):
    names = np.array([f"galaxy {i}" for i in range(len(images))])
    arrays = {"images": images, "object_id": names, "ebv": np.array(EBV)}
    expected = post_npz(f"/predict_file?pdf={pdf}", arrays).json()
    response = post_npz(f"/predict_file?pdf={pdf}", arrays, accept=media_type)
    assert response.headers["content-type"] == media_type
    model, columns = READERS[media_type](response.content)
    assert model == expected.pop("model") == f"{card.name} {card.version}"
    assert sorted(columns) == sorted([*COLUMNS, *(["pdf"] if pdf == "true" else [])])
    assert columns["object_id"].astype(str).tolist() == names.tolist()
    for name in set(columns) - {"object_id"}:
        np.testing.assert_array_equal(columns[name], expected[name])


def test_an_ensemble_of_qp_has_the_pdfs(post_npy, images, card, tmp_path):
    response = post_npy("/predict_file", images, accept=formats.QP.media_type)
    (tmp_path / "z.hdf5").write_bytes(response.content)
    ensemble, expected = qp.read(str(tmp_path / "z.hdf5")), post_npy("/predict_file?pdf=true", images).json()
    np.testing.assert_allclose(ensemble.objdata["pdfs"] * card.grid.width, expected["pdf"], atol=1e-9)
    np.testing.assert_array_equal(ensemble.ancil["z_mean"], expected["z_mean"])


def test_json_lines(post_npy, images):
    response = post_npy("/predict_file", images, accept=formats.JSON_LINES.media_type)
    assert len(response.content.splitlines()) == len(images)


def test_missing_package_of_a_format_is_named(card, monkeypatch):
    found = estimates.from_pdfs(np.full((2, card.grid.n_bins), 1 / card.grid.n_bins), card.grid)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(RequestError, match=r"cannot answer as .*parquet here: the service lacks pyarrow"):
        encode_estimates(found, formats.PARQUET.media_type, "model", card.grid)
