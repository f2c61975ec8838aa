"""How good a model is on galaxies that it has not seen, beside catalogue methods on the very same ones."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
import properscoring

from photoz import pdf
from photoz.bundle import Card
from photoz.datasets import TEST, Cutouts
from photoz.grid import FloatArray, IntArray, RedshiftGrid
from photoz.images import ImageSpec, as_ebv_batch
from photoz.metrics import Score, galaxy_scores, summarise
from photoz.report import render_html
from training.baselines import baseline_scores
from training.predict import predict_pdfs
from training.rows import usable_rows

MODEL = "this model"


@dataclass(frozen=True)
class Evaluation:
    """What came out of an evaluation.

    Parameters
    ----------
    pdfs : (n, n_bins) float
        Of the test galaxies.
    rows : (n,) int
        Which rows of the data they are.
    scores : dict
        Method -> figure -> Score; the model comes first, under "this model".
    crps_gaussian : float
        Mean CRPS of the Gaussians with the PDFs' means and standard deviations: what the PDFs add beyond those.
    """

    pdfs: FloatArray
    rows: IntArray
    scores: dict[str, dict[str, Score]]
    crps_gaussian: float


def evaluate(
    model: keras.Model, cutouts: Cutouts, spec: ImageSpec, grid: RedshiftGrid, ebv_assumed: float
) -> Evaluation:
    """Score a model and the catalogue methods on the test galaxies.

    Parameters
    ----------
    model : keras.Model
        Takes `images` and perhaps `ebv`.
    cutouts : Cutouts
        Open, with z_spec and split.
    spec : ImageSpec
        What the images are.
    grid : RedshiftGrid
        The bins of the model.
    ebv_assumed : float
        What stands in for an unknown E(B-V).

    Returns
    -------
    Evaluation
        With bootstrap errors.

    Raises
    ------
    InvalidDataset
        If no test galaxy has a redshift on the grid.
    """
    rows = usable_rows(cutouts, grid, TEST)
    z_spec = cutouts.column("z_spec")[rows]
    pdfs = predict_pdfs(model, cutouts, rows, spec, ebv_assumed)
    ebv = as_ebv_batch(cutouts.columns.get("ebv"), len(cutouts), ebv_assumed).ebv.astype(np.float64)
    scores = {MODEL: summarise(galaxy_scores(pdfs, z_spec, grid)), **baseline_scores(cutouts, spec, grid, ebv)}
    gaussian = properscoring.crps_gaussian(z_spec, pdf.mean(pdfs, grid), pdf.std(pdfs, grid))
    return Evaluation(pdfs, rows, scores, float(gaussian.mean()))


def write_report(evaluation: Evaluation, cutouts: Cutouts, card: Card, folder: Path) -> None:
    """Write an evaluation as metrics.json and report.html.

    Parameters
    ----------
    evaluation : Evaluation
        What to write.
    cutouts : Cutouts
        Open: the ones that were evaluated on.
    card : Card
        Of the model.
    folder : Path
        Made if need be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "model": f"{card.name} {card.version}",
        "data": cutouts.provenance,
        "n_galaxies": len(evaluation.rows),
        "crps_gaussian": evaluation.crps_gaussian,
        "scores": {method: {k: asdict(v) for k, v in found.items()} for method, found in evaluation.scores.items()},
    }
    (folder / "metrics.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(_html(evaluation, cutouts, card), encoding="utf-8")


def _html(evaluation: Evaluation, cutouts: Cutouts, card: Card) -> str:
    rows = evaluation.rows
    middle = len(card.image.bands) // 2
    magnitudes = cutouts.columns.get("magnitudes")
    names = cutouts.columns.get("object_id")
    return render_html(
        evaluation.pdfs,
        cutouts.column("z_spec")[rows],
        card.grid,
        title=f"{card.name} {card.version}",
        description=f"{len(rows)} test galaxies; {cutouts.provenance or 'no provenance given'}.",
        magnitudes=None if magnitudes is None else magnitudes[rows, middle],
        magnitude_label=f"{card.image.bands[middle]} [mag]",
        baselines={method: found for method, found in evaluation.scores.items() if method != MODEL},
        object_id=None if names is None else names[rows],
    )


def table(scores: dict[str, dict[str, Score]]) -> str:
    """Lay out scores as a table of plain text, one line a method."""
    figures = ("sigma_mad", "outlier_fraction", "bias", "crps", "pit_ks", "coverage_68", "coverage_95")
    width = max(len(method) for method in scores)
    lines = [" " * width + "".join(f"  {figure:>17}" for figure in figures)]
    for method, found in scores.items():
        cells = (str(found[figure]) if figure in found else "-" for figure in figures)
        lines.append(method.ljust(width) + "".join(f"  {cell:>17}" for cell in cells))
    return "\n".join(lines)
