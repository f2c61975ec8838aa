"""Downloads of the page: the same columns and values as the service's own, of all rows or those of the filter."""

import io
import re

import h5py
import httpx
import numpy as np
import pytest
from astropy.table import Table

from tests.e2e.test_page import SAMPLE, download, expect, open_sample
from tests.toys import GRIZ, galaxies

pytestmark = pytest.mark.acceptance


def read_columns(content, format):
    """Return the columns of a table in a file."""
    if format in ("hdf5", "qp"):
        with h5py.File(io.BytesIO(content)) as file:
            group = {**file["ancil"], "pdf": file["data/pdfs"]} if format == "qp" else file
            columns = {name: group[name][()] for name in group if name != "z_edges"}
            return {name: np.array(values, str) if name == "object_id" else values for name, values in columns.items()}
    table = Table.read(io.BytesIO(content), format="ascii.csv" if format == "csv" else format)
    return {name: np.asarray(table[name]) for name in table.colnames}


def test_each_download_is_what_the_service_answers(page, service_url):
    formats = httpx.get(f"{service_url}/ui/options.json", timeout=60.0).json()["formats"]
    open_sample(page)
    page.check("#with-pdfs")
    for name in ("csv", "fits", "votable", "hdf5", "qp"):
        media_type, suffix = formats[name]
        headers = {"accept": media_type, "content-type": "application/octet-stream"}
        url = f"{service_url}/predict_file?pdf=true"
        expected = httpx.post(url, content=SAMPLE, headers=headers, timeout=60.0).content
        saved, content = download(page, f"[data-format={name}]")
        assert saved == f"sample-redshifts{suffix}"
        found, expected = read_columns(content, name), read_columns(expected, name)
        assert found.keys() == expected.keys() | {"ebv"}, name  # which the service leaves out
        for column, values in expected.items():
            assert found[column].dtype.kind == values.dtype.kind, (name, column)
            close = np.testing.assert_allclose if values.dtype.kind == "f" else np.testing.assert_array_equal
            close(found[column], values, **({"rtol": 1e-6, "atol": 1e-9} if values.dtype.kind == "f" else {}))


def test_downloads_hold_all_rows_or_those_of_the_filter_and_every_column(open_page, service_url, sample, tmp_path):
    page = open_page(service_url, "status of 400")
    n = 60
    file = {name: np.concatenate([values] * 8)[:n] for name, values in sample.items() if name != "object_id"} | {
        "object_id": 10**18 + np.arange(n),
        "ra": np.linspace(10.0, 20.0, n).astype(">f8"),
        "dec": np.linspace(-5.0, 5.0, n),
        "mag_r": np.linspace(17, 19, n, dtype=np.float32),
        "run": np.arange(n, dtype=np.int16),
        "is_red": np.arange(n) % 3 == 0,
        "survey": np.array(["Infinity", "HSC, wide"] * (n // 2)),
        "wcs": np.zeros((n, 2)),  # no column
    }
    file["images"][5] = np.nan
    np.savez(tmp_path / "a.npz", **file)
    page.set_input_files("#file", tmp_path / "a.npz")
    expect(page.locator("#status")).to_contain_text("59 redshifts of a.npz. 1 not predicted")
    expect(page.locator("#download-rows option")).to_have_text(["all 59", "these 59"])
    page.fill("#filter-name", "00000000001")  # 1, and 10 to 19
    expect(page.locator("#download-rows option")).to_have_text(["all 59", "these 11"])
    saved = {}
    for choice, rows in (("all", np.delete(np.arange(n), 5)), ("these", np.array([1, *range(10, 20)]))):
        page.select_option("#download-rows", choice)
        for name in ("csv", "fits", "votable", "hdf5", "qp"):
            saved[name] = download(page, f"[data-format={name}]")[1]  # Chromium takes ten at once
            columns = read_columns(saved[name], name)
            assert columns["object_id"].astype(np.int64).tolist() == file["object_id"][rows].tolist(), name
            for column in ("ra", "dec", "z_spec", "ebv", "mag_r", "run"):
                np.testing.assert_allclose(columns[column], file[column][rows], rtol=1e-7)
            assert np.char.decode(columns["survey"].astype("S"), "ascii").tolist() == file["survey"][rows].tolist()
            assert (columns["is_red"].astype(str) == "True").tolist() == file["is_red"][rows].tolist()
            assert ("pdf" in columns) == (name == "qp")
            assert "wcs" not in columns
    table = Table.read(io.BytesIO(saved["fits"]), format="fits")
    dtypes = {"object_id": ">i8", "ra": ">f8", "mag_r": ">f4", "run": ">i2", "is_red": "|b1", "flags": ">i4"}
    assert {name: table[name].dtype.str for name in dtypes} == dtypes
    assert (str(table["ra"].unit), table.meta["INPUT"]) == ("deg", "a.npz")
    assert "left out: 1 of 60 cutouts that cannot be predicted" in str(table.meta)


@pytest.mark.parametrize(("max_rows", "writes"), [(800, True), (300, False)])
def test_twenty_thousand_rows_are_saved_if_the_service_writes_so_many(
    open_page, start_service, make_toy_bundle, tmp_path, max_rows, writes
):
    images = np.tile(galaxies(GRIZ, 10).astype(np.float16), (2000, 1, 1, 1))
    np.savez(tmp_path / "a.npz", images=images, object_id=10**18 + np.arange(20_000))
    with start_service(tmp_path, PHOTOZ_BUNDLE=make_toy_bundle().path, PHOTOZ_MAX_ROWS=max_rows) as running:
        page = open_page(running.url)
        page.set_input_files("#file", tmp_path / "a.npz")
        expect(page.locator("#status")).to_contain_text("20,000 redshifts of")
        page.check("#with-pdfs")
        if not writes:
            for name in ("fits", "votable", "hdf5", "qp"):
                button = page.locator(f"[data-format={name}]")
                expect(button).to_be_disabled()
                expect(button).to_have_attribute("title", re.compile("This is more than the service can write"))
            page.fill("#filter-name", "000000000000001")
            page.select_option("#download-rows", "these")
            expect(page.locator("[data-format=fits]")).to_be_enabled()
            page.select_option("#download-rows", "all")
        for name in ("fits", "votable", "hdf5", "qp", "csv") if writes else ("csv",):
            columns = read_columns(download(page, f"[data-format={name}]")[1], name)
            assert columns["object_id"].astype(np.int64).tolist() == (10**18 + np.arange(20_000)).tolist()
            assert (columns["z_mean"] > 0).all()
