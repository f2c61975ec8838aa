"""Tables of estimates in all file formats, each read by another library; qp computes the same estimates."""

import csv
import io
import json
from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest
import qp
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
from photoz.io.provenance import Provenance
from photoz.io.qp_ensemble import to_qp
from photoz.io.writer import open_table, write_table

MODEL = "photoz 1, é"
NOTES = {"used": ("the column z is z_spec",), "assumed": ("pixels are in é\n", "x" * 100), "left_out": ("y",)}
SOURCE = Provenance(MODEL, "a\tb.h5", "2026-01-02T03:04:05Z", "photoz 1.0", NOTES)
RECORD = {"model": MODEL, "input": r"a\tb.h5", "date": SOURCE.date, "software": "photoz 1.0"}
RECORDED_NOTES = NOTES | {"assumed": (r"pixels are in é\n", "x" * 100)}
NAMES = np.array(["1237648720693755918", "é€ 😀x", 'b,"c"', "<d>&", "\x01", ""])


def make_estimates(dtype=np.float32, names=NAMES):
    """Estimates with PDFs of two peaks, as they arrive from the service, and one unknown score."""
    rng, n = np.random.default_rng(3), len(names)
    mean, width = rng.uniform(0.02, 0.38, (n, 2, 1)), rng.uniform(0.005, 0.05, (n, 2, 1))
    pdfs = pdf.as_pdfs(np.exp(-0.5 * ((SDSS_GRID.centres - mean) / width) ** 2).sum(axis=1), SDSS_GRID)
    score = np.where(np.arange(n) == 1, np.nan, rng.random(n))
    rows = estimates.from_pdfs(pdfs, SDSS_GRID, object_id=names)
    flags = rows.flags | np.where(score > 0.5, Flag.OUT_OF_DISTRIBUTION, 0)
    return replace(rows, ood_score=score, flags=flags.astype(np.int32), pdf=pdfs.astype(dtype))


@pytest.fixture(params=[(), (0.05, 0.5, 0.975)], ids=["pdf", "quantiles"])
def table(request):
    passed = {"ra": np.linspace(0, 1, 6), "z_spec": np.array([0.1, np.nan, 0.3, 0.4, np.nan, 0.6])}
    return tables.result_table(make_estimates(), SOURCE, SDSS_GRID, request.param, passed)


def check_columns(columns, table, names=NAMES):
    """Compare the columns that were read, by name, with those that were written: values, shapes and number types."""
    assert list(columns) == list(table.values)
    assert list(columns["object_id"]) == list(names)
    for name, values in table.values.items():
        if name != "object_id":
            assert columns[name].dtype.newbyteorder("=") == values.dtype
            np.testing.assert_array_equal(columns[name], values)


def check_edges(edges, table):
    """Check the edges that were read, None if there were none."""
    assert (edges is not None) == ("pdf" in table.values)
    if edges is not None:
        np.testing.assert_array_equal(np.asarray(edges), SDSS_GRID.edges)


def test_quantiles_replace_the_pdfs():
    rows = make_estimates(dtype=np.float64)
    table = tables.result_table(rows, SOURCE, SDSS_GRID, (0.05, 0.5, 0.975, 0.001), {"ra": np.ones(6)})
    names = ["object_id", "ra", *estimates.COLUMNS[1:], "z_q05", "z_q50", "z_q97_5", "z_q00_1"]
    assert (list(table.values), table.provenance, table.grid) == (names, SOURCE, SDSS_GRID)
    np.testing.assert_allclose(table.values["z_q50"], rows.z_median, rtol=0, atol=1e-12)
    for q, name in ((0.05, "z_q05"), (0.975, "z_q97_5")):
        np.testing.assert_allclose(pdf.cdf_at(rows.pdf, SDSS_GRID, table.values[name]), q, rtol=0, atol=1e-12)
    description = "redshift below which 97.5 % of the probability lies"
    assert tables.column_info("z_q97_5") == (description, "src.redshift.phot;stat.value", "")
    assert tables.column_info("other") == ("", "", "")
    assert tables.column_info("ra") == ("right ascension of the galaxy", "pos.eq.ra", "deg")
    assert tables.column_info("odds")[0] == "probability within 0.03 (1 + z_mode) of the mode"
    assert all(f"{flag.value} {flag.name}" in tables.column_info("flags")[0] for flag in Flag)
    ucds = [tables.column_info(name)[1] for name in (*table.values, *tables.COLUMN_INFO)]
    assert all(check_ucd(ucd, check_controlled_vocabulary=True) for ucd in ucds)


