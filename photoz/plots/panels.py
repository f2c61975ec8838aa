"""Plots of the PDFs of some galaxies, one panel each."""

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from photoz import pdf
from photoz.grid import FloatArray, RedshiftGrid
from photoz.plots.style import COLUMN, FONT, GREEN, RED, SMALL, Figure, label_axes, note, three_decimals

ID_LENGTH = 24  # characters of an object_id that fit over a panel


def pdf_panels(
    pdfs: FloatArray,
    grid: RedshiftGrid,
    z_spec: npt.ArrayLike,
    *,
    num_images: int = 9,
    seed: int = 0,
    object_id: npt.ArrayLike | None = None,
) -> Figure:
    """PDFs, (n, n_bins), of random galaxies as densities, with their predicted (mean) and true redshift, (n,).

    The seed chooses `num_images` galaxies, or all if there are fewer. `object_id`, (n,) str, gives the titles. In each
    panel, gt is the true redshift, pt the predicted one, and diff their difference.
    """
    z_spec, z_mean = np.asarray(z_spec, dtype=np.float64), pdf.mean(pdfs, grid)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(pdfs))[:num_images])
    figure, panels = _make_panels(len(chosen), None if object_id is None else np.asarray(object_id).astype(str)[chosen])
    for axes, galaxy in zip(panels, chosen, strict=True):
        _draw_pdf(axes, pdfs[galaxy], grid, z_mean[galaxy], z_spec[galaxy])
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=SMALL)
    return figure


def interval_panels(
    pdfs: FloatArray, grid: RedshiftGrid, *, z_spec: npt.ArrayLike | None = None, object_id: npt.ArrayLike | None = None
) -> Figure:
    """PDFs, (n, n_bins), as densities, with the shortest intervals of 68 and 95 % of the probability shaded.

    True redshifts, (n,), are NaN where unknown. `object_id`, (n,) str, gives the titles.
    """
    true = np.full(len(pdfs), np.nan) if z_spec is None else np.asarray(z_spec, dtype=np.float64)
    figure, panels = _make_panels(len(pdfs), None if object_id is None else np.asarray(object_id).astype(str))
    intervals = [np.transpose(pdf.shortest_interval(pdfs, grid, mass)) for mass in (0.95, 0.68)]
    for i, axes in enumerate(panels):
        _draw_intervals(axes, pdfs[i], grid, [ends[i] for ends in intervals])
        if np.isfinite(true[i]):
            axes.axvline(true[i], color=GREEN, linewidth=1.1, label="true")
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=len(handles), fontsize=SMALL)
    return figure


def _make_panels(n: int, titles: npt.NDArray[np.str_] | None) -> tuple[Figure, list[Axes]]:
    """Return a figure with n panels and, if given, their titles."""
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    size = (max(COLUMN, 2.37 * columns), 0.35 + 1.75 * rows)
    figure = Figure(figsize=size, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True).ravel())
    for axes in panels[n:]:
        axes.set_axis_off()
    for lowest in panels[max(n - columns, 0) : n]:  # also if the last row is not full
        lowest.tick_params(labelbottom=True)
    for axes, title in zip(panels, () if titles is None else titles, strict=False):
        axes.set_title(_printable(title), fontsize=SMALL, pad=2.5, parse_math=False)
    figure.supxlabel("redshift", fontsize=FONT)
    figure.supylabel("probability density", fontsize=FONT)
    return figure, panels[:n]


def _draw_pdf(axes: Axes, masses: FloatArray, grid: RedshiftGrid, z_phot: float, z_spec: float) -> None:
    density = masses / grid.width
    axes.plot(grid.centres, density, color="black", linewidth=0.9, label="p(z)")
    axes.fill_between(grid.centres, density, color="0.88", linewidth=0)
    axes.axvline(z_phot, color=RED, linestyle="--", linewidth=1.1, label="predicted (mean)")
    axes.axvline(z_spec, color=GREEN, linestyle="-", linewidth=1.1, label="true")
    axes.set(xlim=(0.0, grid.z_max), ylim=(0.0, 1.08 * density.max()))
    label_axes(axes, "", "")
    axes.yaxis.set_major_locator(MaxNLocator(4))
    difference = round(z_phot, 3) - round(z_spec, 3)  # of the printed numbers
    text = f"gt {three_decimals(z_spec)}\npt {three_decimals(z_phot)}\ndiff {three_decimals(difference)}"
    note(axes, text, side=_emptier_side(masses, grid, (z_phot, z_spec)))


def _draw_intervals(axes: Axes, masses: FloatArray, grid: RedshiftGrid, intervals: list[FloatArray]) -> None:
    """Draw a PDF, and shade its wider and its narrower interval."""
    density = masses / grid.width
    axes.stairs(density, grid.edges, color="black", linewidth=0.9, label="p(z)")
    for (low, high), shade, label in zip(intervals, ("0.88", "0.65"), ("95 %", "68 %"), strict=True):
        inside = np.clip(grid.edges, low, high)
        axes.stairs(density, inside, fill=True, color=shade, linewidth=0, label=label)
    axes.set(xlim=(0.0, grid.z_max), ylim=(0.0, 1.08 * density.max()))
    label_axes(axes, "", "")
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _emptier_side(masses: FloatArray, grid: RedshiftGrid, lines: tuple[float, float]) -> Literal["left", "right"]:
    """Return the side on which a text, 0.3 panels wide, hides less of the PDF and of the two lines."""

    def hidden(distance_to_centres: FloatArray, distance_to_lines: FloatArray) -> float:
        reach = 0.3 * grid.z_max
        return float(masses[distance_to_centres < reach].max() / masses.max() + (distance_to_lines < reach).sum())

    at = np.array(lines)
    is_left_fuller = hidden(grid.centres, at) >= hidden(grid.z_max - grid.centres, grid.z_max - at)
    return "right" if is_left_fuller else "left"


def _printable(text: str) -> str:
    plain = "".join(character if character.isprintable() else "?" for character in text)
    return plain if len(plain) <= ID_LENGTH else plain[: ID_LENGTH - 1] + "…"
