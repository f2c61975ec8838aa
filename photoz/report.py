"""The evaluation report: metrics and plots of a set of PDFs as one self-contained HTML page.

Texts and layout are in `report.html`.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from photoz import __version__, metrics, pdf, plots
from photoz.errors import InvalidInput
from photoz.flags import FLAG_MEANINGS
from photoz.grid import BoolArray, FloatArray, RedshiftGrid
from photoz.io.formats import PNG, SVG
from photoz.metrics import Bin, FlagScores, GalaxyScores, Score

Scores = Mapping[str, Score]

OWN = "this model"  # also the start of the names of its variants, such as "this model, not recalibrated"

# Plots of many points are PNG, all others SVG.
PIXELS = ("scatter", "by_redshift", "by_magnitude", "by_colour")


class BinTable(NamedTuple):
    """Metrics in bins of a quantity; `decimals` is for the bounds of the bins."""

    quantity: str
    decimals: int
    bins: list[Bin]


class Quantity(NamedTuple):
    """A quantity for the residual plots: name of the plot, label, values (n,), NaN if unknown, and their decimals."""

    name: str
    label: str
    values: FloatArray
    decimals: int

    @property
    def known(self) -> BoolArray:
        """Return which galaxies have a value, (n,)."""
        return np.isfinite(self.values)


@dataclass(frozen=True)
class Report:
    """Contents of the report; made by `make_report`."""

    title: str  # plain text
    description: str  # plain text
    grid: RedshiftGrid
    n_galaxies: int
    methods: Mapping[str, Scores]  # the first is "this model"
    figures: dict[str, Figure]  # by name, "scatter" and others; "learning_curve", for example, only if there are data
    tables: list[BinTable]
    flags: list[FlagScores]  # empty if no flags were given
    learning_curve: Mapping[int, Scores]  # by number of training galaxies; may be empty

    def html(self) -> str:
        """Return one HTML page that needs no other file; the same report gives the same page."""
        source = resources.files("photoz").joinpath("report.html").read_text(encoding="utf-8")
        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        return environment.from_string(source).render(
            vars(self) | {"figures": {name: _uri(name, figure) for name, figure in self.figures.items()}},
            version=__version__,
            flag_meanings=FLAG_MEANINGS,
            outlier_cut=metrics.OUTLIER_CUT,
            n_resamples=metrics.N_RESAMPLES,
        )


def make_report(
    pdfs: npt.ArrayLike,
    z_spec: npt.ArrayLike,
    grid: RedshiftGrid,
    *,
    title: str,
    description: str = "",
    magnitudes: npt.ArrayLike | None = None,
    magnitude_label: str = "r [mag]",
    colours: npt.ArrayLike | None = None,
    colour_label: str = "g − r [mag]",
    flags: npt.ArrayLike | None = None,
    learning_curve: Mapping[int, Scores] | None = None,
    baselines: Mapping[str, Scores] | None = None,
    object_id: npt.ArrayLike | None = None,
    seed: int = 0,
) -> Report:
    """Evaluate PDFs of galaxies whose redshifts are known.

    Parameters
    ----------
    pdfs, z_spec, grid : (n, n_bins) array_like of float, (n,) array_like of float, RedshiftGrid
        Probability mass per bin, true redshifts, and the grid of both.
    title, description : str
        What was evaluated, as plain text.
    magnitudes, colours : (n,) array_like of float, optional
        For residuals by magnitude and colour; galaxies without a finite value are left out of these.
    magnitude_label, colour_label : str
        Bands and units of these.
    flags : (n,) array_like of int, optional
        Bit masks of `photoz.flags.Flag`.
    learning_curve : mapping of int to mapping of str to Score, optional
        Metrics on these galaxies, by the number of training galaxies.
    baselines : mapping of str to mapping of str to Score, optional
        Metrics of other methods on the same galaxies, by name; any may be missing.
    object_id : (n,) array_like of str, optional
        Names of the galaxies.
    seed : int
        Seed of the bootstrap and of the choice of the PDFs that are shown.

    Raises
    ------
    InvalidPdfs, InvalidRedshifts, InvalidInput
        If these cannot be scored; if magnitudes, colours, flags or names are not n values.
    """
    pdfs, z_spec = pdf.as_pdfs(pdfs, grid), np.asarray(z_spec, dtype=np.float64)
    names = None if object_id is None else _one_each(object_id, len(pdfs), "object_id").astype(str)
    quantities = [Quantity("by_redshift", "true redshift", z_spec, 3)]
    for name, label, given in (("magnitude", magnitude_label, magnitudes), ("colour", colour_label, colours)):
        if given is not None:
            checked = _one_each(given, len(pdfs), f"{name}s")
            quantities.append(Quantity(f"by_{name}", label, checked.astype(np.float64), 2))
    galaxies = metrics.galaxy_scores(pdfs, z_spec, grid)
    methods = {OWN: metrics.summarise(galaxies, seed=seed), **(baselines or {})}
    figures = _figures(pdfs, z_spec, grid, methods, learning_curve)
    figures["panels"] = plots.pdf_panels(pdfs, grid, z_spec, seed=seed, object_id=names)
    tables = []
    for quantity in quantities:
        if quantity.known.any():
            values, scores = quantity.values[quantity.known], galaxies.take(quantity.known)
            figures[quantity.name] = plots.residuals(values, scores.dz, xlabel=quantity.label)
            tables.append(BinTable(quantity.label, quantity.decimals, _summarise_by(values, scores)))
    by_flag = [] if flags is None else metrics.summarise_flags(galaxies, flags)
    return Report(title, description, grid, len(pdfs), methods, figures, tables, by_flag, learning_curve or {})


def _one_each(values: npt.ArrayLike, n: int, name: str) -> npt.NDArray[Any]:
    array = np.asarray(values)
    if array.shape != (n,):
        raise InvalidInput(f"expected {n} {name}, one for each galaxy, got shape {array.shape}")
    return array


def _figures(
    pdfs: FloatArray,
    z_spec: FloatArray,
    grid: RedshiftGrid,
    methods: Mapping[str, Scores],
    learning_curve: Mapping[int, Scores] | None,
) -> dict[str, Figure]:
    pit = metrics.pit(pdfs, z_spec, grid)
    figures: dict[str, Figure] = {
        "scatter": plots.scatter(z_spec, pdf.mean(pdfs, grid), scores=methods[OWN]),
        "stacked": plots.stacked(pdfs, grid, z_spec),
        "pit": plots.pit_histogram(pit),
        "qq": plots.pit_qq(pit),
        "coverage": plots.coverage(pdfs, grid, z_spec),
    }
    if learning_curve:
        others = {method: scores for method, scores in methods.items() if not method.startswith(OWN)}
        sizes, scores = list(learning_curve), list(learning_curve.values())
        figures["learning_curve"] = plots.learning_curve(sizes, scores, baselines=others)
    return figures


def _summarise_by(values: FloatArray, galaxies: GalaxyScores) -> list[Bin]:
    """Summarise in about eight bins with round bounds."""
    edges = MaxNLocator(8, steps=[1, 2, 2.5, 5, 10]).tick_values(*plots.shown_range(values))
    return metrics.summarise_by(galaxies, values, edges)


def _uri(name: str, figure: Figure) -> str:
    """Return a figure as a data URI."""
    media_type = PNG.media_type if name in PIXELS else SVG.media_type
    content = plots.render(figure, "png" if name in PIXELS else "svg")
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
