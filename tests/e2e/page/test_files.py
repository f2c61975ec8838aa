"""Files that the page reads, and those that it saves."""

import xml.etree.ElementTree as ElementTree

import h5py
import httpx
import numpy as np
import pandas as pd
import pytest
import qp
from astropy.io import fits
from astropy.io.votable import parse_single_table
from astropy.table import Table
from PIL import Image

from tests.e2e.page.browser import MARKS, SAMPLE, cells, download, expect, open_file, open_sample, wait_for_redshifts

pytestmark = MARKS


def write_npy(path, sample):
    np.save(path, sample["images"])


def write_npz(path, sample):
    np.savez(path, **sample)


def write_packed(path, sample):
    np.savez_compressed(path, **sample)


def write_bands_first(path, sample):
    np.save(path, np.moveaxis(sample["images"], -1, 1))


def write_half(path, sample):
    np.savez(path, **sample | {"images": sample["images"].astype(np.float16)})


def write_hdf5(path, sample):
    with h5py.File(path, "w") as file:
        for name, values in sample.items():
            file[name] = values.astype(object) if values.dtype.kind == "U" else values


def write_fits(path, sample):
    cube = fits.PrimaryHDU(np.moveaxis(sample["images"], -1, 1))
    cube.header.update({"BANDS": "ugriz", "BUNIT": "nanomaggy"})
    cube.writeto(path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.npy", write_npy),
        ("a.npz", write_npz),
        ("packed.npz", write_packed),
        ("half.npz", write_half),
        ("a.h5", write_hdf5),
        ("a.fits", write_fits),
    ],
)
def test_a_file_of_each_format(page, service_url, sample, tmp_path, name, write):
    write(tmp_path / name, sample)
    open_file(page, tmp_path / name)
    wait_for_redshifts(page, 8)
    known = {"ebv": ""} if name in ("a.npy", "a.fits") else {}
    expected = httpx.post(f"{service_url}/predict_file", content=(tmp_path / name).read_bytes(), timeout=60.0).json()
    assert [float(z) for z in cells(page, "z_mean")] == pytest.approx(expected["z_mean"], abs=6e-5)
    names = [str(row) for row in range(8)] if known else sample["object_id"].tolist()
    assert cells(page, "object_id") == names
    assert page.locator("#table tbody canvas").count() == 8
    assert ("EBV_ASSUMED" in cells(page, "flags")[0]) == bool(known)


def test_a_dropped_file(page, sample, tmp_path):
    write_npz(tmp_path / "a.npz", sample)
    content = list((tmp_path / "a.npz").read_bytes())
    transfer = page.evaluate_handle(
        """bytes => {
            const all = new DataTransfer();
            all.items.add(new File([new Uint8Array(bytes)], "a.npz"));
            return all;
        }""",
        content,
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    wait_for_redshifts(page, 8)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npz", b"PK\x03\x04 is broken", "not a readable .npz file"),
        ("a.fits", b"SIMPLE  = broken", "is not a readable FITS file"),
        ("a.txt", b"hello", "expected a .npy, .npz, FITS or HDF5 file, got 5 bytes"),
    ],
)
def test_a_broken_file_is_explained(open_page, service_url, tmp_path, name, content, message):
    page = open_page(service_url, allowed=[r"status of 4\d\d"])
    (tmp_path / name).write_bytes(content)
    open_file(page, tmp_path / name)
    expect(page.locator("#error")).to_contain_text(message)


def test_a_file_of_another_shape_is_explained(open_page, service_url, sample, tmp_path):
    page = open_page(service_url, allowed=[r"status of 4\d\d"])
    write_bands_first(tmp_path / "a.npy", sample)
    open_file(page, tmp_path / "a.npy")
    expect(page.locator("#error")).to_contain_text("the bands come first here")


@pytest.mark.parametrize("format", ["CSV", "FITS", "VOTable", "HDF5", "qp"])
def test_each_download_is_what_the_service_answers(page, service_url, sample, tmp_path, format):
    open_sample(page)
    page.check("#with-pdfs")
    saved = download(page, page.get_by_role("button", name=format, exact=True).click)
    saved.save_as(path := tmp_path / saved.suggested_filename)
    expected = httpx.post(f"{service_url}/predict_file?pdf=true", content=SAMPLE.read_bytes()).json()
    match format:
        case "CSV":
            table = pd.read_csv(path)
            pdfs = table[[f"pdf_{bin}" for bin in range(180)]].to_numpy()
        case "FITS":
            table = Table.read(path)
            pdfs = table["pdf"]
        case "VOTable":
            table = parse_single_table(path).to_table()
            pdfs = np.stack(table["pdf"])
        case "HDF5":
            with h5py.File(path) as file:
                table = {name: file[name][()] for name in file}
            pdfs = table["pdf"]
        case "qp":
            ensemble = qp.read(str(path))
            table = ensemble.ancil
            pdfs = ensemble.objdata["pdfs"] * 0.4 / 180
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in table["object_id"]]
    assert names == sample["object_id"].tolist()
    np.testing.assert_allclose(np.asarray(table["z_mean"], float), expected["z_mean"], rtol=1e-6)
    np.testing.assert_allclose(np.asarray(pdfs, float), expected["pdf"], atol=1e-6)


def test_plots_are_saved(page, tmp_path):
    open_sample(page)
    download(page, page.locator("#plot-svg").click).save_as(tmp_path / "pdf.svg")
    assert ElementTree.parse(tmp_path / "pdf.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
    download(page, page.locator("#plot-png").click).save_as(tmp_path / "pdf.png")
    with Image.open(tmp_path / "pdf.png") as image:
        assert image.size == (1280, 600)
        assert len(image.convert("RGB").getcolors(2**24)) > 20
