"""STILTS, which shares its readers with TOPCAT, finds VOTables valid and joins tables of estimates by integer names."""

import subprocess
from dataclasses import replace

import numpy as np
import pytest
from astropy.table import Table

from photoz.grid import SDSS_GRID
from photoz.io.tables import result_table
from photoz.io.writer import write_table
from tests.core.test_tables import SOURCE, make_estimates

IDS = 1237648720693755918 + np.arange(6)  # float64 would round them
NOTES = {"used": ("pixels are in nanomaggy", "pixels are 0.396 arcsec wide"), "assumed": ("µ & <ν>",)}


def stilts(*arguments):
    """Run STILTS; skip the test where it or a Java that is recent enough is missing."""
    try:
        result = subprocess.run(["stilts", *arguments], capture_output=True, text=True, timeout=120)
    except FileNotFoundError:
        pytest.skip("STILTS is not installed (Debian's package stilts)")
    if "UnsupportedClassVersionError" in result.stderr:
        pytest.skip("STILTS needs a newer Java (Debian's package openjdk-21-jre-headless)")
    return result


@pytest.mark.acceptance
@pytest.mark.parametrize(("suffix", "name"), [("vot", "votable"), ("fits", "fits"), ("parquet", "parquet")])
@pytest.mark.parametrize("with_pdfs", [False, True])
def test_tables_are_valid_and_joined_by_all_digits_of_the_names(tmp_path, suffix, name, with_pdfs):
    estimates = replace(make_estimates(np.float64), object_id=IDS, **({} if with_pdfs else {"pdf": None}))
    path, catalogue, joined = (tmp_path / file for file in (f"z.{suffix}", "catalogue.fits", "joined.csv"))
    write_table(result_table(estimates, replace(SOURCE, notes=NOTES), SDSS_GRID), path)
    Table({"objID": IDS[::-1], "row": np.arange(6)}).write(catalogue)
    if suffix == "vot":
        lint = stilts("votlint", str(path))
        assert (lint.returncode, lint.stdout, lint.stderr) == (0, "", "")
    tables = [f"in1={path}", f"ifmt1={name}", f"in2={catalogue}", f"out={joined}", "ofmt=csv"]
    match = stilts(
        "tmatch2", *tables, "matcher=exact", "values1=object_id", "values2=objID", "ocmd=keepcols 'objID row'"
    )
    if "No table handler available for parquet" in match.stderr:
        pytest.skip("this STILTS has no reader for Parquet")
    assert match.returncode == 0, match.stderr
    assert sorted(map(tuple, Table.read(joined))) == sorted(zip(IDS.tolist(), range(5, -1, -1), strict=True))