def test_unusable_quantiles_pdfs_and_names_are_refused(tmp_path):
    rows = make_estimates()
    assert [tables.parse_quantiles(text) for text in ("", "0.05,0.5")] == [(), (0.05, 0.5)]
    for text, message in (("a", "such as 0.05,0.5,0.95"), ("0", "between 0"), ("0.5,1", "between")):
        with pytest.raises(ValueError, match=f"^expected numbers {message}.*, got {text}$"):
            tables.parse_quantiles(text)
    for q in (0, 1, 5):
        with pytest.raises(ValueError, match=f"^expected quantiles between 0 and 1, got {q}$"):
            tables.result_table(rows, grid=SDSS_GRID, quantiles=(0.5, q))
    with pytest.raises(
        InvalidPdfs, match=r"^the redshift grid of the PDFs is not known: pass grid=client.model\(\).grid$"
    ):
        tables.result_table(rows, quantiles=(0.5,))
    with pytest.raises(InvalidPdfs, match=r"expected pdfs of shape \(n, 90\), got \(6, 180\)"):
        write_table(tables.result_table(rows, grid=RedshiftGrid(0.4, 90)), tmp_path / "z.qp.hdf5")
    with pytest.raises(InvalidPdfs, match="^there are no PDFs: predict with pdf=True$"):
        write_table(tables.result_table(rows, grid=SDSS_GRID, quantiles=(0.5,)), tmp_path / "z.qp.hdf5")
    for name in ("z.xls", "z", ".fits", "z.qp.h5", "z.qp.fits", "z.zarr"):
        with pytest.raises(UnsupportedType, match=r"should end in \.csv, .*, \.qp\.hdf5$"):
            write_table(tables.result_table(rows), tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    assert written_format(tmp_path / "z.v1.FITS") is FITS


def test_astropy_reads_fits_and_votable(table, tmp_path):
    path = tmp_path / "z.vot"
    for suffix in ("fits", "vot"):
        write_table(table, tmp_path / f"z.{suffix}")
    rows = Table.read(tmp_path / "z.fits")
    escaped = ["1237648720693755918", r"\xe9\u20ac \U0001f600x", 'b,"c"', "<d>&", "\x01", ""]
    rows["object_id"] = rows["object_id"].filled("").astype(str)
    check_columns({name: np.asarray(rows[name]) for name in rows.colnames}, table, escaped)
    header = fits.getheader(tmp_path / "z.fits", 1)
    keywords = ("EXTNAME", "MODEL", "INPUT", "DATE", "CREATOR")
    values = ["PHOTOZ", r"photoz 1, \xe9", r"a\tb.h5", "2026-01-02T03:04:05", "photoz 1.0"]
    assert [header[keyword] for keyword in keywords] == values
    notes = ["used: the column z is z_spec", r"assumed: pixels are in \xe9\n", f"assumed: {'x' * 100}", "left out: y"]
    assert "".join(header["HISTORY"]) == "".join(notes)
    for number, name in enumerate(table.values, start=1):
        assert (header[f"TCOMM{number}"], header[f"TUCD{number}"]) == tables.column_info(name)[:2]
    assert rows["ra"].unit == "deg"
    with fits.open(tmp_path / "z.fits") as file:
        file.verify("exception")
        check_edges(file["Z_EDGES"].data if len(file) > 2 else None, table)
    if "pdf" in table.values:
        assert [header[keyword] for keyword in ("ZMIN", "ZMAX", "NZBINS")] == [0.0, 0.4, 180]
    assert votable.validate(str(path), report := io.StringIO()), report.getvalue()
    rows = Table.read(path)
    assert rows["z_spec"].mask.tolist() == np.isnan(table.values["z_spec"]).tolist()
    check_columns({name: np.asarray(rows[name]) for name in rows.colnames}, table)
    fields = votable.parse(str(path), verify="exception").get_first_table()
    params = {param.name: param.value for param in fields.params}
    check_edges(params.pop("z_edges", None), table)
    assert params == RECORD
    notes = [(name, note) for name, texts in RECORDED_NOTES.items() for note in texts]
    assert [(info.name, info.value) for info in fields.infos] == notes
    infos = {
        field.name: (" ".join(field.description.split()), field.ucd, str(field.unit or "")) for field in fields.fields
    }
    assert infos == {name: tables.column_info(name) for name in table.values}


def test_hdf5_and_parquet_are_read(table, tmp_path):
    for suffix in ("hdf5", "h5", "parquet"):
        write_table(table, tmp_path / f"z.{suffix}")
    assert (tmp_path / "z.hdf5").read_bytes()[:8] == (tmp_path / "z.h5").read_bytes()[:8]
    with h5py.File(tmp_path / "z.h5") as file:
        attributes = {name: value if isinstance(value, str) else tuple(value) for name, value in file.attrs.items()}
        assert attributes == RECORD | RECORDED_NOTES
        check_edges(file.get("z_edges"), table)
        datasets = {name: file[name] for name in table.values}
        assert set(file) - {"z_edges"} == set(datasets)
        check_columns(datasets | {"object_id": file["object_id"].asstr()[()]}, table)
        for name, item in datasets.items():
            assert (item.attrs["description"], item.attrs["ucd"]) == tables.column_info(name)[:2]
    frame, schema = pd.read_parquet(tmp_path / "z.parquet"), parquet.read_schema(tmp_path / "z.parquet")
    check_columns({name: np.stack(frame[name].to_numpy()) for name in frame}, table)
    metadata = {name.decode(): text.decode() for name, text in schema.metadata.items()}
    check_edges(json.loads(metadata.pop("z_edges", "null")), table)
    assert metadata == RECORD | {name: json.dumps(texts) for name, texts in RECORDED_NOTES.items()}
    nulls = parquet.read_table(tmp_path / "z.parquet")["z_spec"].is_null().to_pylist()
    assert nulls == np.isnan(table.values["z_spec"]).tolist()
    for name in table.values:
        values = [schema.field(name).metadata[key].decode() for key in (b"description", b"ucd", b"unit")]
        assert tuple(values) == tables.column_info(name)


def test_csv_json_and_npz_are_read(table, tmp_path):
    for suffix in ("csv", "json", "jsonl", "npz"):
        write_table(table, tmp_path / f"z.{suffix}")
    lines = (tmp_path / "z.jsonl").read_text(encoding="utf-8").splitlines()
    rows, whole = [json.loads(line) for line in lines], json.loads((tmp_path / "z.json").read_bytes())
    expected = RECORD | {name: list(texts) for name, texts in RECORDED_NOTES.items()}
    assert {"model": whole.pop("model")} | whole.pop("provenance") == expected
    check_edges(whole.pop("z_edges", None), table)
    assert [row["ood_score"] is None for row in rows] == np.isnan(table.values["ood_score"]).tolist()
    for columns in (whole, {name: [row[name] for row in rows] for name in rows[0]}):
        check_columns({name: np.array(columns[name], values.dtype) for name, values in table.values.items()}, table)
    with np.load(tmp_path / "z.npz") as arrays:
        others = {name: arrays[name] for name in arrays if name not in table.values}
        check_edges(others.pop("z_edges", None), table)
        assert {name: array.tolist() for name, array in others.items()} == expected
        check_columns({name: arrays[name] for name in arrays if name not in others and name != "z_edges"}, table)
    header, *rows = csv.reader((tmp_path / "z.csv").read_text(encoding="utf-8").splitlines())
    flat = dict(tables.flat_columns(table))
    assert header == list(flat)
    assert (header[-1] == "pdf_179") == ("pdf" in table.values)
    assert [row[0] for row in rows] == list(NAMES)
    assert rows[1][header.index("ood_score")] == ""
    for name, column in list(zip(header, zip(*rows, strict=True), strict=True))[1:]:
        np.testing.assert_array_equal([float(text or "nan") for text in column], flat[name])


@pytest.mark.parametrize("suffix", [format.suffixes[0] for format in FORMATS if format.in_parts])
def test_parts_make_the_same_table(suffix, tmp_path):
    rows = dict(make_estimates().columns())
    if suffix != ".parquet":
        del rows["pdf"]  # a part is then smaller than the buffer of a file
    whole, parts = tmp_path / f"whole{suffix}", tmp_path / f"parts{suffix}"
    write_table(tables.ResultTable(rows, grid=SDSS_GRID), whole)
    with open_table(parts) as write:
        for part in (slice(0, 3), slice(3, 5), slice(5, 6)):
            write(tables.ResultTable({name: values[part] for name, values in rows.items()}, grid=SDSS_GRID))
            assert suffix == ".parquet" or parts.read_bytes().count(b"\n") == part.stop + (suffix == ".csv")
    if suffix == ".parquet":
        assert parquet.ParquetFile(parts).num_row_groups == 3
        pd.testing.assert_frame_equal(pd.read_parquet(parts), pd.read_parquet(whole))
    else:
        assert parts.read_bytes() == whole.read_bytes()


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


def test_qp_reads_the_pdfs_and_computes_the_same_estimates(tmp_path):
    rows = make_estimates(np.float64)
    table = tables.result_table(rows, SOURCE, SDSS_GRID)
    write_table(table, tmp_path / "z.qp.hdf5")
    with h5py.File(tmp_path / "z.qp.hdf5") as file:
        attributes = {name: value if isinstance(value, str) else tuple(value) for name, value in file.attrs.items()}
        assert attributes == RECORD | RECORDED_NOTES
    ensemble = qp.read(str(tmp_path / "z.qp.hdf5"))
    assert ensemble.metadata["pdf_name"].astype(str).tolist() == ["hist"]
    np.testing.assert_array_equal(ensemble.metadata["bins"].ravel(), SDSS_GRID.edges)
    np.testing.assert_array_equal(ensemble.objdata["pdfs"], to_qp(table).objdata["pdfs"])
    others = tables.ResultTable({name: values for name, values in table.values.items() if name != "pdf"})
    check_columns({name: ensemble.ancil[name] for name in others.values}, others)
    for expected, values in (
        (rows.pdf, ensemble.pdf(SDSS_GRID.centres) * SDSS_GRID.width),
        (rows.z_mean, ensemble.mean()),
        (rows.z_median, ensemble.median()),
        (rows.z_mode, ensemble.mode(SDSS_GRID.centres)),
        # qp puts the mass of a bin at its centre; our density is flat inside of a bin, which adds width^2 / 12.
        (rows.z_std, np.sqrt(ensemble.std() ** 2 + SDSS_GRID.width**2 / 12)),
        (pdf.quantile(rows.pdf, SDSS_GRID, 0.16), ensemble.ppf(0.16)),
    ):
        np.testing.assert_allclose(values.reshape(expected.shape), expected, rtol=0, atol=1e-6)
