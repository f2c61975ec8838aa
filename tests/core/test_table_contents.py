"""What files of estimates hold beside the estimates: the grid of the PDFs, integer names, columns of the cutouts."""

import json

import h5py
import numpy as np
import pandas as pd
import pytest
import qp
from astropy.io import fits, votable
from astropy.table import Table
from pyarrow import parquet

from photoz import estimates
from photoz.errors import InvalidPdfs
from photoz.grid import SDSS_GRID, RedshiftGrid
from photoz.io import tables
from photoz.io.formats import WRITTEN_SUFFIXES
from photoz.io.provenance import now
from photoz.io.writer import write_table
from tests.core.test_tables import SOURCE, make_estimates


def test_files_with_pdfs_become_ensembles_of_qp_with_nothing_but_the_file(tmp_path):
    rows = make_estimates(np.float64)
    for suffix in ("fits", "vot", "parquet", "h5", "npz", "json"):
        write_table(tables.result_table(rows, SOURCE, SDSS_GRID), tmp_path / f"z.{suffix}")
    params = votable.parse(str(tmp_path / "z.vot")).get_first_table().params
    arrow, whole = parquet.read_table(tmp_path / "z.parquet"), json.loads((tmp_path / "z.json").read_bytes())
    with h5py.File(tmp_path / "z.h5") as h5, np.load(tmp_path / "z.npz") as npz:
        found = {
            "fits": (Table.read(tmp_path / "z.fits")["pdf"], fits.getdata(tmp_path / "z.fits", "Z_EDGES")),
            "vot": (
                Table.read(tmp_path / "z.vot")["pdf"],
                next(param.value for param in params if param.name == "z_edges"),
            ),
            "parquet": (np.stack(arrow["pdf"].to_numpy()), json.loads(arrow.schema.metadata[b"z_edges"])),
            "h5": (h5["pdf"][:], h5["z_edges"][:]),
            "npz": (npz["pdf"], npz["z_edges"]),
            "json": (whole["pdf"], whole["z_edges"]),
        }
    for suffix, (pdfs, edges) in found.items():
        ensemble = qp.hist.create_ensemble(bins=np.asarray(edges), pdfs=np.asarray(pdfs) / np.diff(edges))
        np.testing.assert_allclose(ensemble.mean().ravel(), rows.z_mean, rtol=0, atol=1e-9, err_msg=suffix)


def test_pdfs_are_not_written_without_their_grid(tmp_path):
    rows = make_estimates()
    for suffix in {".fits", ".vot", ".parquet", ".h5", ".npz", ".json"}:
        with pytest.raises(InvalidPdfs, match="the redshift grid of the PDFs is not known"):
            write_table(tables.result_table(rows), tmp_path / f"z{suffix}")
        with pytest.raises(InvalidPdfs, match=r"expected pdfs of shape \(n, 90\), got \(6, 180\)"):
            write_table(tables.result_table(rows, grid=RedshiftGrid(0.4, 90)), tmp_path / f"z{suffix}")
    assert list(tmp_path.iterdir()) == []


IDS = [1237648720693755918, -(2**63), 2**63 - 1, 0]


def read_ids(path):
    """Read the names of galaxies with the library of the format: values and their type."""
    if path.name.endswith(".qp.hdf5"):
        return qp.read(str(path)).ancil["object_id"]
    match path.suffix:
        case ".fits" | ".fit" | ".vot":
            return np.asarray(Table.read(path)["object_id"])
        case ".h5" | ".hdf5":
            with h5py.File(path) as file:
                return file["object_id"][:]
        case ".npz":
            with np.load(path) as arrays:
                return arrays["object_id"]
        case ".parquet":
            return parquet.read_table(path)["object_id"].to_numpy()
        case ".csv":
            return pd.read_csv(path)["object_id"].to_numpy()
        case ".json":
            return np.array(json.loads(path.read_bytes())["object_id"])
    return np.array([json.loads(line)["object_id"] for line in path.read_bytes().splitlines()])


@pytest.mark.parametrize("suffix", WRITTEN_SUFFIXES)
def test_integers_stay_integers_but_text_in_json(suffix, tmp_path):
    path, is_json = tmp_path / f"z{suffix}", suffix in (".json", ".jsonl")
    write_table(tables.result_table(make_estimates(names=np.array(IDS)), SOURCE, SDSS_GRID), path)
    ids = read_ids(path)
    assert (ids.dtype.kind, ids.tolist()) == ("U", list(map(str, IDS))) if is_json else ("i", IDS)
    names = estimates.as_names(np.array([5, 2**63], np.uint64))
    assert names.tolist() == ["5", str(2**63)]  # beyond int64
    for integers in (np.array([5], np.uint64), np.array([5], ">i2"), np.array([], np.uint64)):
        assert estimates.as_names(integers).dtype == np.int64


def test_positions_and_redshifts_of_the_cutouts_are_passed_or_said_to_be_left_out():
    columns = {
        "ra": np.array([[1], [2]], ">f4"),
        "dec": np.array(["1", "2"]),
        "z_spec": np.zeros(3),
        "ebv": np.zeros(2),
    }
    passed, left_out = tables.passed_columns(columns, 2)
    assert {name: (values.tolist(), values.dtype) for name, values in passed.items()} == {"ra": ([1, 2], np.float64)}
    assert left_out == [
        "dec, expected 2 numbers, got shape (2,) and dtype <U1",
        "z_spec, expected 2 numbers, got shape (3,) and dtype float64",
    ]


def test_the_date_may_be_set(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767323045")
    assert now() == SOURCE.date
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert now() > SOURCE.date
