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
from jinja2 import Environment, StrictUndefined, Template
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from photoz import __version__, metrics, pdf, plots
from photoz.errors import InvalidInput
from photoz.flag_scores import FlagScores, summarise_flags
from photoz.flags import FLAG_MEANINGS
from photoz.grid import FloatArray, RedshiftGrid
from photoz.metrics import Bin, GalaxyScores, Score

Scores = Mapping[str, Score]

OWN = "this model"  # names of its variants, such as "this model, not recalibrated", begin with this as well

# Plots of many points are PNG in the page, all others SVG.
PIXELS = ("scatter", "by_redshift", "by_magnitude", "by_colour")


class BinTable(NamedTuple):
    """Metrics in bins of a quantity, whose bounds have so many decimals."""

    quantity: str
    decimals: int
    bins: list[Bin]


class Quantity(NamedTuple):
    """A quantity for the residual plots: name of the plot, label, (n,) values and their decimals."""

    name: str
    label: str
    values: FloatArray
    decimals: int


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
        return _template().render(
            vars(self) | {"figures": {name: _uri(name, figure) for name, figure in self.figures.items()}},
            version=__version__,
            flag_meanings=FLAG_MEANINGS,
            outlier_cut=metrics.OUTLIER_CUT,
            n_resamples=metrics.N_RESAMPLES,
        )


def render_html(pdfs: npt.ArrayLike, z_spec: npt.ArrayLike, grid: RedshiftGrid, *, title: str, **details: Any) -> str:
    """Return the HTML report; parameters and errors are those of `make_report`."""
    return make_report(pdfs, z_spec, grid, title=title, **details).html()


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
    pdfs : (n, n_bins) array_like of float
        Probability mass per bin.
    z_spec : (n,) array_like of float
        True redshifts, on the grid.
    grid : RedshiftGrid
        The grid.
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
    InvalidPdfs, InvalidRedshifts
        If these cannot be scored.
    InvalidInput
        If magnitudes, colours, flags or names are not n values.
    """
    pdfs, z_spec = pdf.as_pdfs(pdfs, grid), np.asarray(z_spec, dtype=np.float64)
    names = None if object_id is None else _one_each(np.asarray(object_id).astype(str), len(pdfs), "object_id")
    quantities = [
        Quantity("by_redshift", "true redshift", z_spec, 3),
        Quantity("by_magnitude", magnitude_label, _values(magnitudes, len(pdfs), "magnitudes"), 2),
        Quantity("by_colour", colour_label, _values(colours, len(pdfs), "colours"), 2),
    ]
    galaxies = metrics.galaxy_scores(pdfs, z_spec, grid)
    methods = {OWN: metrics.summarise(galaxies, seed=seed), **(baselines or {})}
    figures = _figures(pdfs, z_spec, grid, methods[OWN])
    figures["panels"] = plots.pdf_panels(pdfs, grid, z_spec, seed=seed, object_id=names)
    known = [quantity for quantity in quantities if np.isfinite(quantity.values).any()]
    figures |= {quantity.name: _residuals(quantity, galaxies) for quantity in known}
    if learning_curve:
        figures["learning_curve"] = _learning_curve(learning_curve, methods)
    tables = [_table(quantity, galaxies) for quantity in known]
    by_flag = [] if flags is None else summarise_flags(galaxies, flags)
    return Report(title, description, grid, len(pdfs), methods, figures, tables, by_flag, learning_curve or {})


def _one_each(values: npt.NDArray[Any], n: int, name: str) -> npt.NDArray[Any]:
    if values.shape != (n,):
        raise InvalidInput(f"expected {n} {name}, one for each galaxy, got shape {values.shape}")
    return values


def _values(given: npt.ArrayLike | None, n: int, name: str) -> FloatArray:
    values = np.full(n, np.nan) if given is None else np.asarray(given, dtype=np.float64)
    return _one_each(values, n, name)


def _figures(pdfs: FloatArray, z_spec: FloatArray, grid: RedshiftGrid, scores: Scores) -> dict[str, Figure]:
    pit = metrics.pit(pdfs, z_spec, grid)
    return {
        "scatter": plots.scatter(z_spec, pdf.mean(pdfs, grid), scores=scores),
        "stacked": plots.stacked(pdfs, grid, z_spec),
        "pit": plots.pit_histogram(pit),
        "qq": plots.pit_qq(pit),
        "coverage": plots.coverage(pdfs, grid, z_spec),
    }


def _residuals(quantity: Quantity, galaxies: GalaxyScores) -> Figure:
    known = np.isfinite(quantity.values)
    return plots.residuals(quantity.values[known], galaxies.dz[known], xlabel=quantity.label)


def _learning_curve(by_size: Mapping[int, Scores], methods: Mapping[str, Scores]) -> Figure:
    others = {method: found for method, found in methods.items() if not method.startswith(OWN)}
    return plots.learning_curve(list(by_size), list(by_size.values()), baselines=others)


def _table(quantity: Quantity, galaxies: GalaxyScores) -> BinTable:
    """Summarise in about eight bins with round bounds."""
    known = np.isfinite(quantity.values)
    values = quantity.values[known]
    edges = MaxNLocator(8, steps=[1, 2, 2.5, 5, 10]).tick_values(*plots.shown_range(values))
    return BinTable(quantity.label, quantity.decimals, metrics.summarise_by(galaxies.take(known), values, edges))


def _uri(name: str, figure: Figure) -> str:
    """Return a figure as a data URI."""
    if name in PIXELS:
        mime, content = "image/png", plots.render(figure, "png")
    else:
        mime, content = "image/svg+xml", plots.render(figure, "svg")
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"


def _template() -> Template:
    source = resources.files("photoz").joinpath("report.html").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        source
    )
