"""The files that `photoz predict` writes, on the real service or on one that fails."""

import json
import sys

import h5py
import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from photoz import pdf
from photoz_client import PhotozClient
from tests.client.answers import numbered_cutouts


def read(path):
    """Read the columns of a file by name."""
    match path.suffix:
        case ".jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            return {name: np.array([row[name] for row in rows]) for name in rows[0]}
        case ".parquet":
            frame = pd.read_parquet(path)
            return {name: np.stack(frame[name].to_numpy()) for name in frame}
        case ".h5" | ".hdf5":
            with h5py.File(path) as file:
                return {name: item[()] for name, item in file.items()}
        case _:
            table = Table.read(path)
            return {name: np.asarray(table[name]) for name in table.colnames}


@pytest.mark.e2e
def test_files_hold_what_the_sdk_returns(photoz, columns, service_url, folder):
    with PhotozClient(service_url) as client:
        grid = client.model().grid
        expected = client.predict(columns["images"], ebv=columns["ebv"], object_id=columns["object_id"], pdf=True)
    arguments = ("predict", folder / "cutouts.npz", "--url", service_url, "-o")
    for suffix in ("jsonl", "parquet", "fits", "vot", "hdf5", "h5"):
        path = folder / f"z.{suffix}"
        status, out, err = photoz(*arguments, path, "--pdf")
        assert (status, out, err.endswith(f"wrote 6 rows to {path}\n")) == (0, "", True)
        written = read(path)
        np.testing.assert_array_equal(written["z_spec"], columns["z_spec"])
        np.testing.assert_array_equal(written["z_mean"], expected.z_mean)
        np.testing.assert_allclose(written["pdf"], expected.pdf, rtol=1e-7)
        assert photoz(*arguments, path, "--quantiles", "0.16,0.84")[0] == 0
        written = read(path)
        assert "pdf" not in written
        np.testing.assert_allclose(written["z_q84"], pdf.quantile(expected.pdf.astype(float), grid, 0.84), atol=1e-6)


@pytest.mark.e2e
def test_qp_reads_the_ensemble(photoz, columns, service_url, folder):
    qp = pytest.importorskip("qp", reason="qp-prob is not installed")
    path = folder / "z.qp.hdf5"
    assert photoz("predict", folder / "cutouts.npz", "--url", service_url, "-o", path)[0] == 0
    ensemble = qp.read(str(path))
    assert ensemble.ancil["object_id"].tolist() == columns["object_id"].tolist()
    np.testing.assert_allclose(ensemble.mean().ravel(), ensemble.ancil["z_mean"], atol=1e-6)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "fits"])
@pytest.mark.parametrize("options", [(), ("--quantiles", "0.05,0.5")])
def test_other_rows_are_written_when_some_fail(photoz, one_part_fails, tmp_path, suffix, options):
    path = tmp_path / f"z.{suffix}"
    status, out, err = photoz("predict", *one_part_fails, *options, "-o", path)
    assert (status, out) == (1, "")
    assert f"wrote 8 rows to {path}\n" in err
    assert "Error: 4 of 12 cutouts have no prediction; cutouts 4 to 7: the service at" in err
    written = read(path)
    assert written["object_id"].astype(str).tolist() == [str(row) for row in (0, 1, 2, 3, 8, 9, 10, 11)]
    assert ("z_q05" in written) == bool(options)


def test_nothing_is_sent_if_the_file_cannot_be_written(photoz, one_part_fails, tmp_path, monkeypatch):
    status, _, err = photoz("predict", *one_part_fails, "-o", tmp_path / "z.qp.h5")
    assert (status, err.startswith(f"Error: {tmp_path / 'z.qp.h5'} should end in .csv, ")) == (1, True)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    status, _, err = photoz("predict", *one_part_fails, "-o", tmp_path / "z.parquet")
    assert (status, err) == (
        1,
        "Error: z.parquet needs pyarrow: install it with pip install 'photoz[parquet]'\n",
    )
    for options, message in (
        (("--quantiles", "0.5"), "--quantiles needs --output or --json"),
        (("--quantiles", "0.5", "--pdf", "-o", "z.csv"), "--quantiles are written in place of the PDFs"),
        (("--quantiles", "0.5", "-o", "z.qp.hdf5"), "--quantiles are written in place of the PDFs"),
        (("--quantiles", "0.5;0.9", "-o", "z.csv"), "expected numbers such as 0.05,0.5,0.95, got 0.5;0.9"),
        (("--quantiles", "0.5,84", "-o", "z.csv"), "expected numbers between 0 and 1, got 0.5,84"),
    ):
        status, _, err = photoz("predict", *one_part_fails, *options)
        assert (status, message in " ".join(err.split())) == (2, True), err


def test_the_cutouts_are_not_overwritten(photoz, one_part_fails, tmp_path):
    path = tmp_path / "cutouts.npz"
    np.savez(path, images=numbered_cutouts(12))
    status, _, err = photoz("predict", path, *one_part_fails[1:], "-o", tmp_path / "." / "cutouts.npz")
    assert (status, "holds the cutouts: choose another file" in " ".join(err.split())) == (2, True)
    with np.load(path) as arrays:
        assert list(arrays) == ["images"]
