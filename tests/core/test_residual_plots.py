"""Plots of residuals against a quantity."""

import numpy as np
import pytest
from scipy.stats import binomtest

from photoz import plots
from photoz.plots.dependence import wilson_interval


def test_running_median_follows_the_residuals(rng):
    magnitudes = rng.uniform(14, 18, 4000)
    dz = rng.normal(0.01 * (magnitudes - 16), 0.01)
    upper, lower, outliers = plots.residuals(magnitudes, dz, xlabel="r [mag]").axes
    (median,) = [line for line in upper.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(median.get_ydata(), 0.01 * (median.get_xdata() - 16), atol=3e-3)
    (sigma,) = [line for line in lower.lines if line.get_marker() == "s"]
    np.testing.assert_allclose(sigma.get_ydata(), 0.0105, rtol=0.2)
    assert outliers.get_xlabel() == "r [mag]"


def test_outliers_have_errors_where_there_are_none(rng):
    dz = np.where(np.arange(2000) < 500, 0.1, 0.0)
    axes = plots.residuals(np.arange(2000.0), dz, xlabel="row").axes[2]
    (curve,) = [line for line in axes.lines if line.get_marker() == "D"]
    np.testing.assert_array_equal(curve.get_ydata()[[0, 1, -1]], [100.0, 100.0, 0.0])
    (bars,) = axes.collections
    assert bars.get_segments()[-1][1, 1] > 0.3


@pytest.mark.parametrize(("k", "n"), [(0, 50), (3, 50), (50, 50)])
def test_errors_of_outliers_are_those_of_wilson(k, n):
    below, above = wilson_interval(np.array([k / n]), np.array([n]))
    expected = binomtest(k, n).proportion_ci(0.6826894921, "wilson")
    np.testing.assert_allclose([below[0], above[0]], [expected.low, expected.high], atol=1e-9)


def test_extreme_values_do_not_stretch_the_axis(rng):
    colours = np.append(rng.uniform(0.5, 1.1, 2000), [9.0, -40.0])
    low, high = plots.shown_range(colours)
    assert (low, high) == pytest.approx((0.5 - 0.25 * 0.6, 1.1 + 0.25 * 0.6), abs=0.02)
    axes, *_, outliers = plots.residuals(colours, np.where(np.abs(colours) > 5, 1.0, 0.0), xlabel="g - r").axes
    assert not outliers.lines[0].get_ydata().any()
    assert axes.get_xlim() == pytest.approx((low, high), abs=0.05)
    assert [text.get_text() for text in axes.texts] == ["2 beyond the axes"]
    assert plots.shown_range(np.linspace(14.0, 17.0, 100)) == (14.0, 17.0)
    dz = np.append(rng.normal(0, 0.01, 500), [0.2, -0.3])
    axes = plots.residuals(np.arange(502), dz, xlabel="row").axes[0]
    assert [text.get_text() for text in axes.texts] == ["2 beyond the axes"]
