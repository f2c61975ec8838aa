from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from photoz import metrics, pdf
from photoz.grid import SDSS_GRID
from photoz.images import SDSS_IMAGES
from photoz.io.npz import npz_bytes
from photoz.io.reader import open_cutouts
from training.baselines import (
    METHODS,
    aperture_magnitudes,
    baseline_scores,
    colours_and_magnitude,
    gaussian_pdfs,
    local_linear_regression,
)
from training.catalogue import Catalogue
from training.cli import main


def test_local_linear_regression_reproduces_a_plane() -> None:
    rng = np.random.default_rng(0)
    features, test_features = rng.uniform(size=(500, 3)), rng.uniform(0.2, 0.8, (20, 3))
    slope = np.array([0.1, -0.05, 0.02])
    z_phot, sigma = local_linear_regression(features, 0.1 + features @ slope, test_features)
    np.testing.assert_allclose(z_phot, 0.1 + test_features @ slope, atol=1e-6)
    assert (sigma == 1e-3).all()


def test_local_linear_regression_measures_scatter_and_clips_outliers() -> None:
    rng = np.random.default_rng(1)
    features = rng.uniform(size=(2000, 2))
    z_spec = 0.2 + 0.01 * rng.standard_normal(2000)
    z_spec[:20] = 5.0
    z_phot, sigma = local_linear_regression(features, z_spec, np.full((1, 2), 0.5))
    assert z_phot[0] == pytest.approx(0.2, abs=0.005)
    assert sigma[0] == pytest.approx(0.01, rel=0.25)


@pytest.mark.slow
def test_baselines_reach_known_scores_on_the_catalogue(catalogue: Catalogue) -> None:
    """sigma_mad is 0.0132 for local linear regression and 0.0131 for boosted trees on the 1,986 test galaxies."""
    dereddened = catalogue.magnitudes - SDSS_IMAGES.extinction * catalogue.ebv[:, None]
    features, test = colours_and_magnitude(dereddened), catalogue.split == "test"
    for method, expected in zip(METHODS.values(), (0.0132, 0.0131), strict=True):
        z_phot, _ = method(features[~test], catalogue.z_spec[~test], features[test])
        dz = metrics.residuals(z_phot, catalogue.z_spec[test])
        assert metrics.sigma_mad(dz) == pytest.approx(expected, abs=2e-4)
        assert metrics.outlier_fraction(dz) < 0.013


def test_binned_gaussians_keep_mean_and_width() -> None:
    pdfs = gaussian_pdfs(np.array([0.1, 0.2]), np.array([0.02, 0.03]), SDSS_GRID)
    np.testing.assert_allclose(pdf.mean(pdfs, SDSS_GRID), [0.1, 0.2], atol=1e-4)
    np.testing.assert_allclose(pdf.std(pdfs, SDSS_GRID), [0.02, 0.03], rtol=0.02)


def test_aperture_magnitudes_correlate_with_the_catalogue(sample_file: Path, catalogue: Catalogue) -> None:
    with open_cutouts(sample_file) as cutouts:
        measured = aperture_magnitudes(cutouts, np.arange(300), SDSS_IMAGES, cutouts.columns["ebv"])
    true = catalogue.magnitudes[:300] - SDSS_IMAGES.extinction * catalogue.ebv[:300, None]
    for band in range(1, 4):
        assert np.corrcoef(measured[:, band], true[:, band])[0, 1] > 0.9


def test_all_methods_are_scored_on_all_photometries(sample_file: Path) -> None:
    with open_cutouts(sample_file) as cutouts:
        scores = baseline_scores(cutouts, SDSS_IMAGES, SDSS_GRID, cutouts.columns["ebv"])
        magnitudes = np.array(cutouts.columns["magnitudes"])
        magnitudes[3, 2] = np.nan
        incomplete = replace(cutouts, columns={**cutouts.columns, "magnitudes": magnitudes})
        fewer = baseline_scores(incomplete, SDSS_IMAGES, SDSS_GRID, cutouts.columns["ebv"])
    assert len(scores) == 6  # two methods on three photometries
    assert all({"sigma_mad", "crps", "pit_ks"} <= set(method) for method in scores.values())
    assert set(scores) - set(fewer) == {f"{method}, catalogue photometry" for method in METHODS}


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        *((name, (6, 4), "(6, 5), one number per band") for name in ("magnitudes", "fwhm", "sky_sigma")),
        ("magnitudes", (6,), "(6, 5), one number per band"),
        ("offset", (6, 3), "(6, 2)"),
        ("axis_ratio", (6, 5), "(6,)"),
    ],
)
def test_train_refuses_columns_of_other_shapes(
    tmp_path: Path, name: str, shape: tuple[int, ...], expected: str
) -> None:
    columns = {name: np.ones(shape), "z_spec": np.linspace(0.1, 0.3, 6)}
    (tmp_path / "mine.npz").write_bytes(npz_bytes({"images": np.ones((6, 64, 64, 5), np.float32), **columns}))
    done = CliRunner().invoke(main, ["train", "--data", str(tmp_path / "mine.npz"), "--run", str(tmp_path / "run")])
    message = f"Error: expected the column '{name}' of shape {expected}, got {shape}\n"
    assert (done.exit_code, done.output) == (1, message)
    assert not (tmp_path / "run").exists()


def test_train_refuses_what_it_cannot_use_before_it_fits(tmp_path: Path) -> None:
    def error(name: str, **arrays: np.ndarray) -> str:
        path = tmp_path / f"{name}.npz"
        path.write_bytes(npz_bytes({"z_spec": np.linspace(0.1, 0.3, 6), **arrays}))
        done = CliRunner().invoke(main, ["train", "--data", str(path), "--run", str(tmp_path / "run")])
        assert done.exit_code
        return done.output

    bands_first = error("bands", images=np.ones((6, 5, 64, 64), np.float32))
    assert "expected images of shape (n, size, size, n_bands), got (6, 5, 64, 64); bring them" in bands_first
    labels = np.array(["train"] * 4 + ["test"] * 2)
    no_validation = error("split", images=np.ones((6, 64, 64, 5), np.float32), split=labels)
    assert "no galaxy of split 'validation'" in no_validation
    assert not (tmp_path / "run").exists()
