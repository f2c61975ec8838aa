"""`photoz nz`: stacked PDFs of tomographic bins, with bootstrap errors."""

import json

import numpy as np
import pytest
import qp

from photoz.errors import InvalidInput, InvalidPdfs
from photoz.pdf import mean
from photoz_survey import nz
from photoz_survey.manifest import ScoreOptions
from photoz_survey.nz import TomographicBin, bins_between, stack
from photoz_survey.run import Run
from tests.survey.conftest import rows


@pytest.fixture
def scored(score, write_cutouts, tmp_path):
    """A run of 700 galaxies in three parts, and its columns."""
    z_spec = np.append(np.linspace(0.0, 0.5, 699), np.nan)
    score(write_cutouts("a.h5", 700, z_spec=z_spec), rows_per_part=300, pdf="float32")
    z_mean, pdfs = (np.array([row[name] for row in rows(tmp_path / "out")]) for name in ("z_mean", "pdf"))
    return str(tmp_path / "out"), z_mean, z_spec, pdfs


def test_distributions_are_means_of_the_pdfs_and_errors_those_of_the_bootstrap(scored, bundle, monkeypatch):
    monkeypatch.setattr(nz, "ROWS_AT_ONCE", 130)
    run, z_mean, z_spec, pdfs = scored
    grid, (low, middle, high) = bundle.card.grid, np.quantile(z_mean, [0.0, 0.3, 0.8]).tolist()
    bins = [*bins_between("z_mean", [low, middle, high]), TomographicBin("late", "z_spec>0.4,z_mean<0.31")]
    inside = [(z_mean >= low) & (z_mean < middle), (z_mean >= middle) & (z_mean < high)]
    inside.append((z_spec > 0.4) & (z_mean < 0.31))
    for found, chosen in zip(stack(run, bins)[1], inside, strict=True):
        known = chosen & np.isfinite(z_spec)
        assert (found.n, found.n_spec) == (chosen.sum(), known.sum()) > (20, 20)
        np.testing.assert_allclose(found.density, pdfs[chosen].mean(axis=0) / grid.width, rtol=1e-5)
        assert found.mean == pytest.approx(mean(pdfs[chosen], grid).mean(), rel=1e-5)
        assert found.mean_z_spec == pytest.approx(z_spec[known].mean())
        assert found.mean_difference == pytest.approx(mean(pdfs[known], grid).mean() - found.mean_z_spec, abs=1e-6)
    found, again, other = (stack(run, [TomographicBin("all", "z_mean>=0")], seed=seed)[1][0] for seed in (0, 0, 1))
    means = mean(pdfs, grid)
    assert found.mean_error == pytest.approx(means.std() / np.sqrt(700), rel=0.2)
    assert found.mean_difference_error == pytest.approx(np.nanstd(means - z_spec) / np.sqrt(699), rel=0.2)
    np.testing.assert_allclose(found.density_error, pdfs.std(axis=0) / np.sqrt(700) / grid.width, rtol=0.4)
    assert again.mean_error == found.mean_error != other.mean_error


def test_command_writes_a_table_an_ensemble_and_a_plot(scored, photoz, tmp_path):
    middle = float(np.median(scored[1]))
    bins = ("--edges", f"0,{middle},0.6", "--bin", "blue:z_spec<0.2", "--select", "z_mean<0.5")
    command = ("nz", scored[0], *bins, "-o", tmp_path / "nz.qp.hdf5")
    status, out, _ = photoz(*command, "--plot", tmp_path / "nz.png")
    bins = [*bins_between("z_mean", (0.0, middle, 0.6)), TomographicBin("blue", "z_spec<0.2")]
    _, expected = stack(scored[0], bins, "z_mean<0.5")
    assert (status, out.splitlines()) == (
        0,
        [
            f"{one.name}: {one.n} galaxies, mean {one.mean:.4f} ± {one.mean_error:.4f}; less the mean z_spec of "
            f"{one.n_spec}: {one.mean_difference:+.4f} ± {one.mean_difference_error:.4f}"
            for one in expected
        ],
    )
    assert [one.name for one in expected] == [f"0-{middle:g}", f"{middle:g}-0.6", "blue"]
    status, _, err = photoz(*command)
    message = f"Error: {tmp_path / 'nz.qp.hdf5'} exists: choose another name, or replace it with --overwrite"
    assert (status, err.splitlines()[-1]) == (2, message)
    assert (tmp_path / "nz.png").read_bytes().startswith(b"\x89PNG")
    ensemble, records = qp.read(str(tmp_path / "nz.qp.hdf5")), json.loads(photoz(*command, "--overwrite", "--json")[1])
    np.testing.assert_allclose(ensemble.mean()[:, 0], [one.mean for one in expected], rtol=1e-6)
    for name in set(records[0]) - {"name", "conditions"}:
        assert ensemble.ancil[name].tolist() == [record[name] for record in records]
    assert records == [{k: v for k, v in vars(one).items() if not k.startswith("density")} for one in expected]


def test_wrong_bins_are_refused(scored, photoz, tmp_path):
    for options, message in [
        ((), "name the bins: expected --edges or --bin"),
        (("--edges", "0,x"), "expected numbers such as 0,0.1,0.2, got 0,x"),
        (("--edges", "0.1"), "expected two or more increasing edges, got 0.1"),
        (("--edges", "0.1,0.1"), "expected two or more increasing edges, got 0.1, 0.1"),
        (("--bin", "a:b"), "expected conditions such as"),
        (("--bin", "a:b<1"), "the run has no column b; it has file, row, object_id"),
        (("--bin", "none:z_mean>9"), "no galaxy of the run is in the bin none, z_mean>9"),
        (("--edges", "0,1", "--plot", "nz.gif"), "nz.gif should end in .png, .svg, .pdf"),
    ]:
        status, _, err = photoz("nz", scored[0], *options, "-o", tmp_path / "nz.parquet")
        assert (status > 0, message in err, (tmp_path / "nz.parquet").exists()) == (True, True, False)


def test_runs_without_pdfs_or_manifest_or_end_are_refused(score, bundle, write_cutouts, tmp_path):
    path = write_cutouts("a.h5", 3)
    score(path)
    Run.begin([str(path)], bundle.path, ScoreOptions(), str(tmp_path / "begun"), resume=False)
    for folder, error, message in [
        ("out", InvalidPdfs, "has no PDFs: score with --pdf float16"),
        ("begun", InvalidInput, "begun is not complete: finish it with --resume"),
        ("", InvalidInput, "holds no manifest.json: expected the results of photoz score"),
    ]:
        with pytest.raises(error, match=message):
            stack(str(tmp_path / folder), [TomographicBin("all", "")])
