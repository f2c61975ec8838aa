"""Figures from arrays: each function returns a matplotlib Figure and leaves no global state behind.

Sizes are those of one or two columns of a journal, colours those of Okabe and Ito (2008), which colour-blind readers
tell apart; what differs by colour differs by line style as well.
"""

import io
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from photoz import metrics, pdf
from photoz.grid import FloatArray, IntArray, RedshiftGrid
from photoz.metrics import OUTLIER_CUT, Score

COLUMN, PAGE = 3.5, 7.1  # inches: the width of one column and of two
FONT, SMALL = 8.0, 7.0  # points
BLUE, RED, GREEN, GREY = "#0072B2", "#D32F1F", "#009E73", "#7A7A7A"

MANY_POINTS = 500  # beyond which dots hide one another and a density says more
BIN_MIN = 25  # galaxies behind a running median
COVERAGE_MAX = 20_000  # galaxies that tell a coverage to 0.3 %, finer than the eye
ID_LENGTH = 24  # characters of an object_id that fit over a panel

# What the scatter plot prints, by figure of merit; the words are those that its users know.
SCATTER_TEXT = {
    "bias": "pred_bias",
    "sigma_mad": "MAD deviation",
    "outlier_fraction": "fraction of outliers",
    "crps": "average CRPS",
}

# Nothing that changes from run to run, such as a date, goes into a file.
METADATA: Mapping[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def render(figure: Figure, format: Literal["png", "svg", "pdf"]) -> bytes:
    """Draw a figure; the same figure gives the same bytes.

    Parameters
    ----------
    figure : Figure
        From one of the functions here.
    format : {"png", "svg", "pdf"}
        PNG has 300 dots an inch.

    Returns
    -------
    bytes
        The file.
    """
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "photoz"}):  # otherwise the identifiers in an SVG are random
        figure.savefig(buffer, format=format, dpi=300, metadata=METADATA[format])
    return buffer.getvalue()


def scatter(z_spec: npt.ArrayLike, z_phot: npt.ArrayLike, *, scores: Mapping[str, Score] | None = None) -> Figure:
    """Predicted against true redshift, with the figures of merit to three decimals.

    Parameters
    ----------
    z_spec, z_phot : (n,) array_like of float
        True and predicted redshifts, at least one.
    scores : mapping of str to Score, optional
        From `metrics.summarise`. Without it the figures that need no PDF are computed here.

    Returns
    -------
    Figure
        One column wide.
    """
    z_spec, z_phot = np.asarray(z_spec, dtype=np.float64), np.asarray(z_phot, dtype=np.float64)
    top = float(max(z_spec.max(), z_phot.max()))
    height = 2.85 if len(z_spec) > MANY_POINTS else 3.4  # the colour bar of a density takes from the width
    figure = Figure(figsize=(COLUMN, height), layout="constrained")
    axes = figure.subplots()
    _label(axes, "true redshift $z_\\mathrm{spec}$", "predicted redshift $z_\\mathrm{phot}$")
    is_density = _draw_points(axes, z_spec, z_phot, (0.0, top, 0.0, top), "viridis", floor=1.0)
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
    lines = [f"{label} = {_three(values[name])}" for name, label in SCATTER_TEXT.items() if name in values]
    _note(axes, "\n".join([f"n = {len(z_spec):,}", *lines]))
    return figure


def _scores_of_points(z_spec: FloatArray, z_phot: FloatArray) -> dict[str, Score]:
    return metrics.summarise(metrics.GalaxyScores(metrics.residuals(z_phot, z_spec)), n_resamples=2)


def _three(value: float) -> str:
    return f"{round(value, 3) + 0.0:.3f}".replace("-", "−")  # + 0.0: no "-0.000"


