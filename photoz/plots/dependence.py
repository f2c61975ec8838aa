"""Plot of residuals against a quantity such as redshift, magnitude or colour."""

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from photoz import metrics
from photoz.grid import FloatArray, IntArray
from photoz.metrics import OUTLIER_CUT
from photoz.plots.style import BLUE, COLUMN, FONT, GREY, SMALL, Figure, draw_points, label_axes, note

MARKS: dict[str, Any] = {"color": BLUE, "markersize": 3.0, "linewidth": 1.0, "elinewidth": 0.9, "capsize": 1.5}

BIN_MIN = 25  # galaxies behind a running median


def residuals(values: npt.ArrayLike, dz: FloatArray, *, xlabel: str) -> Figure:
    """Residuals dz, (n,), against a quantity, (n,): running median, 68 % band, sigma_mad and outliers in equal bins.

    The lower panels are left out if there are too few galaxies for a running median. The errors of the median,
    1.253 sigma / sqrt(n), and of sigma_mad, 1.167 sigma / sqrt(n), are those of a Gaussian sample; those of the outlier
    fraction are the 68 % interval of Wilson (1927, JASA 22, 209), which is valid for 0 outliers too. `xlabel` is the
    quantity with its unit.
    """
    values = np.asarray(values, dtype=np.float64)
    groups = _equal_bins(values)
    heights = (4, 2, 2) if groups else (1,)
    figure = Figure(figsize=(COLUMN, 4.2 if groups else 2.4), layout="constrained")
    panels = figure.subplots(len(heights), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    _draw_residuals(panels[0], values, dz)
    if groups:
        centres = np.array([np.median(values[group]) for group in groups])
        _draw_running(panels[0], panels[1], centres, [dz[group] for group in groups])
        _draw_outliers(panels[2], centres, [dz[group] for group in groups])
    panels[-1].set_xlabel(xlabel, fontsize=FONT)
    figure.align_ylabels(list(panels))
    return figure


def shown_range(values: FloatArray) -> tuple[float, float]:
    """Range of an axis for finite values, (n,): the central 99 %, a quarter wider on either side, within the values.

    Over the full range, a few extreme colours would squeeze all other galaxies together.
    """
    low, high = np.percentile(values, (0.5, 99.5))
    margin = 0.25 * (high - low)
    return float(max(low - margin, values.min())), float(min(high + margin, values.max()))


def _equal_bins(values: FloatArray) -> list[IntArray]:
    """Indices of the galaxies in each of several equal bins, without the bins of fewer than `BIN_MIN`."""
    n_bins = int(np.clip(len(values) // 60, 4, 12))
    low, high = shown_range(values)
    which = np.searchsorted(np.linspace(low, high, n_bins + 1)[1:-1], values, side="right")
    inside = (values >= low) & (values <= high)
    groups = [np.flatnonzero(inside & (which == index)) for index in range(n_bins)]
    return [group for group in groups if len(group) >= BIN_MIN]


def _draw_residuals(axes: Axes, values: FloatArray, dz: FloatArray) -> None:
    limit = max(1.5 * OUTLIER_CUT, 5.0 * metrics.sigma_mad(dz))
    low, high = shown_range(values)
    margin = 0.02 * (high - low) or 0.05
    left, right = low - margin, high + margin
    draw_points(axes, values, dz, (left, right, -limit, limit), "Greys", floor=0.3)
    axes.axhline(0.0, color="black", linestyle="--", linewidth=0.8)
    for cut in (-OUTLIER_CUT, OUTLIER_CUT):
        axes.axhline(cut, color=GREY, linestyle=":", linewidth=0.8)
    axes.set(xlim=(left, right), ylim=(-limit, limit))
    label_axes(axes, "", "Δz = ($z_\\mathrm{phot} - z_\\mathrm{spec}$) / (1 + $z_\\mathrm{spec}$)")
    if n_outside := int(((np.abs(dz) > limit) | (values < left) | (values > right)).sum()):
        note(axes, f"{n_outside:,} beyond the axes")


def _draw_running(upper: Axes, lower: Axes, x: FloatArray, groups: list[FloatArray]) -> None:
    low, middle, high = np.array([np.percentile(dz, (16, 50, 84)) for dz in groups]).T
    sigma = np.array([metrics.sigma_mad(dz) for dz in groups])
    root_n = np.sqrt([len(dz) for dz in groups])
    upper.fill_between(x, low, high, color=BLUE, alpha=0.25, linewidth=0, label="68 % of galaxies")
    upper.errorbar(x, middle, 1.253 * sigma / root_n, fmt="o-", label="running median", **MARKS)
    lower.errorbar(x, sigma, 1.167 * sigma / root_n, fmt="s-", **MARKS)
    lower.set_ylim(bottom=0.0)
    label_axes(lower, "", "$σ_\\mathrm{MAD}$")
    upper.legend(loc="lower left", ncols=2, fontsize=SMALL, frameon=False)


def _draw_outliers(axes: Axes, x: FloatArray, groups: list[FloatArray]) -> None:
    fractions, n = np.array([metrics.outlier_fraction(dz) for dz in groups]), np.array([len(dz) for dz in groups])
    below, above = wilson_interval(fractions, n)
    errors = 100 * np.array([fractions - below, above - fractions])
    axes.errorbar(x, 100 * fractions, errors, fmt="D-", **MARKS)
    axes.set_ylim(bottom=0.0)
    label_axes(axes, "", "outliers [%]")


def wilson_interval(fractions: FloatArray, n: IntArray) -> tuple[FloatArray, FloatArray]:
    """68 % interval of fractions among n, (m,) each: where |observed - true| < sqrt(true (1 - true) / n)."""
    middle = (fractions + 0.5 / n) / (1.0 + 1.0 / n)
    half = np.sqrt(fractions * (1.0 - fractions) / n + 0.25 / n**2) / (1.0 + 1.0 / n)
    # Without these limits rounding makes an error bar negative where all or none are outliers.
    return np.minimum(middle - half, fractions), np.maximum(middle + half, fractions)
