import numpy as np
import properscoring
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from photoz import metrics, pdf
from photoz.errors import InvalidRedshifts
from photoz.grid import SDSS_GRID, RedshiftGrid
from photoz.metrics import GalaxyScores

GRID = RedshiftGrid(0.6, 12)
WIDTH = SDSS_GRID.width

masses = hnp.arrays(float, (3, GRID.n_bins), elements=st.just(0.0) | st.floats(1e-3, 1.0))
any_pdfs = masses.filter(lambda m: (m.sum(axis=1) > 0).all()).map(lambda m: pdf.as_pdfs(m, GRID))
any_redshifts = hnp.arrays(float, 3, elements=st.floats(0.0, 0.6))


def ensemble_crps(pdfs, z_spec, grid, parts=20, chunk=8):
    """CRPS of an ensemble that samples each bin evenly; in chunks, because the memory is n * members^2."""
    members = (np.arange(grid.n_bins * parts) + 0.5) * grid.width / parts
    scores = []
    for start in range(0, len(pdfs), chunk):
        rows = slice(start, start + chunk)
        weights = np.repeat(pdfs[rows], parts, axis=1)
        ensemble = np.broadcast_to(members, weights.shape)
        scores.append(properscoring.crps_ensemble(z_spec[rows], ensemble, weights=weights))
    return np.concatenate(scores)


def test_crps_agrees_with_ensemble(rng):
    grid = RedshiftGrid(0.4, 30)
    pdfs = pdf.as_pdfs(rng.dirichlet(np.full(30, 0.2), 40), grid)
    z_spec = rng.uniform(0, 0.4, 40)
    z_spec[:4] = [0.0, 0.4, grid.edges[7], grid.centres[3]]
    expected = ensemble_crps(pdfs, z_spec, grid)
    # the ensemble's steps are off by at most half of a twentieth of a bin
    np.testing.assert_allclose(metrics.crps(pdfs, z_spec, grid), expected, atol=grid.width / 40)
    assert np.abs(metrics.crps(pdfs, z_spec, grid) - expected).mean() < grid.width / 400


@given(any_pdfs, any_redshifts)
def test_crps_agrees_with_numerical_integral(pdfs, z_spec):
    z = (np.arange(20_000) + 0.5) * GRID.z_max / 20_000
    for row, truth, score in zip(pdfs, z_spec, metrics.crps(pdfs, z_spec, GRID), strict=True):
        cdf = np.interp(z, GRID.edges, pdf.cdf(row[np.newaxis])[0])
        assert score == pytest.approx(((cdf - (z >= truth)) ** 2).mean() * GRID.z_max, abs=GRID.z_max / 20_000)


@pytest.mark.parametrize("loss", [metrics.crps, metrics.cde_loss])
def test_crps_and_cde_loss_are_lowest_for_the_true_pdfs(gaussian_pdfs, calibrated, loss):
    pdfs, z_spec = calibrated
    mean = pdf.mean(pdfs, SDSS_GRID)
    best = loss(pdfs, z_spec, SDSS_GRID).mean()
    for shift, stretch in ((0.0, 0.6), (0.0, 1.6), (0.01, 1.0), (0.2 - mean, 1.0)):
        wrong = gaussian_pdfs(mean + shift, stretch * 0.014 * (1 + mean))
        assert loss(wrong, z_spec, SDSS_GRID).mean() > best


def test_pit_of_calibrated_pdfs_is_uniform(calibrated):
    pit = metrics.pit(*calibrated, SDSS_GRID)
    assert metrics.uniform_ks(pit) < 1.63 / np.sqrt(len(pit))  # the 1 % point of Kolmogorov's distribution


@pytest.mark.parametrize(("stretch", "shift"), [(0.5, 0.0), (2.0, 0.0), (1.0, 0.01)])
def test_pit_of_wrong_pdfs_is_not_uniform(gaussian_pdfs, calibrated, stretch, shift):
    pdfs, z_spec = calibrated
    mean = pdf.mean(pdfs, SDSS_GRID)
    wrong = gaussian_pdfs(mean + shift, stretch * 0.014 * (1 + mean))
    assert metrics.uniform_ks(metrics.pit(wrong, z_spec, SDSS_GRID)) > 0.1


def test_ks_distance_agrees_with_scipy(rng):
    from scipy.stats import kstest

    for values in (rng.random(50), rng.random(1), rng.beta(2, 5, 300)):
        assert metrics.uniform_ks(values) == pytest.approx(kstest(values, "uniform").statistic, abs=1e-12)


def test_coverage_of_calibrated_pdfs_is_nominal(calibrated):
    scores = metrics.galaxy_scores(*calibrated, SDSS_GRID)
    inside_by_mass = {0.5: metrics.covered(*calibrated, SDSS_GRID, 0.5), 0.68: scores.in_68, 0.95: scores.in_95}
    for mass, inside in inside_by_mass.items():
        assert inside.mean() == pytest.approx(mass, abs=3 * np.sqrt(mass * (1 - mass) / len(inside)))


