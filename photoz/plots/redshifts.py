"""Plots of the redshifts of a sample: predicted against true, and their distribution."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes

from photoz import metrics, pdf
from photoz.grid import FloatArray, RedshiftGrid
from photoz.metrics import OUTLIER_CUT, Score
from photoz.plots.style import (
    FONT,
    GREEN,
    GREY,
    MANY_POINTS,
    RED,
    SMALL,
    Figure,
    draw_points,
    note,
    single_panel,
    three_decimals,
)

# Labels of the metrics in the scatter plot.
SCATTER_TEXT = {
    "bias": "pred_bias",
    "sigma_mad": "MAD deviation",
    "outlier_fraction": "fraction of outliers",
    "crps": "average CRPS",
}


def scatter(z_spec: npt.ArrayLike, z_phot: npt.ArrayLike, *, scores: Mapping[str, Score] | None = None) -> Figure:
    """Predicted against true redshift, (n,) each, with metrics to three decimals.

    The metrics are `scores`, or by default those that need no PDFs. pred_bias is `photoz.metrics.bias`, MAD deviation
    is `photoz.metrics.sigma_mad`.
    """
    z_spec, z_phot = np.asarray(z_spec, dtype=np.float64), np.asarray(z_phot, dtype=np.float64)
    top = float(max(z_spec.max(), z_phot.max()))
    height = 2.85 if len(z_spec) > MANY_POINTS else 3.4  # the colour bar of a density needs some of the width
    figure, axes = single_panel("true redshift $z_\\mathrm{spec}$", "predicted redshift $z_\\mathrm{phot}$", height)
    is_density = draw_points(axes, z_spec, z_phot, (0.0, top, 0.0, top), "viridis", floor=1.0)
    if is_density:
        bar = figure.colorbar(axes.collections[0], ax=axes, fraction=0.05, pad=0.02, format="%d")
        bar.set_label("galaxies per cell", fontsize=FONT)
        bar.ax.tick_params(labelsize=SMALL)
    ends = np.array([0.0, top])
    axes.plot(ends, ends, "k--", linewidth=0.9)
    for sign, label in ((1.0, f"|Δz| = {OUTLIER_CUT:g}"), (-1.0, None)):
        axes.plot(ends, ends + sign * OUTLIER_CUT * (1.0 + ends), ":", color=GREY, linewidth=0.8, label=label)
    axes.set(xlim=(0.0, 1.04 * top), ylim=(0.0, 1.04 * top), aspect="equal")
    axes.legend(loc="lower right", fontsize=SMALL, frameon=False)
    values = {name: score.value for name, score in (scores or _scores_of_points(z_spec, z_phot)).items()}
    lines = [f"{label} = {three_decimals(values[name])}" for name, label in SCATTER_TEXT.items() if name in values]
    note(axes, "\n".join([f"n = {len(z_spec):,}", *lines]))
    return figure


def _scores_of_points(z_spec: FloatArray, z_phot: FloatArray) -> dict[str, Score]:
    return metrics.summarise(metrics.GalaxyScores(metrics.residuals(z_phot, z_spec)), n_resamples=2)


def stacked(pdfs: FloatArray, grid: RedshiftGrid, z_spec: npt.ArrayLike) -> Figure:
    """Sum of the PDFs, (n, n_bins), and the histogram of the true redshifts, (n,)."""
    step = _coarsening(grid.n_bins, len(pdfs))
    edges = grid.edges[::step]
    counts = np.histogram(np.asarray(z_spec, dtype=np.float64), edges)[0]
    width = step * grid.width
    figure, axes = single_panel("redshift", "galaxies per unit redshift")
    axes.stairs(counts / width, edges, color=GREEN, linewidth=1.0, label="true redshifts (Poisson errors)")
    centres = 0.5 * (edges[:-1] + edges[1:])
    axes.errorbar(centres, counts / width, np.sqrt(counts) / width, fmt="none", ecolor=GREEN, elinewidth=0.8)
    axes.plot(grid.centres, pdf.stack(pdfs, grid), "--", color=RED, linewidth=1.2, label="sum of the PDFs")
    _finish(axes, grid)
    return figure


def tomographic(names: Sequence[str], densities: FloatArray, errors: FloatArray, grid: RedshiftGrid) -> Figure:
    """Redshift distributions of m bins, and the errors of each, (m, n_bins) per unit redshift."""
    figure, axes = single_panel("redshift", "probability per unit redshift")
    colours = colormaps["viridis"](np.linspace(0.0, 0.85, len(names)))
    for name, density, error, colour in zip(names, densities, errors, colours, strict=True):
        axes.plot(grid.centres, density, color=colour, linewidth=1.2, label=name)
        axes.fill_between(grid.centres, density - error, density + error, color=colour, alpha=0.3, linewidth=0)
    _finish(axes, grid)
    return figure


def _finish(axes: Axes, grid: RedshiftGrid) -> None:
    axes.set_xlim(0.0, grid.z_max)
    axes.set_ylim(bottom=0.0)
    axes.legend(loc="upper right", fontsize=SMALL, frameon=False)


def _coarsening(n_bins: int, n_galaxies: int) -> int:
    """Number of bins of the grid to join: a divisor of n_bins that leaves at most 45, and some galaxies in each."""
    most = min(45, max(n_galaxies // 10, 10))
    return next(step for step in range(1, n_bins + 1) if n_bins % step == 0 and n_bins // step <= most)
