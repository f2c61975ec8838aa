"""Tables of estimates in all file formats, each read by another library."""

import io
import json
from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits, votable
from astropy.io.votable.ucd import check_ucd
from astropy.table import Table
from pyarrow import parquet

from photoz import estimates, pdf
from photoz.errors import InvalidPdfs, UnsupportedType
from photoz.flags import Flag
from photoz.grid import SDSS_GRID, RedshiftGrid
from photoz.io import tables
from photoz.io.formats import FITS, FORMATS, written_format
from photoz.io.qp_ensemble import to_qp
from photoz.io.writer import open_table, write_table

MODEL = "photoz 1, é"
NAMES = np.array(["1237648720693755918", "é€ 😀x", 'b,"c"', "<d>&", "\x01", ""])
QUANTILES = (0.05, 0.5, 0.975)


def make_estimates(dtype=np.float32):
    """Estimates with PDFs of two peaks, as they arrive from the service, and one unknown score."""
    n = len(NAMES)
    rng = np.random.default_rng(3)
    z, mean = SDSS_GRID.centres, rng.uniform(0.02, 0.38, (n, 2, 1))
    peaks = np.exp(-0.5 * ((z - mean) / rng.uniform(0.005, 0.05, (n, 2, 1))) ** 2)
    pdfs = pdf.as_pdfs(peaks.sum(axis=1), SDSS_GRID)
    score = np.where(np.arange(n) == 1, np.nan, rng.random(n))
    rows = estimates.from_pdfs(pdfs, SDSS_GRID, object_id=NAMES)
    flags = rows.flags | np.where(score > 0.5, Flag.OUT_OF_DISTRIBUTION, 0)
    return replace(rows, ood_score=score, flags=flags.astype(np.int32), pdf=pdfs.astype(dtype))


@pytest.fixture(params=["pdf", "quantiles"])
def table(request):
    quantiles = QUANTILES if request.param == "quantiles" else ()
    return tables.result_table(make_estimates(), MODEL, SDSS_GRID, quantiles)


def check_columns(columns, table, names=NAMES):
    """Compare the columns that were read, by name, with those that were written: values, shapes and number types."""
    assert list(columns) == list(table.values)
    assert list(columns["object_id"]) == list(names)
    for name, values in table.values.items():
        if name != "object_id":
            assert columns[name].dtype.newbyteorder("=") == values.dtype
            np.testing.assert_array_equal(columns[name], values)


def test_quantiles_replace_the_pdfs():
    rows = make_estimates(dtype=np.float64)
    table = tables.result_table(rows, MODEL, SDSS_GRID, (0.05, 0.5, 0.975, 0.001))
    assert list(table.values) == [*estimates.COLUMNS, "z_q05", "z_q50", "z_q97_5", "z_q00_1"]
    np.testing.assert_allclose(table.values["z_q50"], rows.z_median, rtol=0, atol=1e-12)
    for q in (0.05, 0.975):
        probability = pdf.cdf_at(rows.pdf, SDSS_GRID, table.values[tables.quantile_name(q)])
        np.testing.assert_allclose(probability, q, rtol=0, atol=1e-12)
    assert tables.column_info("z_q97_5")[0] == "redshift below which 97.5 % of the probability lies"


