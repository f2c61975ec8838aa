"""Plots that show whether PDFs are calibrated: PIT histogram, Q-Q plot of the PIT, coverage."""

import math

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from photoz import metrics
from photoz.grid import FloatArray, RedshiftGrid
from photoz.plots.style import BLUE, COLUMN, SMALL, Figure, label_axes, note, single_panel, three_decimals

# sqrt(n) times the Kolmogorov-Smirnov distance that 68 and 95 % of uniform samples do not exceed (Kolmogorov 1933).
KS_68, KS_95 = 0.9561, 1.3581

QQ_POINTS = 500  # largest number of points of a Q-Q plot

COVERAGE_MAX = 20_000  # galaxies; the coverage is then known to 0.3 %, finer than the plot shows


def pit_histogram(pit: FloatArray) -> Figure:
    """Histogram of the probability integral transform, (n,) from `metrics.pit`.

    The bands hold a bin of calibrated PDFs in 68 and 95 % of all cases (binomial).
    """
    n = len(pit)
    n_bins = int(np.clip(n // 20, 5, 20))
    counts, edges = np.histogram(pit, n_bins, (0.0, 1.0))
    sigma = math.sqrt((n_bins - 1) / n)  # of counts * n_bins / n, when counts are binomial with p = 1 / n_bins
    figure, axes = single_panel("PIT = F(true redshift)", "density")
    axes.axhspan(1 - 1.96 * sigma, 1 + 1.96 * sigma, color="0.92", linewidth=0, label="calibrated, 95 %")
    axes.axhspan(1 - sigma, 1 + sigma, color="0.82", linewidth=0, label="calibrated, 68 %")
    axes.axhline(1.0, color="black", linestyle="--", linewidth=0.8)
    axes.stairs(counts * n_bins / n, edges, baseline=None, color=BLUE, linewidth=1.2)
    axes.set(xlim=(0.0, 1.0), ylim=(0.0, 1.35 * max(float(counts.max()) * n_bins / n, 1 + 1.96 * sigma)))
    axes.legend(loc="upper right", fontsize=SMALL, frameon=False)
    note(axes, f"n = {n:,}\nKS distance = {three_decimals(metrics.uniform_ks(pit))}")
    return figure


def pit_qq(pit: FloatArray) -> Figure:
    """Quantiles of the probability integral transform, (n,) from `metrics.pit`, against those of calibrated PDFs.

    The lower panel shows the difference. The bands hold the whole curve of calibrated PDFs in 68 and in 95 % of all
    cases (Kolmogorov).
    """
    n = len(pit)
    ordered, expected = np.sort(pit), (np.arange(n) + 0.5) / n
    shown = np.unique(np.linspace(0, n - 1, min(n, QQ_POINTS)).astype(int))
    figure, upper, lower = _identity_panels("quantile of calibrated PDFs", "quantile of the PIT")
    for limit, shade, label in ((KS_95, "0.92", "calibrated, 95 %"), (KS_68, "0.82", "calibrated, 68 %")):
        reach = limit / math.sqrt(n)
        lower.axhspan(-reach, reach, color=shade, linewidth=0, label=label)
    upper.plot(expected[shown], ordered[shown], "-", color=BLUE, linewidth=1.2)
    lower.plot(expected[shown], (ordered - expected)[shown], "-", color=BLUE, linewidth=1.0)
    upper.legend(*lower.get_legend_handles_labels(), loc="lower right", fontsize=SMALL, frameon=False)
    note(upper, f"n = {n:,}\nKS distance = {three_decimals(metrics.uniform_ks(pit))}")
    return figure


def _identity_panels(xlabel: str, ylabel: str) -> tuple[Figure, Axes, Axes]:
    """Return a figure with a unit square, the dashed identity in it, and a lower panel for the difference from it."""
    figure = Figure(figsize=(COLUMN, 2.85), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    upper.plot([0, 1], [0, 1], "k--", linewidth=0.8)
    lower.axhline(0.0, color="black", linestyle="--", linewidth=0.8)
    label_axes(upper, "", ylabel)
    label_axes(lower, xlabel, "difference")
    upper.set(xlim=(0.0, 1.0), ylim=(0.0, 1.0))
    return figure, upper, lower


def coverage(pdfs: FloatArray, grid: RedshiftGrid, z_spec: npt.ArrayLike) -> Figure:
    """Fraction of galaxies whose shortest interval with a given probability holds the true redshift.

    Below the diagonal the PDFs, (n, n_bins), are too narrow. More than 20,000 galaxies are thinned out regularly.
    """
    step = math.ceil(len(pdfs) / COVERAGE_MAX)
    pdfs, z_spec = pdfs[::step], np.asarray(z_spec, dtype=np.float64)[::step]
    levels = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.68, 0.8, 0.9, 0.95, 0.99])
    observed = np.array([metrics.covered(pdfs, z_spec, grid, float(level)).mean() for level in levels])
    figure, upper, lower = _identity_panels("probability of the interval", "galaxies inside")
    fine = np.linspace(0.0, 1.0, 101)
    sigma = np.sqrt(fine * (1 - fine) / len(pdfs))
    upper.plot(levels, observed, "o-", color=BLUE, markersize=3, linewidth=1.0)
    for n_sigma, shade, label in ((1.96, "0.92", "calibrated, 95 %"), (1.0, "0.82", "calibrated, 68 %")):
        lower.fill_between(fine, -n_sigma * sigma, n_sigma * sigma, color=shade, linewidth=0, label=label)
    lower.plot(levels, observed - levels, "o-", color=BLUE, markersize=3, linewidth=1.0)
    upper.legend(*lower.get_legend_handles_labels(), loc="lower right", fontsize=SMALL, frameon=False)
    marked = [f"in {100 * level:.0f} % interval: {100 * observed[levels == level][0]:.1f} %" for level in (0.68, 0.95)]
    note(upper, "\n".join([f"n = {len(pdfs):,}", *marked]))
    return figure