def pdf_panels(
    pdfs: FloatArray,
    grid: RedshiftGrid,
    z_spec: npt.ArrayLike,
    *,
    num_images: int = 9,
    seed: int = 0,
    object_id: npt.ArrayLike | None = None,
) -> Figure:
    """PDFs of some galaxies chosen at random, with their predicted (mean) and true redshift.

    Parameters
    ----------
    pdfs : (n, n_bins) float
        Probability mass per bin; drawn as density at the bin centres.
    grid : RedshiftGrid
        The grid.
    z_spec : (n,) array_like of float
        True redshifts.
    num_images : int
        Number of panels; never more than there are galaxies.
    seed : int
        Of the choice.
    object_id : (n,) array_like of str, optional
        Names to write over the panels.

    Returns
    -------
    Figure
        Up to two columns wide, as square an array of panels as possible.
    """
    z_spec, z_mean = np.asarray(z_spec, dtype=np.float64), pdf.mean(pdfs, grid)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(pdfs))[: max(num_images, 1)])
    columns = math.ceil(math.sqrt(len(chosen)))
    rows = math.ceil(len(chosen) / columns)
    size = (max(COLUMN, 2.37 * columns), 0.35 + 1.75 * rows)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    names = None if object_id is None else np.asarray(object_id).astype(str)
    for axes, galaxy in zip(panels, chosen, strict=False):
        _draw_pdf(axes, pdfs[galaxy], grid, z_mean[galaxy], z_spec[galaxy])
        if names is not None:
            axes.set_title(_printable(names[galaxy]), fontsize=SMALL, pad=2.5, parse_math=False)
    for axes in panels[len(chosen) :]:
        axes.set_axis_off()
    for below in panels[max(len(chosen) - columns, 0) : len(chosen)]:  # also where the last row is not full
        below.tick_params(labelbottom=True)
    figure.supxlabel("redshift", fontsize=FONT)
    figure.supylabel("probability density", fontsize=FONT)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=SMALL)
    return figure


def _draw_pdf(axes: Axes, masses: FloatArray, grid: RedshiftGrid, z_phot: float, z_spec: float) -> None:
    density = masses / grid.width
    axes.plot(grid.centres, density, color="black", linewidth=0.9, label="p(z)")
    axes.fill_between(grid.centres, density, color="0.88", linewidth=0)
    axes.axvline(z_phot, color=RED, linestyle="--", linewidth=1.1, label="predicted (mean)")
    axes.axvline(z_spec, color=GREEN, linestyle="-", linewidth=1.1, label="true")
    axes.set(xlim=(0.0, grid.z_max), ylim=(0.0, 1.08 * density.max()))
    _label(axes, "", "")
    axes.yaxis.set_major_locator(MaxNLocator(4))
    difference = round(z_phot, 3) - round(z_spec, 3)  # of the numbers as printed
    text = f"gt {_three(z_spec)}\npt {_three(z_phot)}\ndiff {_three(difference)}"
    _note(axes, text, side=_emptier_side(masses, grid, (z_phot, z_spec)))


def _emptier_side(masses: FloatArray, grid: RedshiftGrid, lines: tuple[float, float]) -> Literal["left", "right"]:
    """Where a text three tenths of a panel wide hides less of the PDF and of the two lines."""

    def hidden(distance_to_centres: FloatArray, distance_to_lines: FloatArray) -> float:
        reach = 0.3 * grid.z_max
        return float(masses[distance_to_centres < reach].max() / masses.max() + (distance_to_lines < reach).sum())

    at = np.array(lines)
    is_left_fuller = hidden(grid.centres, at) >= hidden(grid.z_max - grid.centres, grid.z_max - at)
    return "right" if is_left_fuller else "left"


def _printable(text: str) -> str:
    plain = "".join(character if character.isprintable() else "?" for character in text)
    return plain if len(plain) <= ID_LENGTH else plain[: ID_LENGTH - 1] + "…"


