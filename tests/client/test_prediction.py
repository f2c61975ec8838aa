"""`Prediction` and the table that the command prints."""

import dataclasses
import io
import sys

import numpy as np
import pandas as pd
import pytest

from photoz import estimates
from photoz.cli.text import text_table
from photoz.errors import InvalidPdfs, UnsupportedType
from photoz.estimates import COLUMNS, Estimates
from photoz.flags import Flag, flag_names
from photoz.grid import RedshiftGrid
from photoz.io.formats import WRITTEN_SUFFIXES
from photoz.io.tables import COLUMN_INFO, PASSED_COLUMNS, csv_bytes
from photoz_client import MissingExtra, Prediction
from photoz_client._prediction import join

GRID = RedshiftGrid(1.0, 4)


@pytest.fixture
def prediction():
    pdfs = np.array([[0.1, 0.7, 0.1, 0.1], [0.0, 0.0, 1.0, 0.0], [0.4, 0.1, 0.1, 0.4]])
    rows = estimates.from_pdfs(pdfs, GRID, object_id=np.array(["a", "b,c", "d"]), include_pdf=True)
    flags = np.array([0, Flag.LOW_SNR, Flag.LOW_SNR | Flag.MULTIMODAL])
    return Prediction(**dict(rows.columns()) | {"flags": flags}, model="photoz 1")


def test_columns_are_those_of_the_core_without_the_model(prediction):
    assert tuple(name for name, _ in prediction.columns()) == (*COLUMNS, "pdf")
    described = [name for name in COLUMN_INFO if name not in PASSED_COLUMNS]
    assert [field.name for field in dataclasses.fields(Estimates)] == described


def test_has_selects_rows_with_any_of_the_flags(prediction):
    assert prediction.has(Flag.LOW_SNR).tolist() == [False, True, True]
    assert prediction.has(Flag.MULTIMODAL | Flag.EDGE_MASS).tolist() == [False, False, True]
    assert not prediction.has(Flag.OUT_OF_DISTRIBUTION).any()


def test_join_names_every_model(prediction):
    other = dataclasses.replace(prediction, model="photoz 2")
    joined = join([prediction, other, prediction])
    assert joined.model == "photoz 1, photoz 2"
    assert list(joined.object_id) == [*prediction.object_id] * 3
    assert join([prediction, prediction]).model == "photoz 1"


def test_to_table_holds_every_column_with_its_description(prediction):
    table = prediction.to_table()
    assert table.colnames == [*COLUMNS, "pdf"]
    assert table.meta["model"] == "photoz 1"
    assert all(table[name].description for name in table.colnames)
    assert "32 BROAD_PDF" in table["flags"].description
    assert table["z_std"].meta["ucd"] == "stat.error;src.redshift.phot"
    np.testing.assert_array_equal(table["pdf"], prediction.pdf)


def test_to_pandas_holds_the_columns_of_the_csv_file(prediction):
    frame = prediction.to_pandas()
    assert frame.attrs["model"] == "photoz 1"
    read = pd.read_csv(io.BytesIO(csv_bytes(prediction)))
    pd.testing.assert_frame_equal(frame, read, check_dtype=False)
    assert frame["pdf_1"].tolist() == prediction.pdf[:, 1].tolist()


def test_to_qp_holds_the_pdfs_and_all_other_columns(prediction):
    qp = pytest.importorskip("qp", reason="qp-prob is not installed")
    ensemble = prediction.to_qp(GRID)
    assert isinstance(ensemble, qp.Ensemble)
    np.testing.assert_allclose(ensemble.mean().ravel(), prediction.z_mean)
    assert list(ensemble.ancil) == list(COLUMNS)
    with pytest.raises(InvalidPdfs, match="there are no PDFs"):
        dataclasses.replace(prediction, pdf=None).to_qp(GRID)


def test_write_uses_the_format_of_the_name(prediction, tmp_path):
    for suffix in sorted({*WRITTEN_SUFFIXES} - {".qp.hdf5"}):
        prediction.write(str(tmp_path / f"z{suffix}"))
    prediction.write(tmp_path / "q.csv", grid=GRID, quantiles=[0.16, 0.84])
    prediction.write(tmp_path / "q.csv", grid=GRID, quantiles=[0.05])  # replaces the file
    assert [path.stat().st_size > 100 for path in tmp_path.iterdir()] == [True] * len(WRITTEN_SUFFIXES)
    assert (tmp_path / "z.csv").read_bytes() == csv_bytes(prediction)
    assert pd.read_csv(tmp_path / "q.csv").columns.tolist() == [*COLUMNS, "z_q05"]
    with pytest.raises(InvalidPdfs, match=r"pass grid=client\.model\(\)\.grid"):
        prediction.write(tmp_path / "q.fits", quantiles=[0.5])
    with pytest.raises(UnsupportedType, match="z.xls should end in .csv"):
        prediction.write(tmp_path / "z.xls")


@pytest.mark.parametrize(
    ("call", "what", "package", "extra"),
    [
        (lambda prediction: prediction.to_table(), "to_table", "astropy", "astropy"),
        (lambda prediction: prediction.to_pandas(), "to_pandas", "pandas", "pandas"),
        (lambda prediction: prediction.to_qp(GRID), "to_qp", "qp", "qp"),
        (lambda prediction: prediction.write("z.fits"), "z.fits", "astropy", "astropy"),
        (lambda prediction: prediction.write("z.vot"), "z.vot", "astropy", "astropy"),
        (lambda prediction: prediction.write("z.parquet"), "z.parquet", "pyarrow", "parquet"),
    ],
)
def test_without_a_package_the_error_names_its_extra(prediction, monkeypatch, call, what, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra) as error:
        call(prediction)
    assert str(error.value) == f"{what} needs {package}: install it with pip install 'photoz[{extra}]'"


def test_printed_table_names_the_flags(prediction):
    head, *lines = text_table(prediction).splitlines()
    assert head.split() == ["object_id", "z_mean", "z_lo68", "z_hi68", "odds", "flags"]
    assert lines[0].split()[:2] == ["a", f"{prediction.z_mean[0]:.4f}"]
    assert [line.split()[-1] for line in lines] == ["-", "LOW_SNR", "LOW_SNR|MULTIMODAL"]
    assert flag_names(2**30 | Flag.LOW_SNR) == "LOW_SNR"  # a later service may set other flags
