"""One self-contained HTML page that says how good a set of PDFs is.

What is computed is computed here; every word and the layout are in `report.html` beside this file.
"""

import base64
from collections.abc import Mapping
from importlib import resources
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, StrictUndefined, Template
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from photoz import __version__, metrics, pdf, plots
from photoz.errors import InvalidInput
from photoz.grid import FloatArray, RedshiftGrid
from photoz.metrics import Bin, GalaxyScores, Score


class BinTable(NamedTuple):
    """Figures of merit in bins of a quantity; `decimals` are those of the bounds of the bins."""

    quantity: str
    decimals: int
    bins: list[Bin]


def render_html(
    pdfs: npt.ArrayLike,
    z_spec: npt.ArrayLike,
    grid: RedshiftGrid,
    *,
    title: str,
    description: str = "",
    magnitudes: npt.ArrayLike | None = None,
    magnitude_label: str = "r [mag]",
    baselines: Mapping[str, Mapping[str, Score]] | None = None,
    object_id: npt.ArrayLike | None = None,
    seed: int = 0,
) -> str:
    """Write the report on PDFs of galaxies whose redshifts are known.

    Parameters
    ----------
    pdfs : (n, n_bins) array_like of float
        Probability mass per bin.
    z_spec : (n,) array_like of float
        True redshifts, on the grid.
    grid : RedshiftGrid
        The grid.
    title, description : str
        What was evaluated, as plain text.
    magnitudes : (n,) array_like of float, optional
        One magnitude a galaxy; galaxies where it is not finite are left out of what is shown by magnitude.
    magnitude_label : str
        Band and unit of the magnitudes.
    baselines : mapping of str to mapping of str to Score, optional
        Figures of other methods on the same galaxies, by the method's name; any figure may be missing.
    object_id : (n,) array_like of str, optional
        Names of the galaxies.
    seed : int
        Of the bootstrap and of the choice of the PDFs that are shown.

    Returns
    -------
    str
        HTML that needs no other file; the same input gives the same page.

    Raises
    ------
    InvalidPdfs, InvalidRedshifts
        If these cannot be scored.
    InvalidInput
        If magnitudes or names are not one a galaxy.
    """
    pdfs, z_spec = pdf.as_pdfs(pdfs, grid), np.asarray(z_spec, dtype=np.float64)
    names = None if object_id is None else _one_each(np.asarray(object_id).astype(str), len(pdfs), "object_id")
    values = np.full(len(pdfs), np.nan) if magnitudes is None else np.asarray(magnitudes, dtype=np.float64)
    known = np.isfinite(_one_each(values, len(pdfs), "magnitudes"))
    galaxies = metrics.galaxy_scores(pdfs, z_spec, grid)
    scores = metrics.summarise(galaxies, seed=seed)
    figures = _figures(pdfs, z_spec, grid, galaxies, scores)
    figures["panels"] = _uri(plots.pdf_panels(pdfs, grid, z_spec, seed=seed, object_id=names), "svg")
    tables = [_table("true redshift", 3, galaxies, z_spec)]
    if known.any():
        figures["by_magnitude"] = _residuals(values[known], galaxies.dz[known], magnitude_label)
        tables.append(_table(magnitude_label, 2, galaxies.take(known), values[known]))
    return _template().render(
        title=title,
        description=description,
        version=__version__,
        n_galaxies=len(pdfs),
        grid=grid,
        outlier_cut=metrics.OUTLIER_CUT,
        n_resamples=metrics.N_RESAMPLES,
        methods={"this model": scores, **(baselines or {})},
        figures=figures,
        tables=tables,
    )


def _one_each(values: npt.NDArray[Any], n: int, name: str) -> npt.NDArray[Any]:
    if values.shape != (n,):
        raise InvalidInput(f"expected {n} {name}, one for each galaxy, got shape {values.shape}")
    return values


def _figures(
    pdfs: FloatArray, z_spec: FloatArray, grid: RedshiftGrid, galaxies: GalaxyScores, scores: Mapping[str, Score]
) -> dict[str, str]:
    return {
        "scatter": _uri(plots.scatter(z_spec, pdf.mean(pdfs, grid), scores=scores), "png"),
        "stacked": _uri(plots.stacked(pdfs, grid, z_spec), "svg"),
        "pit": _uri(plots.pit_histogram(metrics.pit(pdfs, z_spec, grid)), "svg"),
        "coverage": _uri(plots.coverage(pdfs, grid, z_spec), "svg"),
        "by_redshift": _residuals(z_spec, galaxies.dz, "true redshift"),
    }


def _residuals(values: FloatArray, dz: FloatArray, xlabel: str) -> str:
    return _uri(plots.residuals(values, dz, xlabel=xlabel), "png")


def _uri(figure: Figure, format: Literal["png", "svg"]) -> str:
    """Pack a figure as a data URI: vectors where they are few, pixels where points are many."""
    mime = {"png": "image/png", "svg": "image/svg+xml"}[format]
    return f"data:{mime};base64,{base64.b64encode(plots.render(figure, format)).decode('ascii')}"


def _table(quantity: str, decimals: int, galaxies: GalaxyScores, values: FloatArray) -> BinTable:
    """Summarise in about eight bins with round bounds."""
    edges = MaxNLocator(8, steps=[1, 2, 2.5, 5, 10]).tick_values(float(values.min()), float(values.max()))
    return BinTable(quantity, decimals, metrics.summarise_by(galaxies, values, edges))


def _template() -> Template:
    source = resources.files("photoz").joinpath("report.html").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        source
    )
