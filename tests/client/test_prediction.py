"""`Prediction` and the table that the command prints."""

import dataclasses
import sys

import numpy as np
import pytest

from photoz import estimates
from photoz.estimates import COLUMNS, Estimates
from photoz.flags import Flag
from photoz.grid import RedshiftGrid
from photoz_client import MissingExtra, Prediction, _cli_text
from photoz_client._prediction import DESCRIPTIONS, join

GRID = RedshiftGrid(1.0, 4)


@pytest.fixture
def prediction():
    pdfs = np.array([[0.1, 0.7, 0.1, 0.1], [0.0, 0.0, 1.0, 0.0], [0.4, 0.1, 0.1, 0.4]])
    rows = estimates.from_pdfs(pdfs, GRID, object_id=np.array(["a", "b,c", "d"]), include_pdf=True)
    flags = np.array([0, Flag.LOW_SNR, Flag.LOW_SNR | Flag.MULTIMODAL])
    return Prediction(**dict(rows.columns()) | {"flags": flags}, model="photoz 1")


def test_columns_are_those_of_the_core_without_the_model(prediction):
    assert tuple(name for name, _ in prediction.columns()) == (*COLUMNS, "pdf")
    assert [field.name for field in dataclasses.fields(Estimates)] == list(DESCRIPTIONS)


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
    np.testing.assert_array_equal(table["pdf"], prediction.pdf)


def test_to_table_without_astropy_names_the_extra(prediction, monkeypatch):
    monkeypatch.setitem(sys.modules, "astropy.table", None)
    with pytest.raises(MissingExtra, match=r"to_table needs astropy: install it with pip install 'photoz\[astropy\]'"):
        prediction.to_table()


def test_printed_table_names_the_flags(prediction):
    head, *lines = _cli_text.prediction_table(prediction).splitlines()
    assert head.split() == ["object_id", "z_mean", "z_lo68", "z_hi68", "odds", "flags"]
    assert lines[0].split()[:2] == ["a", f"{prediction.z_mean[0]:.4f}"]
    assert [line.split()[-1] for line in lines] == ["-", "LOW_SNR", "LOW_SNR|MULTIMODAL"]
    assert _cli_text.flag_names(2**30 | Flag.LOW_SNR) == "LOW_SNR"  # a later service may set other flags
