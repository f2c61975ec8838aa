import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from photoz import pdf
from photoz.errors import InvalidPdfs
from photoz.flags import SECOND_PEAK_LIMIT
from photoz.grid import SDSS_GRID, RedshiftGrid

GRID = RedshiftGrid(0.6, 12)
WIDTH = SDSS_GRID.width

masses = hnp.arrays(float, (3, GRID.n_bins), elements=st.just(0.0) | st.floats(1e-3, 1.0))
any_pdfs = masses.filter(lambda m: (m.sum(axis=1) > 0).all()).map(lambda m: pdf.as_pdfs(m, GRID))


def uniform(grid=SDSS_GRID):
    return np.full((1, grid.n_bins), 1.0 / grid.n_bins)


def one_hot(index, grid=SDSS_GRID):
    return np.eye(grid.n_bins)[[index]]


def test_uniform_pdf_has_closed_forms():
    p = uniform()
    assert pdf.mean(p, SDSS_GRID)[0] == pytest.approx(0.2)
    assert pdf.median(p, SDSS_GRID)[0] == pytest.approx(0.2)
    assert pdf.std(p, SDSS_GRID)[0] == pytest.approx(0.4 / np.sqrt(12))
    assert pdf.quantile(p, SDSS_GRID, 0.3)[0] == pytest.approx(0.12)
    z_lo, z_hi = pdf.shortest_interval(p, SDSS_GRID, 0.68)
    assert z_hi[0] - z_lo[0] == pytest.approx(0.68 * 0.4)


@pytest.mark.parametrize("index", [0, 57, 179])
def test_one_hot_pdf_is_a_box_of_one_bin(index):
    p, centre = one_hot(index), SDSS_GRID.centres[index]
    for estimate in (pdf.mean, pdf.median, pdf.mode):
        assert estimate(p, SDSS_GRID)[0] == pytest.approx(centre)
    assert pdf.std(p, SDSS_GRID)[0] == pytest.approx(WIDTH / np.sqrt(12))
    z_lo, z_hi = pdf.shortest_interval(p, SDSS_GRID, 0.95)
    assert z_hi[0] - z_lo[0] == pytest.approx(0.95 * WIDTH)
    assert SDSS_GRID.edges[index] - 1e-12 <= z_lo[0] < z_hi[0] <= SDSS_GRID.edges[index + 1] + 1e-12
    assert pdf.odds(p, SDSS_GRID)[0] == pytest.approx(1.0)
    assert pdf.second_peak(p)[0] == 0.0


@given(any_pdfs, st.floats(0.0, 1.0))
def test_cdf_at_a_quantile_is_its_probability(p, q):
    np.testing.assert_allclose(pdf.cdf_at(p, GRID, pdf.quantile(p, GRID, q)), q, atol=1e-12)


@given(any_pdfs)
def test_cdf_rises_from_exactly_0_to_exactly_1(p):
    edges = pdf.cdf(p)
    assert (edges[:, 0] == 0).all()
    assert (edges[:, -1] == 1).all()
    assert (np.diff(edges, axis=1) >= 0).all()
    for index, z in enumerate(GRID.edges):
        np.testing.assert_allclose(pdf.cdf_at(p, GRID, np.full(3, z)), edges[:, index], atol=1e-12)


@given(any_pdfs, st.floats(0.05, 0.99))
def test_no_interval_of_the_same_mass_is_shorter(p, mass):
    z_lo, z_hi = pdf.shortest_interval(p, GRID, mass)
    np.testing.assert_allclose(pdf.cdf_at(p, GRID, z_hi) - pdf.cdf_at(p, GRID, z_lo), mass, atol=1e-9)
    for below in np.linspace(0.0, 1.0 - mass, 60):
        length = pdf.quantile(p, GRID, below + mass) - pdf.quantile(p, GRID, below)
        assert (z_hi - z_lo <= length + 1e-9).all()


@given(any_pdfs)
def test_estimates_stay_on_the_grid(p):
    for estimate in (pdf.mean, pdf.median, pdf.mode):
        assert GRID.contains(estimate(p, GRID)).all()
    assert (pdf.std(p, GRID) >= GRID.width / np.sqrt(12) - 1e-12).all()
    assert ((pdf.odds(p, GRID) >= 0) & (pdf.odds(p, GRID) <= 1 + 1e-12)).all()


