"""PDFs on a redshift grid: the grid, estimates and recalibration by hand, and what is refused."""

from itertools import product

import numpy as np
import pytest
from pydantic import ValidationError

from photoz import pdf
from photoz.calibration import Calibration, apply
from photoz.errors import InvalidPdfs, InvalidRedshifts
from photoz.grid import SDSS_GRID, RedshiftGrid
from tests.pdfs import gaussian_pdfs

FOUR, RISING = RedshiftGrid(0.8, 4), np.array([[0.1, 0.2, 0.3, 0.4]])  # a PDF that can be calculated by hand


def test_bins_hold_their_lower_edge_and_centre_but_not_their_upper_edge():
    for grid in (SDSS_GRID, RedshiftGrid(0.6, 90), RedshiftGrid(0.7, 7)):
        for inside in (grid.edges[:-1], grid.centres, np.nextafter(grid.edges[1:], 0.0)):
            np.testing.assert_array_equal(grid.bin_index(inside), np.arange(grid.n_bins))
        assert grid.bin_index(grid.z_max) == grid.n_bins - 1
    grid = RedshiftGrid(0.6, 3)
    np.testing.assert_allclose(grid.edges, [0.0, 0.2, 0.4, 0.6], rtol=1e-15)
    np.testing.assert_allclose(grid.centres, [0.1, 0.3, 0.5], rtol=1e-15)
    assert grid.width == pytest.approx(0.2, rel=1e-15)
    assert RedshiftGrid(0.4, 180) == SDSS_GRID != RedshiftGrid(0.4, 90)
    for shape in ((), (2, 3), (0,)):
        np.testing.assert_array_equal(SDSS_GRID.bin_index(np.full(shape, 0.1)), np.full(shape, 45))
        np.testing.assert_array_equal(SDSS_GRID.contains(np.full(shape, 0.1)), np.full(shape, True))
    for values in (grid.edges, grid.centres):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 1.0


def test_invalid_grids_redshifts_and_pdfs_are_refused():
    for z in (np.nan, -1e-12, 0.4000001, np.inf, -np.inf):
        assert not SDSS_GRID.contains(z)
        message = f"^1 of 2 redshifts are not on the grid: expected 0 <= z <= 0.4, got for example {z:g}$"
        with pytest.raises(InvalidRedshifts, match=message):
            SDSS_GRID.bin_index([0.1, z])
    assert [RedshiftGrid(z_max, 2).z_max for z_max in (1e-3, 1e3)] == [1e-3, 1e3]
    for z_max, n_bins in (*((z_max, 180) for z_max in (0.0, 0.99e-3, 1001.0, np.nan, np.inf)), (0.4, 1)):
        with pytest.raises(ValidationError):
            RedshiftGrid(z_max, n_bins)
    for pdfs, reason in (
        (np.ones(180), r"^expected pdfs of shape \(n, 180\), got \(180,\)$"),
        (np.ones((2, 90)), r"^expected pdfs of shape \(n, 180\), got \(2, 90\)$"),
        (np.eye(180)[:3] - 0.1, "^expected finite pdfs without negative mass$"),
        (np.full((1, 180), np.nan), "^expected finite pdfs"),
        (np.full((1, 180), np.inf), "^expected finite pdfs"),
        (np.eye(180)[:3] * [[1], [0], [1]], "^pdf 1 has no finite mass above 0$"),
        (np.full((1, 180), 1e308), "^pdf 0 has no finite mass"),
        ([["a"] * 180], "^expected pdfs as numbers: could not"),
    ):
        with pytest.raises(InvalidPdfs, match=reason):
            pdf.as_pdfs(pdfs, SDSS_GRID)


def test_estimates_by_hand():
    for estimate, expected in (
        (pdf.mean, 0.5),
        (lambda p, grid: pdf.quantile(p, grid, 0.5), 0.4 + 0.2 * 2 / 3),
        (pdf.mode, 0.7),
        (pdf.std, np.sqrt(0.29 + 0.04 / 12 - 0.25)),
        (pdf.odds, 0.204),  # from 0.649 to 0.751
        (lambda p, grid: pdf.quantile(p, grid, 0.05), 0.1),
        (lambda p, grid: pdf.quantile(p, grid, 0.0), 0.0),
        (lambda p, grid: pdf.quantile(p, grid, 0.6), 0.6),
        (lambda p, grid: pdf.quantile(p, grid, 1.0), 0.8),
    ):
        assert estimate(RISING, FOUR) == pytest.approx([expected], rel=1e-12)
        mirrored = estimate(np.vstack([RISING[:, ::-1], RISING]), FOUR)
        assert mirrored[1] == pytest.approx(expected, rel=1e-12)


