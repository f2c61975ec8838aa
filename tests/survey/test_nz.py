"""`photoz nz`: stacked PDFs of tomographic bins, with bootstrap errors."""

import numpy as np
import pytest
import qp
from pyarrow import parquet

from photoz.errors import InvalidInput, InvalidPdfs
from photoz.pdf import mean
from photoz_survey import nz
from photoz_survey.nz import TomographicBin, bins_between, stack


@pytest.fixture
def scored(score, write_cutouts, tmp_path):
    """A run of 700 galaxies in three parts, and its columns."""
    score(write_cutouts("a.h5", 700, z_spec=np.linspace(0.0, 0.5, 700)), rows_per_part=300, pdf="float32")
    parts = [parquet.read_table(part) for part in sorted((tmp_path / "out/done").iterdir())]
    columns = {name: np.concatenate([part[name].to_numpy() for part in parts]) for name in ("z_mean", "z_spec")}
    pdfs = np.concatenate([np.stack(part["pdf"].to_numpy()) for part in parts])
    return tmp_path / "out", columns, pdfs


def test_distributions_are_means_of_the_pdfs(scored, bundle):
    run, columns, pdfs = scored
    edges = np.quantile(columns["z_mean"], [0.0, 0.3, 0.8]).tolist()
    _, found = stack(str(run), [*bins_between("z_mean", edges), TomographicBin("late", "z_spec>0.4,z_mean<0.31")])
    inside = [
        (columns["z_mean"] >= low) & (columns["z_mean"] < high) for low, high in zip(edges, edges[1:], strict=False)
    ]
    inside.append((columns["z_spec"] > 0.4) & (columns["z_mean"] < 0.31))
    grid = bundle.card.grid
    for one, rows in zip(found, inside, strict=True):
        assert one.n == one.n_spec == rows.sum() > 20
        np.testing.assert_allclose(one.density, pdfs[rows].mean(axis=0) / grid.width, rtol=1e-5)
        assert one.mean == pytest.approx(mean(pdfs[rows], grid).mean(), rel=1e-5)
        assert one.mean_z_spec == pytest.approx(columns["z_spec"][rows].mean())
        assert one.mean_difference == pytest.approx(one.mean - one.mean_z_spec, abs=1e-6)


def test_errors_are_those_of_the_bootstrap(scored, bundle):
    run, columns, pdfs = scored
    _, (found,) = stack(str(run), [TomographicBin("all", "z_mean>=0")])
    means = mean(pdfs.astype(float), bundle.card.grid)
    assert found.mean_error == pytest.approx(means.std() / np.sqrt(700), rel=0.3)
    difference = means - columns["z_spec"]
    assert found.mean_difference_error == pytest.approx(difference.std() / np.sqrt(700), rel=0.3)
    errors = pdfs.std(axis=0) / np.sqrt(700) / bundle.card.grid.width
    np.testing.assert_allclose(found.density_error, errors, rtol=0.5)


def test_an_empty_bin_is_refused(scored):
    with pytest.raises(InvalidInput, match=r"no galaxy of the run is in the bin none, z_mean>9"):
        stack(str(scored[0]), [TomographicBin("none", "z_mean>9")])


def test_command_writes_a_table_an_ensemble_and_a_plot(scored, photoz, tmp_path):
    middle = float(np.median(scored[1]["z_mean"]))
    bins = ("--edges", f"0,{middle},0.6", "--bin", "blue:z_spec<0.2", "--select", "z_mean<0.5")
    status, out, _ = photoz("nz", scored[0], *bins, "-o", tmp_path / "nz.qp.hdf5", "--plot", tmp_path / "nz.png")
    assert status == 0
    assert [line.split(":")[0] for line in out.splitlines()] == [f"0-{middle:g}", f"{middle:g}-0.6", "blue"]
    _, expected = stack(str(scored[0]), [*bins_between("z_mean", (0, middle, 0.6))], "z_mean<0.5")
    ensemble = qp.read(str(tmp_path / "nz.qp.hdf5"))
    np.testing.assert_allclose(ensemble.mean()[:2, 0], [one.mean for one in expected], rtol=1e-6)
    assert ensemble.ancil["n"].tolist()[:2] == [one.n for one in expected]
    assert (tmp_path / "nz.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "name the bins: expected --edges or --bin"),
        (("--edges", "0,x"), "expected numbers such as 0,0.1,0.2, got 0,x"),
        (("--edges", "0.1"), "expected two or more increasing edges, got 0.1"),
        (("--bin", "a:b"), "expected conditions such as"),
        (("--bin", "a:b<1"), "the run has no column b; it has file, row, object_id"),
    ],
)
def test_wrong_bins_are_refused(scored, photoz, tmp_path, options, message):
    status, _, err = photoz("nz", scored[0], *options, "-o", tmp_path / "nz.parquet")
    assert status != 0
    assert message in err
    assert not (tmp_path / "nz.parquet").exists()


def test_runs_without_pdfs_or_manifest_are_refused(score, write_cutouts, tmp_path):
    score(write_cutouts("a.h5", 3))
    with pytest.raises(InvalidPdfs, match="has no PDFs: score with --pdf float16"):
        stack(str(tmp_path / "out"), [TomographicBin("all", "")])
    with pytest.raises(InvalidInput, match="holds no manifest.json: expected the results of photoz score"):
        nz.stack(str(tmp_path), [TomographicBin("all", "")])