@given(any_pdfs)
def test_moments_agree_with_numerical_integral(p):
    z = (np.arange(GRID.n_bins * 400) + 0.5) * GRID.width / 400
    density = np.repeat(p, 400, axis=1) / 400
    mean = density @ z
    np.testing.assert_allclose(pdf.mean(p, GRID), mean, atol=1e-12)
    np.testing.assert_allclose(pdf.std(p, GRID) ** 2, density @ z**2 - mean**2, atol=1e-8)


def test_rows_are_independent(rng):
    p = pdf.as_pdfs(rng.dirichlet(np.full(180, 0.1), 500), SDSS_GRID)
    together = (pdf.median(p, SDSS_GRID), *pdf.shortest_interval(p, SDSS_GRID, 0.68), pdf.odds(p, SDSS_GRID))
    assert [len(ends) for ends in pdf.shortest_interval(p[:0], SDSS_GRID, 0.68)] == [0, 0]
    for row in (0, 250, 499):
        one = p[[row]]
        alone = (pdf.median(one, SDSS_GRID), *pdf.shortest_interval(one, SDSS_GRID, 0.68), pdf.odds(one, SDSS_GRID))
        np.testing.assert_allclose([values[row] for values in together], np.ravel(alone), atol=1e-9)


def test_odds_are_the_mass_within_the_window(gaussian_pdfs):
    # mode at the centre of bin 89: 0.1989; a window of +- 1 sigma
    p = gaussian_pdfs(SDSS_GRID.centres[89], 0.03 * (1 + SDSS_GRID.centres[89]))
    assert pdf.odds(p, SDSS_GRID)[0] == pytest.approx(0.6827, abs=2e-3)


@pytest.mark.parametrize(("second", "is_two_peaked"), [(0.0, False), (0.05, False), (0.5, True)])
@pytest.mark.parametrize("at", [0.08, 0.32])
def test_second_peak_counts_if_it_is_prominent(gaussian_pdfs, second, is_two_peaked, at):
    p = gaussian_pdfs(0.2, 0.015) + second * gaussian_pdfs(at, 0.015)
    assert (pdf.second_peak(p)[0] >= SECOND_PEAK_LIMIT) == is_two_peaked


def test_shoulder_is_not_a_second_peak(gaussian_pdfs):
    assert pdf.second_peak(gaussian_pdfs(0.2, 0.02) + 0.4 * gaussian_pdfs(0.235, 0.02))[0] < SECOND_PEAK_LIMIT


def test_stack_integrates_to_the_number_of_galaxies(gaussian_pdfs):
    stack = pdf.stack(gaussian_pdfs(np.linspace(0.05, 0.35, 31), 0.02), SDSS_GRID)
    assert stack.sum() * WIDTH == pytest.approx(31)


def test_masses_are_scaled_to_sum_to_1():
    p = pdf.as_pdfs([[2] + [0] * 178 + [6]], SDSS_GRID)
    assert (p[0, 0], p[0, -1], p.sum()) == (0.25, 0.75, 1.0)
    assert p.dtype == np.float64


@pytest.mark.parametrize(
    ("pdfs", "reason"),
    [
        (np.ones(180), r"shape \(n, 180\), got \(180,\)"),
        (np.ones((2, 90)), r"shape \(n, 180\), got \(2, 90\)"),
        (np.eye(180)[:3] - 0.1, "negative"),
        (np.full((1, 180), np.nan), "finite"),
        (np.full((1, 180), np.inf), "finite"),
        (np.eye(180)[:3] * [[1], [0], [1]], "pdf 1 has no finite mass"),
        (np.full((1, 180), 1e308), "pdf 0 has no finite mass"),
        ([["a"] * 180], "numbers"),
        ([[1.0], [1.0, 2.0]], "numbers"),
    ],
)
def test_invalid_pdfs_are_refused(pdfs, reason):
    with pytest.raises(InvalidPdfs, match=reason):
        pdf.as_pdfs(pdfs, SDSS_GRID)