def test_cdf_stack_scaling_and_second_peak_by_hand():
    np.testing.assert_allclose(pdf.cdf(2 * RISING), [[0.0, 0.1, 0.3, 0.6, 1.0]], rtol=1e-15)
    assert pdf.cdf(np.full((1, 49), 1 / 49))[0, -1] == 1.0
    both = np.vstack([RISING, RISING[:, ::-1]])
    np.testing.assert_allclose(pdf.cdf_at(both, FOUR, [0.5, 0.3]), [0.45, 0.55], rtol=1e-12)
    at = pdf.cdf_at(both, FOUR, [[-1.0, 0.2, 0.7], [0.8, 2.0, 0.05]])
    np.testing.assert_allclose(at, [[0.0, 0.1, 0.8], [1.0, 1.0, 0.1]], rtol=1e-12)
    np.testing.assert_allclose(pdf.stack(both, FOUR), [2.5, 2.5, 2.5, 2.5], rtol=1e-12)
    scaled = pdf.as_pdfs([[0, 2, 0, 6]], FOUR)
    assert (scaled.tolist(), scaled.dtype) == ([[0.0, 0.25, 0.0, 0.75]], np.float64)
    outputs = np.array([[1, 3], [0, 0], [np.nan, 1], [np.inf, 1], [-1, 2], [0, 2]], np.float32)
    expected = [[0.25, 0.75], *[[np.nan, np.nan]] * 4, [0.0, 1.0]]
    np.testing.assert_array_equal(pdf.from_network(outputs), expected)
    for *row, expected in (
        (0.3, 0.1, 0.4, 0.2, 0.5),
        (0.2, 0.4, 0.1, 0.3, 0.5),
        (0.2, 0.1, 0.4, 0.05, 0.25, 0.5),
        (0.1, 0.2, 0.4, 0.3, 0.0),
        (0.4, 0.2, 0.3, 0.1, 0.25),
    ):
        limits = (expected * (1 - 1e-9) or 1e-9, expected + 1e-9)
        found = [pdf.has_second_peak(np.array([row, row]), limit).tolist() for limit in limits]
        assert found == [[expected > 0] * 2, [False] * 2]


def test_shortest_interval_by_hand_and_against_others_of_the_same_mass(rng):
    for row, mass, expected in (
        (RISING[0], 0.7, (0.4, 0.8)),
        (RISING[0], 0.5, (0.4 + 0.4 / 3, 0.8)),
        (RISING[0, ::-1], 0.5, (0.0, 0.4 - 0.4 / 3)),
        ([0.1, 0.5, 0.3, 0.1], 0.68, (0.2, 0.52)),
        ([0.1, 0.3, 0.5, 0.1], 0.68, (0.28, 0.6)),
        ([0.0, 1.0, 0.0, 0.0], 0.95, (0.2, 0.39)),
    ):
        rows = np.array([[0.25] * 4, row, row, RISING[0], row])
        z_lo, z_hi = pdf.shortest_interval(rows, FOUR, mass)
        for i in (1, 2, 4):
            assert (z_lo[i], z_hi[i]) == pytest.approx(expected, abs=1e-12)
        assert z_hi[0] - z_lo[0] == pytest.approx(0.8 * mass)
        assert [len(ends) for ends in pdf.shortest_interval(rows[:0], FOUR, mass)] == [0, 0]
    grid, masses = RedshiftGrid(0.6, 12), rng.dirichlet(np.full(12, 0.5), 300)
    pdfs = pdf.as_pdfs(np.where(masses < 0.02, 0.0, masses), grid)
    for mass in (0.05, 0.3, 0.68, 0.95, 0.99):
        z_lo, z_hi = pdf.shortest_interval(pdfs, grid, mass)
        np.testing.assert_allclose(pdf.cdf_at(pdfs, grid, z_hi) - pdf.cdf_at(pdfs, grid, z_lo), mass, atol=1e-9)
        for below in np.linspace(0.0, 1.0 - mass, 60):
            length = pdf.quantile(pdfs, grid, below + mass) - pdf.quantile(pdfs, grid, below)
            assert (z_hi - z_lo <= length + 1e-9).all()


def test_recalibration_by_hand():
    for calibration, expected in (
        (Calibration(temperature=0.5), [0.01 / 0.3, 0.04 / 0.3, 0.09 / 0.3, 0.16 / 0.3]),
        (Calibration(temperature=2.0), np.sqrt(RISING[0]) / np.sqrt(RISING[0]).sum()),
        (Calibration(a=2.0), [0.01, 0.08, 0.27, 0.64]),  # differences of 0.1^2, 0.3^2, 0.6^2, 1
        (Calibration(b=2.0), [0.19, 0.32, 0.33, 0.16]),  # of 1 - 0.9^2, 1 - 0.7^2, 1 - 0.4^2, 1
        (Calibration(a=2.0, b=3.0), [0.029701, 0.216728, 0.491427, 0.262144]),  # of 1 - 0.99^3, 1 - 0.91^3, ...
        (Calibration(0.5, 2.0, 1.0), [1 / 900, 24 / 900, 171 / 900, 704 / 900]),  # of (1/30)^2, (5/30)^2, (14/30)^2, 1
    ):
        np.testing.assert_allclose(apply(RISING, calibration)[0], expected, rtol=1e-12)
        np.testing.assert_allclose(apply(np.vstack([RISING, RISING[:, ::-1]]), calibration)[0], expected, rtol=1e-12)
        for nothing in (None, Calibration(), Calibration(1.0, 1.0, 1.0)):
            assert apply(RISING, nothing) is RISING


def test_recalibrated_pdfs_are_pdfs_and_parameters_are_from_a_hundredth_to_a_hundred():
    gaussians = gaussian_pdfs(np.array([0.0, 0.05, 0.2, 0.39]), [0.004, 0.01, 0.05, 0.2])
    for temperature, (a, b) in product((0.05, 0.8, 20.0), ((1.0, 1.0), (3.0, 0.3), (0.05, 20.0))):
        for given_pdfs in (gaussians, np.eye(SDSS_GRID.n_bins), np.full((1, 180), 1 / 180)):
            recalibrated = apply(given_pdfs, Calibration(temperature, a, b))
            assert (recalibrated >= 0.0).all()
            np.testing.assert_allclose(recalibrated.sum(axis=1), 1.0, atol=1e-12)
    for name in ("temperature", "a", "b"):
        assert [getattr(Calibration(**{name: allowed}), name) for allowed in (0.01, 100.0)] == [0.01, 100.0]
        for value in (0.0099, 100.1, np.inf, np.nan):
            with pytest.raises(ValidationError):
                Calibration(**{name: value})
