"""`Prediction` and the table that the command prints."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from photoz import estimates
from photoz.estimates import COLUMNS, Estimates, Flag
from photoz.grid import RedshiftGrid
from photoz_client import Prediction, _cli_text
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


def test_to_table_without_astropy_names_the_extra():
    code = """
import sys
sys.modules["astropy"] = None
import numpy as np
from photoz.estimates import COLUMNS
from photoz_client import MissingExtra, Prediction
try:
    Prediction(**{name: np.zeros(1) for name in COLUMNS}).to_table()
except MissingExtra as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "to_table needs astropy: install it with pip install 'photoz[astropy]'"


def test_printed_table_names_the_flags(prediction):
    head, *lines = _cli_text.prediction_table(prediction).splitlines()
    assert head.split() == ["object_id", "z_mean", "z_lo68", "z_hi68", "odds", "flags"]
    assert lines[0].split()[:2] == ["a", f"{prediction.z_mean[0]:.4f}"]
    assert [line.split()[-1] for line in lines] == ["-", "LOW_SNR", "LOW_SNR|MULTIMODAL"]


@given(st.integers(0, 2**31 - 1))
def test_unknown_flags_of_a_later_service_are_ignored(flags):
    known = {name for name in _cli_text.flag_names(flags).split("|") if name != "-"}
    assert known == {flag.name for flag in Flag if flags & flag}