def test_cde_loss_of_boxes_is_known():
    box = np.full((1, 180), 1 / 180)
    assert metrics.cde_loss(box, [0.123], SDSS_GRID)[0] == pytest.approx(-1 / 0.4)
    right, wrong = metrics.cde_loss(np.eye(180)[[10, 10]], [SDSS_GRID.centres[10], 0.3], SDSS_GRID) * WIDTH
    assert (right, wrong) == (pytest.approx(-1), pytest.approx(1))


def test_metrics_of_residuals_follow_their_definitions():
    dz = metrics.residuals([0.11, 0.2, 0.4], [0.1, 0.2, 0.25])
    np.testing.assert_allclose(dz, [0.01 / 1.1, 0.0, 0.15 / 1.25])
    assert metrics.bias(dz) == pytest.approx(dz.mean())
    assert metrics.sigma_mad(dz) == pytest.approx(1.4826 * 0.01 / 1.1)
    assert metrics.outlier_fraction(dz) == pytest.approx(1 / 3)


@pytest.mark.parametrize("scored", [metrics.crps, metrics.pit, metrics.cde_loss, metrics.galaxy_scores])
@pytest.mark.parametrize("z_spec", [[0.1, np.nan], [0.1, 0.41], [-0.001, 0.1], [0.1], [[0.1, 0.2]], 0.1])
def test_redshifts_that_cannot_be_scored_are_refused(scored, z_spec):
    with pytest.raises(InvalidRedshifts, match="expected"):
        scored(np.full((2, 180), 1 / 180), z_spec, SDSS_GRID)


def test_bootstrap_errors_agree_with_theory(rng):
    n = 2000
    dz = rng.normal(0, 0.01, n)
    dz[: n // 50] = 0.1
    scores = metrics.summarise(GalaxyScores(rng.permutation(dz)))
    assert scores["bias"].error == pytest.approx(dz.std() / np.sqrt(n), rel=0.1)
    assert scores["outlier_fraction"].value == pytest.approx(0.02)
    assert scores["outlier_fraction"].error == pytest.approx(np.sqrt(0.02 * 0.98 / n), rel=0.1)
    # of a Gaussian sample: sqrt(1.36 / n) sigma, Rousseeuw and Croux 1993
    assert scores["sigma_mad"].error == pytest.approx(np.sqrt(1.36 / n) * 0.01, rel=0.25)


def test_summary_has_every_metric_and_is_reproducible(calibrated):
    galaxies = metrics.galaxy_scores(*calibrated, SDSS_GRID)
    scores = metrics.summarise(galaxies, n_resamples=20)
    assert list(scores) == list(metrics.METRICS)
    assert scores == metrics.summarise(galaxies, n_resamples=20)
    assert scores != metrics.summarise(galaxies, n_resamples=20, seed=1)
    assert str(metrics.Score(0.01379, 0.00041)) == "0.0138 ± 0.0004"
    assert scores["crps"].value == pytest.approx(metrics.crps(*calibrated, SDSS_GRID).mean())
    assert scores["pit_ks"].value == metrics.uniform_ks(metrics.pit(*calibrated, SDSS_GRID))
    assert scores["coverage_68"].value == metrics.covered(*calibrated, SDSS_GRID, 0.68).mean()


def test_summary_needs_galaxies_but_no_pdfs():
    assert list(metrics.summarise(GalaxyScores(np.array([0.0, 0.1])), 5)) == ["bias", "sigma_mad", "outlier_fraction"]
    with pytest.raises(InvalidRedshifts, match="at least one galaxy"):
        metrics.summarise(GalaxyScores(np.array([])))


def test_summary_by_bins_counts_every_galaxy_once(calibrated):
    pdfs, z_spec = calibrated
    galaxies = metrics.galaxy_scores(pdfs, z_spec, SDSS_GRID)
    edges = np.array([z_spec.min(), 0.1, 0.2, z_spec.max()])
    bins = metrics.summarise_by(galaxies, z_spec, edges)
    assert [(b.low, b.high) for b in bins] == list(zip(edges[:-1], edges[1:], strict=True))
    assert sum(b.n_galaxies for b in bins) == len(galaxies)
    chosen = (z_spec >= 0.1) & (z_spec < 0.2)
    assert bins[1].scores["bias"].value == pytest.approx(galaxies.dz[chosen].mean())


def test_bins_with_few_galaxies_are_left_out_and_inner_edges_belong_to_the_bin_above():
    values = np.r_[np.full(19, 0.0), np.full(1, 1.0), np.full(19, 2.0)]
    bins = metrics.summarise_by(GalaxyScores(np.arange(39.0)), values, [0, 1, 2])
    assert [(b.low, b.n_galaxies) for b in bins] == [(1.0, 20)]
    assert bins[0].scores == metrics.summarise(GalaxyScores(np.arange(19.0, 39.0)), 200)