def pit_histogram(pit: FloatArray) -> Figure:
    """Histogram of the probability integral transform beside what calibrated PDFs would give.

    Parameters
    ----------
    pit : (n,) float
        From `metrics.pit`.

    Returns
    -------
    Figure
        One column wide. The bands hold a calibrated bin in 68 and in 95 % of all cases (binomial).
    """
    n = len(pit)
    n_bins = int(np.clip(n // 20, 5, 20))
    counts, edges = np.histogram(pit, n_bins, (0.0, 1.0))
    sigma = math.sqrt((n_bins - 1) / n)  # of counts * n_bins / n, when counts are binomial with p = 1 / n_bins
    figure = Figure(figsize=(COLUMN, 2.85), layout="constrained")
    axes = figure.subplots()
    _label(axes, "PIT = F(true redshift)", "density")
    axes.axhspan(1 - 1.96 * sigma, 1 + 1.96 * sigma, color="0.92", linewidth=0, label="calibrated, 95 %")
    axes.axhspan(1 - sigma, 1 + sigma, color="0.82", linewidth=0, label="calibrated, 68 %")
    axes.axhline(1.0, color="black", linestyle="--", linewidth=0.8)
    axes.stairs(counts * n_bins / n, edges, baseline=None, color=BLUE, linewidth=1.2)
    axes.set(xlim=(0.0, 1.0), ylim=(0.0, 1.35 * max(float(counts.max()) * n_bins / n, 1 + 1.96 * sigma)))
    axes.legend(loc="upper right", fontsize=SMALL, frameon=False)
    _note(axes, f"n = {n:,}\nKS distance = {_three(metrics.uniform_ks(pit))}")
    return figure


def coverage(pdfs: FloatArray, grid: RedshiftGrid, z_spec: npt.ArrayLike) -> Figure:
    """How often the shortest interval of a given probability holds the truth, against that probability.

    Parameters
    ----------
    pdfs : (n, n_bins) float
        Probability mass per bin, rows sum to 1.
    grid : RedshiftGrid
        The grid.
    z_spec : (n,) array_like of float
        True redshifts, on the grid.

    Returns
    -------
    Figure
        One column wide; below the diagonal the PDFs are too narrow. Of more than 20,000 galaxies every second, third
        and so on is taken.
    """
    step = math.ceil(len(pdfs) / COVERAGE_MAX)
    pdfs, z_spec = pdfs[::step], np.asarray(z_spec, dtype=np.float64)[::step]
    levels = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.68, 0.8, 0.9, 0.95, 0.99])
    observed = np.array([metrics.covered(pdfs, z_spec, grid, float(level)).mean() for level in levels])
    figure = Figure(figsize=(COLUMN, 2.85), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    fine = np.linspace(0.0, 1.0, 101)
    sigma = np.sqrt(fine * (1 - fine) / len(pdfs))
    upper.plot([0, 1], [0, 1], "k--", linewidth=0.8)
    upper.plot(levels, observed, "o-", color=BLUE, markersize=3, linewidth=1.0)
    for n_sigma, shade, label in ((1.96, "0.92", "calibrated, 95 %"), (1.0, "0.82", "calibrated, 68 %")):
        lower.fill_between(fine, -n_sigma * sigma, n_sigma * sigma, color=shade, linewidth=0, label=label)
    lower.axhline(0.0, color="black", linestyle="--", linewidth=0.8)
    lower.plot(levels, observed - levels, "o-", color=BLUE, markersize=3, linewidth=1.0)
    _label(upper, "", "galaxies inside")
    _label(lower, "probability of the interval", "difference")
    upper.set(xlim=(0.0, 1.0), ylim=(0.0, 1.0))
    upper.legend(*lower.get_legend_handles_labels(), loc="lower right", fontsize=SMALL, frameon=False)
    marked = [f"in {100 * level:.0f} % interval: {100 * observed[levels == level][0]:.1f} %" for level in (0.68, 0.95)]
    _note(upper, "\n".join([f"n = {len(pdfs):,}", *marked]))
    return figure


def residuals(values: npt.ArrayLike, dz: FloatArray, *, xlabel: str) -> Figure:
    """Residuals against some quantity: running median, 68 % band and sigma_mad in equal bins.

    Parameters
    ----------
    values : (n,) array_like of float
        The quantity, such as redshift or magnitude.
    dz : (n,) float
        (z_phot - z_spec) / (1 + z_spec).
    xlabel : str
        The quantity with its unit.

    Returns
    -------
    Figure
        One column wide; the lower panel is left out where there are too few galaxies for a running median.

    Notes
    -----
    The errors are those of a Gaussian sample: 1.253 sigma / sqrt(n) of the median, 1.167 sigma / sqrt(n) of sigma_mad.
    """
    values = np.asarray(values, dtype=np.float64)
    groups = _equal_bins(values)
    heights = (2, 1) if groups else (1,)
    figure = Figure(figsize=(COLUMN, 3.4 if groups else 2.4), layout="constrained")
    panels = figure.subplots(len(heights), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    _draw_residuals(panels[0], values, dz)
    if groups:
        _draw_running(panels[0], panels[1], values, dz, groups)
    panels[-1].set_xlabel(xlabel, fontsize=FONT)
    return figure


def _equal_bins(values: FloatArray) -> list[IntArray]:
    """Galaxies in each of some equal bins, less the bins that hold too few for a median with an error."""
    n_bins = int(np.clip(len(values) // 60, 4, 12))
    inner = np.linspace(values.min(), values.max(), n_bins + 1)[1:-1]
    which = np.searchsorted(inner, values, side="right")
    groups = [np.flatnonzero(which == index) for index in range(n_bins)]
    return [group for group in groups if len(group) >= BIN_MIN]


def _draw_residuals(axes: Axes, values: FloatArray, dz: FloatArray) -> None:
    limit = max(1.5 * OUTLIER_CUT, 5.0 * metrics.sigma_mad(dz))
    low, high = float(values.min()), float(values.max())
    margin = 0.02 * (high - low) or 0.05
    _draw_points(axes, values, dz, (low - margin, high + margin, -limit, limit), "Greys", floor=0.3)
    axes.axhline(0.0, color="black", linestyle="--", linewidth=0.8)
    for cut in (-OUTLIER_CUT, OUTLIER_CUT):
        axes.axhline(cut, color=GREY, linestyle=":", linewidth=0.8)
    axes.set(xlim=(low - margin, high + margin), ylim=(-limit, limit))
    _label(axes, "", "Δz = ($z_\\mathrm{phot} - z_\\mathrm{spec}$) / (1 + $z_\\mathrm{spec}$)")
    if n_outside := int((np.abs(dz) > limit).sum()):
        _note(axes, f"{n_outside:,} beyond the axis")


def _draw_running(upper: Axes, lower: Axes, values: FloatArray, dz: FloatArray, groups: list[IntArray]) -> None:
    x = np.array([np.median(values[group]) for group in groups])
    low, middle, high = np.array([np.percentile(dz[group], (16, 50, 84)) for group in groups]).T
    sigma = np.array([metrics.sigma_mad(dz[group]) for group in groups])
    root_n = np.sqrt([len(group) for group in groups])
    upper.fill_between(x, low, high, color=BLUE, alpha=0.25, linewidth=0, label="68 % of galaxies")
    marks: dict[str, Any] = {"color": BLUE, "markersize": 3.0, "linewidth": 1.0, "elinewidth": 0.9, "capsize": 1.5}
    upper.errorbar(x, middle, 1.253 * sigma / root_n, fmt="o-", label="running median", **marks)
    lower.errorbar(x, sigma, 1.167 * sigma / root_n, fmt="s-", **marks)
    lower.set_ylim(bottom=0.0)
    _label(lower, "", "$σ_\\mathrm{MAD}$")
    upper.legend(loc="lower left", ncols=2, fontsize=SMALL, frameon=False)


def stacked(pdfs: FloatArray, grid: RedshiftGrid, z_spec: npt.ArrayLike) -> Figure:
    """Sum of the PDFs beside the histogram of the true redshifts.

    Parameters
    ----------
    pdfs : (n, n_bins) float
        Probability mass per bin, rows sum to 1.
    grid : RedshiftGrid
        The grid.
    z_spec : (n,) array_like of float
        True redshifts, on the grid.

    Returns
    -------
    Figure
        One column wide.
    """
    step = _coarsening(grid.n_bins, len(pdfs))
    edges = grid.edges[::step]
    counts = np.histogram(np.asarray(z_spec, dtype=np.float64), edges)[0]
    width = step * grid.width
    figure = Figure(figsize=(COLUMN, 2.85), layout="constrained")
    axes = figure.subplots()
    _label(axes, "redshift", "galaxies per unit redshift")
    axes.stairs(counts / width, edges, color=GREEN, linewidth=1.0, label="true redshifts (Poisson errors)")
    centres = 0.5 * (edges[:-1] + edges[1:])
    axes.errorbar(centres, counts / width, np.sqrt(counts) / width, fmt="none", ecolor=GREEN, elinewidth=0.8)
    axes.plot(grid.centres, pdf.stack(pdfs, grid), "--", color=RED, linewidth=1.2, label="sum of the PDFs")
    axes.set_xlim(0.0, grid.z_max)
    axes.set_ylim(bottom=0.0)
    axes.legend(loc="upper right", fontsize=SMALL, frameon=False)
    return figure


def _coarsening(n_bins: int, n_galaxies: int) -> int:
    """How many bins of the grid to join: a divisor of n_bins that leaves at most 45, and some galaxies in each."""
    wanted = min(45, max(n_galaxies // 10, 10))
    return next(step for step in range(1, n_bins + 1) if n_bins % step == 0 and n_bins // step <= wanted)


def _draw_points(
    axes: Axes, x: FloatArray, y: FloatArray, extent: tuple[float, float, float, float], colours: str, floor: float
) -> bool:
    """Draw dots, or their density on a logarithmic scale where there are many; tell which."""
    if len(x) <= MANY_POINTS:
        size = 2.5 if len(x) > 50 else 5.0
        axes.plot(x, y, "o", color=BLUE, markersize=size, alpha=0.6, markeredgewidth=0)
        return False
    axes.hexbin(x, y, gridsize=70, extent=extent, bins="log", mincnt=1, vmin=floor, cmap=colours, linewidths=0.1)
    return True


def _label(axes: Axes, xlabel: str, ylabel: str) -> None:
    axes.set_xlabel(xlabel, fontsize=FONT)
    axes.set_ylabel(ylabel, fontsize=FONT)
    axes.tick_params(labelsize=SMALL, direction="in", top=True, right=True)


def _note(axes: Axes, text: str, side: Literal["left", "right"] = "left") -> None:
    """Write in the upper corner of a panel."""
    x = 0.03 if side == "left" else 0.97
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
    axes.text(x, 0.97, text, transform=axes.transAxes, ha=side, va="top", fontsize=SMALL, bbox=box)
