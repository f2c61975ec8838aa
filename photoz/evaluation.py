"""Metrics, plots and reports of an evaluation, of galaxies from `photoz.validation.as_labelled`."""

from typing import Any, Literal

from photoz import metrics, pdf
from photoz.errors import counted
from photoz.estimates import Names
from photoz.grid import FloatArray, RedshiftGrid
from photoz.images import Batch
from photoz.metrics import Score
from photoz.protocol.contract import EvaluateOptions
from photoz.validation import LabelledGalaxies


def scores(pdfs: FloatArray, z_spec: FloatArray, grid: RedshiftGrid) -> dict[str, Score]:
    """Return the metrics with bootstrap errors."""
    return metrics.summarise(metrics.galaxy_scores(pdfs, z_spec, grid))


def draw(
    pdfs: FloatArray,
    z_spec: FloatArray,
    object_id: Names,
    grid: RedshiftGrid,
    options: EvaluateOptions,
    format: Literal["png", "svg"],
) -> bytes:
    """Draw the plot of the options, by default the scatter."""
    from photoz import plots

    z_phot = pdf.mean(pdfs, grid)
    match options.plot:
        case "pdfs":
            chosen = {"num_images": options.num_images, "seed": options.seed}
            figure = plots.pdf_panels(pdfs, grid, z_spec, object_id=object_id, **chosen)
        case "pit":
            figure = plots.pit_histogram(metrics.pit(pdfs, z_spec, grid))
        case "qq":
            figure = plots.pit_qq(metrics.pit(pdfs, z_spec, grid))
        case "coverage":
            figure = plots.coverage(pdfs, grid, z_spec)
        case "residuals":
            figure = plots.residuals(z_spec, metrics.residuals(z_phot, z_spec), xlabel="true redshift")
        case "stacked":
            figure = plots.stacked(pdfs, grid, z_spec)
        case _:
            summary = metrics.summarise(metrics.galaxy_scores(pdfs, z_spec, grid), n_resamples=2)
            figure = plots.scatter(z_spec, z_phot, scores=summary)
    return plots.render(figure, format)


def report(pdfs: FloatArray, z_spec: FloatArray, grid: RedshiftGrid, details: dict[str, Any]) -> str:
    """Return the whole evaluation as one self-contained HTML page; `details` as of `photoz.report.make_report`."""
    from photoz.report import make_report

    return make_report(pdfs, z_spec, grid, **details).html()


def details(galaxies: LabelledGalaxies, model_label: str) -> dict[str, Any]:
    """Return title, description and columns of a report."""
    origin = f"predicted by {model_label}" if isinstance(galaxies.source, Batch) else "with PDFs as they were sent"
    description = f"{counted(len(galaxies.z_spec), 'galaxy')}, {origin}."
    if galaxies.dropped:
        description += f" {len(galaxies.dropped):,} others were left out: their true redshift is not on the grid."
    texts = {"title": "Evaluation of photometric redshifts", "description": description}
    return texts | {"object_id": galaxies.object_id, "magnitudes": galaxies.magnitudes}