def test_unusable_quantiles_pdfs_and_names_are_refused(tmp_path):
    rows = make_estimates()
    with pytest.raises(ValueError, match="expected quantiles between 0 and 1, got 5"):
        tables.result_table(rows, grid=SDSS_GRID, quantiles=(0.5, 5))
    with pytest.raises(InvalidPdfs, match=r"grid of the PDFs is not known: pass grid=client.model\(\).grid"):
        tables.result_table(rows, quantiles=(0.5,))
    with pytest.raises(InvalidPdfs, match=r"expected pdfs of shape \(n, 90\), got \(6, 180\)"):
        write_table(tables.result_table(rows, grid=RedshiftGrid(0.4, 90)), tmp_path / "z.qp.hdf5")
    with pytest.raises(InvalidPdfs, match="there are no PDFs: predict with pdf=True"):
        write_table(tables.result_table(rows, grid=SDSS_GRID, quantiles=QUANTILES), tmp_path / "z.qp.hdf5")
    for name in ("z.xls", "z", ".fits", "z.qp.h5", "z.qp.fits"):
        with pytest.raises(UnsupportedType, match=r"should end in \.csv, .*, \.qp\.hdf5"):
            write_table(tables.result_table(rows), tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    assert written_format(tmp_path / "z.v1.FITS") is FITS


def test_ucds_are_in_the_vocabulary_of_the_ivoa(table):
    ucds = [tables.column_info(name)[1] for name in table.values]
    assert all(check_ucd(ucd, check_controlled_vocabulary=True) for ucd in ucds)
    assert all(flag.name in tables.column_info("flags")[0] for flag in Flag)


def test_astropy_reads_fits(table, tmp_path):
    write_table(table, tmp_path / "z.fits")
    rows = Table.read(tmp_path / "z.fits")
    escaped = ["1237648720693755918", r"\xe9\u20ac \U0001f600x", 'b,"c"', "<d>&", "\x01", ""]
    rows["object_id"] = rows["object_id"].filled("").astype(str)
    check_columns({name: np.asarray(rows[name]) for name in rows.colnames}, table, escaped)
    header = fits.getheader(tmp_path / "z.fits", 1)
    assert (header["EXTNAME"], header["MODEL"]) == ("PHOTOZ", r"photoz 1, \xe9")
    for number, name in enumerate(table.values, start=1):
        assert (header[f"TCOMM{number}"], header[f"TUCD{number}"]) == tables.column_info(name)[:2]
    with fits.open(tmp_path / "z.fits") as file:
        file.verify("exception")


def test_astropy_reads_votable(table, tmp_path):
    path = tmp_path / "z.vot"
    write_table(table, path)
    assert votable.validate(str(path), io.StringIO())
    rows = Table.read(path)
    check_columns({name: np.asarray(rows[name]) for name in rows.colnames}, table)
    fields = votable.parse(str(path), verify="exception").get_first_table()
    assert {param.name: param.value for param in fields.params} == {"model": MODEL}
    for field in fields.fields:
        assert (" ".join(field.description.split()), field.ucd) == tables.column_info(field.name)[:2]
        assert field.unit is None


def test_h5py_reads_hdf5(table, tmp_path):
    for suffix in ("hdf5", "h5"):
        write_table(table, tmp_path / f"z.{suffix}")
        with h5py.File(tmp_path / f"z.{suffix}") as file:
            assert file.attrs["model"] == MODEL
            datasets = {name: file[name] for name in table.values}
            assert set(file) == set(datasets)
            check_columns(datasets | {"object_id": file["object_id"].asstr()[()]}, table)
            for name, item in datasets.items():
                assert (item.attrs["description"], item.attrs["ucd"]) == tables.column_info(name)[:2]


def test_pandas_and_pyarrow_read_parquet(table, tmp_path):
    path = tmp_path / "z.parquet"
    write_table(table, path)
    frame = pd.read_parquet(path)
    check_columns({name: np.stack(frame[name].to_numpy()) for name in frame}, table)
    schema = parquet.read_schema(path)
    assert schema.metadata[b"model"].decode() == MODEL
    for name in table.values:
        metadata = schema.field(name).metadata
        assert (metadata[b"description"].decode(), metadata[b"ucd"].decode()) == tables.column_info(name)[:2]


def test_json_reads_each_line(table, tmp_path):
    write_table(table, tmp_path / "z.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "z.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["ood_score"] is None for row in rows] == np.isnan(table.values["ood_score"]).tolist()
    columns = {name: np.array([row[name] for row in rows], values.dtype) for name, values in table.values.items()}
    check_columns(columns, table)
    assert list(rows[0]) == list(table.values)


@pytest.mark.parametrize("suffix", [format.suffixes[0] for format in FORMATS if format.in_parts])
def test_parts_make_the_same_table(suffix, tmp_path):
    rows = dict(make_estimates().columns())
    whole, parts = tmp_path / f"whole{suffix}", tmp_path / f"parts{suffix}"
    write_table(tables.ResultTable(rows), whole)
    with open_table(parts) as write:
        for part in (slice(0, 3), slice(3, 5), slice(5, 6)):
            write(tables.ResultTable({name: values[part] for name, values in rows.items()}))
    if suffix == ".parquet":
        assert parquet.ParquetFile(parts).num_row_groups == 3
        pd.testing.assert_frame_equal(pd.read_parquet(parts), pd.read_parquet(whole))
    else:
        assert parts.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_qp_reads_the_pdfs(dtype, tmp_path):
    qp = pytest.importorskip("qp", reason="qp-prob is not installed")
    rows = make_estimates(dtype=dtype)
    table = tables.result_table(rows, MODEL, SDSS_GRID)
    write_table(table, tmp_path / "z.qp.hdf5")
    with h5py.File(tmp_path / "z.qp.hdf5") as file:
        assert file.attrs["model"] == MODEL
    ensemble = qp.read(str(tmp_path / "z.qp.hdf5"))
    assert ensemble.metadata["pdf_name"].astype(str).tolist() == ["hist"]
    np.testing.assert_array_equal(ensemble.metadata["bins"].ravel(), SDSS_GRID.edges)
    np.testing.assert_array_equal(ensemble.objdata["pdfs"], to_qp(table).objdata["pdfs"])
    check_columns({name: ensemble.ancil[name] for name in table.values if name != "pdf"}, without_pdf(table))


def without_pdf(table):
    return tables.ResultTable({name: values for name, values in table.values.items() if name != "pdf"})


def test_qp_computes_the_same_estimates():
    pytest.importorskip("qp", reason="qp-prob is not installed")
    rows = make_estimates()
    ensemble = to_qp(tables.result_table(rows, MODEL, SDSS_GRID))
    close = {"rtol": 0, "atol": 1e-6}
    np.testing.assert_allclose(ensemble.pdf(SDSS_GRID.centres).sum(axis=1) * SDSS_GRID.width, 1.0, **close)
    np.testing.assert_allclose(ensemble.pdf(SDSS_GRID.centres) * SDSS_GRID.width, rows.pdf, **close)
    np.testing.assert_allclose(ensemble.mean().ravel(), rows.z_mean, **close)
    np.testing.assert_allclose(ensemble.median().ravel(), rows.z_median, **close)
    np.testing.assert_allclose(ensemble.mode(SDSS_GRID.centres).ravel(), rows.z_mode, **close)
    np.testing.assert_allclose(
        ensemble.ppf(0.16).ravel(), pdf.quantile(rows.pdf.astype(float), SDSS_GRID, 0.16), **close
    )
    # qp puts the mass of a bin at its centre; our density is flat inside of a bin, which adds width^2 / 12.
    variance = ensemble.std().ravel() ** 2 + SDSS_GRID.width**2 / 12
    np.testing.assert_allclose(np.sqrt(variance), rows.z_std, **close)


@pytest.mark.parametrize("suffix", [".fits", ".vot", ".json", ".hdf5", ".qp.hdf5"])
def test_a_file_is_replaced_only_by_a_whole_one(tmp_path, suffix):
    path = tmp_path / f"z{suffix}"
    path.write_bytes(b"old")
    broken = tables.ResultTable({"z_mean": np.array([object()])}, grid=SDSS_GRID)
    with pytest.raises(Exception):  # noqa: B017, PT011 - of the library that writes
        write_table(broken, path)
    assert path.read_bytes() == b"old"
    write_table(tables.result_table(make_estimates(), grid=SDSS_GRID), path)
    assert path.read_bytes() != b"old"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
