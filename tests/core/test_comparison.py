"""What changes from one model to another: by hand, by integration and by drawing truths from the PDFs."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from photoz import estimates, metrics, pdf
from photoz.comparison import FlagChange, Verdict, compare, flag_changes, judge, shift
from photoz.distances import own_crps, pdf_distances, quadratic_distances
from photoz.errors import InvalidInput, InvalidPdfs, InvalidRedshifts
from photoz.estimates import Flag
from photoz.grid import SDSS_GRID, RedshiftGrid
from photoz.metrics import GalaxyScores, Score
from photoz.paired import FigurePair, figure_pairs

COARSE, FINE = RedshiftGrid(0.6, 12), RedshiftGrid(0.4, 20)


def one_hot(index, grid):
    return np.eye(grid.n_bins)[[index]]


def test_shift_by_hand():
    moved = shift(np.array([0.0, 0.25, 1.0, 0.0]), np.array([0.01, 0.25, 0.8, 0.02]))
    assert moved.median == pytest.approx(0.005)  # of 0.01, 0, -0.1, 0.02
    assert moved.sigma_mad == pytest.approx(1.4826 * 0.01)  # of 0.005, 0.005, 0.105, 0.015
    assert moved.largest == pytest.approx(-0.1)
    assert moved.moved == 0.25


def test_flags_are_counted_by_who_gained_and_who_lost_them():
    a = np.array([0, Flag.LOW_SNR, Flag.LOW_SNR | Flag.BROAD_PDF, Flag.EDGE_MASS])
    b = np.array([Flag.BROAD_PDF, 0, Flag.LOW_SNR, Flag.EDGE_MASS])
    expected = {"LOW_SNR": FlagChange(gained=0, lost=1), "BROAD_PDF": FlagChange(gained=1, lost=1)}
    assert flag_changes(a, b) == expected


@pytest.mark.parametrize(("i", "j", "bins"), [(3, 3, 0), (3, 4, 2 / 3), (3, 8, 4 + 2 / 3), (11, 0, 10 + 2 / 3)])
def test_distance_of_two_single_bins_by_hand(i, j, bins):
    """In each of the two bins one CDF rises from 0 to 1, 1/3 of its width; in those between they are 1 apart."""
    distance = quadratic_distances(one_hot(i, COARSE), one_hot(j, COARSE), COARSE, COARSE)
    np.testing.assert_allclose(distance, bins * COARSE.width, atol=1e-15)


def test_distance_is_the_integral_of_its_definition_whatever_the_grids(rng):
    pdfs_a, pdfs_b = rng.dirichlet(np.full(12, 0.3), 20), rng.dirichlet(np.full(20, 0.3), 20)
    z = (np.arange(60_000) + 0.5) * 1e-5
    for a, b, distance in zip(pdfs_a, pdfs_b, quadratic_distances(pdfs_a, pdfs_b, COARSE, FINE), strict=True):
        cdf_a = np.interp(z, COARSE.edges, pdf.cdf(a[np.newaxis])[0])
        cdf_b = np.interp(z, FINE.edges, pdf.cdf(b[np.newaxis])[0])
        assert distance == pytest.approx(((cdf_a - cdf_b) ** 2).sum() * 1e-5, rel=1e-5)


def test_the_same_density_on_a_finer_grid_is_at_no_distance(rng):
    pdfs = rng.dirichlet(np.ones(12), 5)
    halves = np.repeat(pdfs / 2, 2, axis=1)
    np.testing.assert_allclose(quadratic_distances(pdfs, halves, COARSE, RedshiftGrid(0.6, 24)), 0.0, atol=1e-15)


def folded_normal_mean(mean, sigma):
    return sigma * np.sqrt(2 / np.pi) * np.exp(-(mean**2) / (2 * sigma**2)) + mean * (1 - 2 * norm.cdf(-mean / sigma))


def test_distance_of_gaussians_is_half_their_energy_distance(gaussian_pdfs):
    """Int (F - G)^2 = E|X - Y| - E|X - X'| / 2 - E|Y - Y'| / 2 (Szekely and Rizzo 2013, eq. 2.5)."""
    sigma_a, sigma_b, apart = 0.02, 0.03, 0.025
    across = folded_normal_mean(apart, np.hypot(sigma_a, sigma_b))
    expected = across - (sigma_a + sigma_b) / np.sqrt(np.pi)
    pdfs_a, pdfs_b = gaussian_pdfs(0.2, sigma_a), gaussian_pdfs(0.2 + apart, sigma_b)
    assert quadratic_distances(pdfs_a, pdfs_b, SDSS_GRID, SDSS_GRID)[0] == pytest.approx(expected, rel=5e-3)
    assert own_crps(pdfs_a, SDSS_GRID)[0] == pytest.approx(sigma_a / np.sqrt(np.pi), rel=5e-3)


def test_distance_is_what_truths_drawn_from_a_cost_b(calibrated, gaussian_pdfs):
    pdfs, z_spec = calibrated
    others = gaussian_pdfs(pdf.mean(pdfs, SDSS_GRID) + 0.01, 0.025)
    crps_a, crps_b = (metrics.crps(of, z_spec, SDSS_GRID) for of in (pdfs, others))
    for drawn, expected in (
        (crps_a, own_crps(pdfs, SDSS_GRID)),
        (crps_b - crps_a, quadratic_distances(pdfs, others, SDSS_GRID, SDSS_GRID)),
    ):
        assert abs(drawn.mean() - expected.mean()) < 3 * drawn.std() / np.sqrt(len(drawn))


def test_a_shift_by_a_fifth_of_sigma_loses_two_percent_of_the_crps(gaussian_pdfs):
    mean = np.linspace(0.1, 0.3, 600)  # more than one block of galaxies
    moved = pdf_distances(gaussian_pdfs(mean, 0.02), gaussian_pdfs(mean + 0.004, 0.02), SDSS_GRID, SDSS_GRID)
    assert moved.crps_loss == pytest.approx(0.02, rel=0.03)
    assert 0 < moved.median <= moved.p95 <= moved.largest


def test_blocks_change_nothing(rng):
    pdfs_a, pdfs_b = rng.dirichlet(np.ones(12), 600), rng.dirichlet(np.ones(20), 600)
    found, whole = pdf_distances(pdfs_a, pdfs_b, COARSE, FINE), quadratic_distances(pdfs_a, pdfs_b, COARSE, FINE)
    assert found.largest == pytest.approx(whole.max())
    assert found.p95 == pytest.approx(np.percentile(whole, 95))
    assert found.crps_loss == pytest.approx(whole.sum() / own_crps(pdfs_a, COARSE).sum())


@pytest.fixture(scope="module")
def wider(calibrated):
    """The calibrated PDFs with their spread made larger: the point estimates stay, the scores do not."""
    powered = calibrated[0] ** 0.5
    return powered / powered.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def pairs(calibrated, wider):
    pdfs, z_spec = calibrated
    return figure_pairs(*(metrics.galaxy_scores(of, z_spec, SDSS_GRID) for of in (pdfs, wider)))


def test_each_figure_and_its_error_is_what_the_model_has_alone(calibrated, wider, pairs):
    pdfs, z_spec = calibrated
    alone_a, alone_b = (metrics.summarise(metrics.galaxy_scores(of, z_spec, SDSS_GRID)) for of in (pdfs, wider))
    assert pairs.keys() == alone_a.keys() == metrics.FIGURES.keys()
    for name, pair in pairs.items():
        for score, alone in ((pair.a, alone_a[name]), (pair.b, alone_b[name])):
            assert score.value == alone.value
            assert score.error == pytest.approx(alone.error, rel=1e-12)


@pytest.mark.parametrize("name", ["crps", "cde_loss"])
def test_the_error_of_a_mean_is_that_of_the_mean_of_the_differences(calibrated, wider, pairs, name):
    pdfs, z_spec = calibrated
    scores_a, scores_b = (getattr(metrics, name)(of, z_spec, SDSS_GRID) for of in (pdfs, wider))
    difference, worsening = scores_b - scores_a, pairs[name].worsening
    assert worsening.value == pytest.approx(difference.mean())
    assert worsening.error == pytest.approx(difference.std() / np.sqrt(len(difference)), rel=0.1)
    assert worsening.error < np.hypot(pairs[name].a.error, pairs[name].b.error) / 2  # pairing pays


def test_wider_pdfs_are_worse_but_for_the_point_estimates(pairs):
    worse = {name for name, pair in pairs.items() if pair.is_worse(0.02)}
    assert worse == {"crps", "pit_ks", "cde_loss", "coverage_68", "coverage_95"}
    assert not any(pair.is_better(0.02) for pair in pairs.values())


def test_the_same_model_is_neither_worse_nor_better_even_without_tolerance(calibrated):
    scores = metrics.galaxy_scores(*calibrated, SDSS_GRID)
    for pair in figure_pairs(scores, scores, n_resamples=20).values():
        assert pair.worsening == Score(0.0, 0.0)
        assert not pair.is_worse(0.0)
        assert not pair.is_better(0.0)


def galaxies(dz, in_68):
    """Four galaxies without PDFs, but for whether an interval holds the truth."""
    return GalaxyScores(dz=np.full(4, dz), in_68=np.arange(4) < 4 * in_68)


@pytest.mark.parametrize(
    ("of_a", "of_b", "bias", "coverage"),
    [
        ((-0.02, 0.5), (0.01, 0.25), -0.01, 0.25),  # the bias is nearer to 0, the coverage farther from 0.68
        ((0.01, 1.0), (-0.03, 0.75), 0.02, -0.25),  # from 0.32 too much to 0.07 too much
        ((0.0, 0.5), (0.0, 1.0), 0.0, 0.14),  # from 0.18 too little to 0.32 too much
    ],
)
def test_worse_is_farther_from_the_best(of_a, of_b, bias, coverage):
    pairs = figure_pairs(galaxies(*of_a), galaxies(*of_b), n_resamples=10)
    assert pairs.keys() == {"bias", "sigma_mad", "outlier_fraction", "coverage_68"}
    assert pairs["bias"].worsening.value == pytest.approx(bias)
    assert pairs["coverage_68"].worsening.value == pytest.approx(coverage)


def test_tolerances_are_parts_of_as_figure(calibrated, pairs):
    dz = metrics.galaxy_scores(*calibrated, SDSS_GRID).dz
    assert pairs["cde_loss"].a.value < 0 < pairs["cde_loss"].unit
    assert pairs["cde_loss"].unit == -pairs["cde_loss"].a.value
    assert pairs["crps"].unit == pairs["crps"].a.value
    assert pairs["bias"].unit == metrics.sigma_mad(dz)
    assert pairs["coverage_68"].unit == pairs["pit_ks"].unit == 1.0


@pytest.mark.parametrize(
    ("worsening", "error", "worse", "better"),
    [(0.3, 0.1, True, False), (0.3, 0.16, False, False), (0.1, 0.01, False, False), (-0.3, 0.1, False, True)],
)
def test_only_what_is_beyond_two_errors_and_the_tolerance_counts(worsening, error, worse, better):
    pair = FigurePair(Score(2.0, 1.0), Score(2.0 + worsening, 1.0), Score(worsening, error), unit=2.0)
    assert pair.is_worse(0.1) is worse
    assert pair.is_better(0.1) is better


@pytest.mark.parametrize(("n_a", "n_b"), [(0, 0), (2, 3)])
def test_pairs_need_the_same_galaxies(n_a, n_b):
    with pytest.raises(InvalidInput, match=f"same galaxies, at least one, got {n_a} and {n_b}"):
        figure_pairs(GalaxyScores(np.zeros(n_a)), GalaxyScores(np.zeros(n_b)))


def table(pdfs, grid=SDSS_GRID, **columns):
    return replace(estimates.from_pdfs(pdfs, grid, include_pdf=True), **columns)


def test_the_same_answers_are_identical_and_one_bit_less_is_not(calibrated):
    a = table(calibrated[0][:50])
    assert np.isnan(a.ood_score).all()
    same = compare(a, table(calibrated[0][:50]), SDSS_GRID, z_spec=calibrated[1][:50])
    assert same.identical
    assert judge(same) == Verdict("identical", "scores")
    z_std = a.z_std.copy()
    z_std[-1] = np.nextafter(z_std[-1], 1)
    nearly = compare(a, replace(a, z_std=z_std), SDSS_GRID)
    assert not nearly.identical
    assert judge(nearly, tolerance=0.0) == Verdict("agree", "agreement")


def test_wider_pdfs_are_judged_worse_by_scores_and_different_without(calibrated, wider):
    pdfs, z_spec = calibrated
    scored = judge(compare(table(pdfs), table(wider), SDSS_GRID, z_spec=z_spec))
    assert (scored.word, scored.by, scored.passes) == ("worse", "scores", False)
    assert [reason.split()[0] for reason in scored.reasons] == [
        "crps", "pit_ks", "cde_loss", "coverage_68", "coverage_95"
    ]  # fmt: skip
    unscored = judge(compare(table(pdfs), table(wider), SDSS_GRID))
    assert (unscored.word, unscored.by, unscored.passes) == ("differ", "agreement", False)
    assert any(reason.startswith("the PDFs differ by ") for reason in unscored.reasons)


def test_a_better_model_is_no_worse_but_does_not_agree(calibrated, wider):
    pdfs, z_spec = calibrated
    better = compare(table(wider), table(pdfs), SDSS_GRID, z_spec=z_spec)
    assert judge(better) == Verdict("no worse", "scores")
    assert judge(better, by="agreement").word == "differ"
    assert judge(better, tolerance=10.0, by="agreement") == Verdict("agree", "agreement")


def test_few_galaxies_cannot_tell_by_scores(calibrated, wider):
    pdfs, z_spec = (values[:99] for values in calibrated)
    few = compare(table(pdfs), table(wider[:99]), SDSS_GRID, z_spec=z_spec)
    with pytest.raises(
        InvalidInput, match="expected 100 or more galaxies with true redshifts to judge by scores, got 99"
    ):
        judge(few)
    assert judge(few, by="agreement").word == "differ"


def test_each_kind_of_disagreement_has_its_reason(calibrated):
    a = table(calibrated[0][:100])
    z_mean, flags = a.z_mean.copy(), a.flags.copy()
    z_mean[:3] += 0.2
    flags[:7] ^= Flag.OUT_OF_DISTRIBUTION
    found = judge(compare(a, replace(a, z_mean=z_mean, flags=flags), SDSS_GRID))
    assert found.reasons == (
        "3.0 % of z_mean moved by more than 0.05 (1 + z)",
        "7.0 % of the galaxies have other flags",
    )


def test_galaxies_are_scored_where_both_grids_know_their_redshift(gaussian_pdfs):
    z_spec = np.array([0.1, 0.2, 0.3, 0.5, np.nan, -0.1])
    wide = RedshiftGrid(0.6, 90)
    pdfs_a, pdfs_b = gaussian_pdfs(np.full(6, 0.2), 0.05), gaussian_pdfs(np.full(6, 0.2), 0.05, wide)
    found = compare(table(pdfs_a), table(pdfs_b, wide), SDSS_GRID, wide, z_spec)
    assert (found.n_galaxies, found.n_scored, found.identical) == (6, 3, False)
    assert found.pdfs.largest < 1e-5
    assert found.scores["crps"].a.value == pytest.approx(
        metrics.crps(pdfs_a[:3], z_spec[:3], SDSS_GRID).mean(), rel=1e-12
    )
    assert found.scores["crps"].worsening.value == pytest.approx(0.0, abs=1e-4)


def test_what_cannot_be_compared_is_refused(calibrated):
    a = table(calibrated[0][:3])
    with pytest.raises(InvalidInput, match="the same galaxies"):
        compare(a, replace(a, object_id=np.array(["0", "1", "x"])), SDSS_GRID)
    with pytest.raises(InvalidPdfs, match="estimates with PDFs"):
        compare(a, replace(a, pdf=None), SDSS_GRID)
    with pytest.raises(InvalidRedshifts, match="expected 3 true redshifts"):
        compare(a, a, SDSS_GRID, z_spec=[0.1, 0.2])
    with pytest.raises(InvalidRedshifts, match="none of the 3 z_spec is on both grids: expected 0 <= z <= 0.4"):
        compare(a, a, SDSS_GRID, z_spec=[0.5, -1, np.nan])
    with pytest.raises(InvalidInput, match="to judge by scores"):
        judge(compare(a, replace(a, z_std=a.z_std + 1), SDSS_GRID), by="scores")
