"""How good a model is on galaxies that it has not seen, beside catalogue methods on the very same ones."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import properscoring
from matplotlib.figure import Figure

from photoz import calibration as recalibration
from photoz import ood as ood
from photoz import pdf, plots
from photoz.calibration import Calibration
from photoz.estimates import flag_inputs, from_pdfs
from photoz.grid import FloatArray, IntArray, RedshiftGrid
from photoz.images import EbvBatch, ImageSpec, as_ebv_batch, as_image_batch
from photoz.io.cutouts import TEST, Cutouts
from photoz.metrics import Score, galaxy_scores, summarise
from photoz.model.card import Card
from photoz.ood import FeatureGroups
from photoz.report import Report, make_report
from training.baselines import baseline_scores, check_band_columns
from training.predict import BATCH_SIZE, predict_pdfs, predict_views
from training.rows import usable_rows

MODEL = "this model"
NOT_RECALIBRATED = "this model, not recalibrated"

FORMATS = ("png", "svg", "pdf")

# Where `learning-curve` leaves its scores unless told otherwise, and a report looks for them.
LEARNING_CURVE = Path("runs/learning-curve/learning-curve.json")


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
    flags : (n,) int
        What each galaxy's input and PDF raised: bit masks of `estimates.Flag`.
    ood_scores : (n,) float, or None
        How unlike the training images each is, if that was asked for.
    """

    pdfs: FloatArray
    rows: IntArray
    scores: dict[str, dict[str, Score]]
    crps_gaussian: float
    flags: IntArray
    ood_scores: FloatArray | None = None


def evaluate(
    model: keras.Model,
    cutouts: Cutouts,
    spec: ImageSpec,
    grid: RedshiftGrid,
    ebv_assumed: float,
    *,
    calibration: Calibration | None = None,
    feature_groups: FeatureGroups | None = None,
    ood_threshold: float = np.inf,
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
    calibration : Calibration, optional
        Of the PDFs; the scores without it are then given too.
    feature_groups : dict of str to FeatureGroup, optional
        What the training images look like, for the flag OUT_OF_DISTRIBUTION.
    ood_threshold : float
        Above which score that is raised.

    Returns
    -------
    Evaluation
        With bootstrap errors.

    Raises
    ------
    InvalidDataset
        If no test galaxy has a redshift on the grid, or a column is of other bands than the images.
    """
    check_band_columns(cutouts, spec)
    rows = usable_rows(cutouts, grid, TEST)
    z_spec = cutouts.column("z_spec")[rows]
    raw = predict_pdfs(model, cutouts, rows, spec, ebv_assumed)
    pdfs = recalibration.apply(raw, calibration)
    ebv = as_ebv_batch(cutouts.columns.get("ebv"), len(cutouts), ebv_assumed).ebv.astype(np.float64)
    scores = {MODEL: summarise(galaxy_scores(pdfs, z_spec, grid))}
    if calibration:
        scores[NOT_RECALIBRATED] = summarise(galaxy_scores(raw, z_spec, grid))
    scores |= baseline_scores(cutouts, spec, grid, ebv)
    gaussian = properscoring.crps_gaussian(z_spec, pdf.mean(pdfs, grid), pdf.std(pdfs, grid))
    ood_scores = feature_groups and ood.score(feature_groups, predict_views(model, cutouts, rows, spec, ebv_assumed))
    raised = input_flags(cutouts, rows, spec)
    flags = from_pdfs(pdfs, grid, input_flags=raised, ood_score=ood_scores, ood_threshold=ood_threshold).flags
    return Evaluation(pdfs, rows, scores, float(gaussian.mean()), flags, ood_scores)


def input_flags(cutouts: Cutouts, rows: IntArray, spec: ImageSpec) -> IntArray:
    """Return the flags that the inputs of some rows raise, shape (n,), a batch of images in memory at a time."""
    ebv = as_ebv_batch(cutouts.columns.get("ebv"), len(cutouts), 0.0)
    flags = np.zeros(len(rows), np.int32)
    for start in range(0, len(rows), BATCH_SIZE):
        batch = rows[start : start + BATCH_SIZE]
        images = as_image_batch(cutouts.read_images(batch), spec)
        flags[start : start + BATCH_SIZE] = flag_inputs(images, EbvBatch(ebv.ebv[batch], ebv.assumed[batch]))
    return flags


def galaxies_digest(cutouts: Cutouts, rows: IntArray) -> str:
    """Tell one set of galaxies from another: the sha256 of their redshifts in order."""
    return hashlib.sha256(np.asarray(cutouts.column("z_spec")[rows], dtype="<f8").tobytes()).hexdigest()


def write_report(
    evaluation: Evaluation,
    cutouts: Cutouts,
    card: Card,
    folder: Path,
    learning_curve: Path = LEARNING_CURVE,
    *,
    figures: bool = True,
) -> None:
    """Write an evaluation as metrics.json, report.html and figures/NAME.png, .svg and .pdf.

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
    learning_curve : Path
        Scores by training size, from `python -m training learning-curve`; shown if the file is there and was made with
        the same architecture on the same test galaxies.
    figures : bool
        Write the figures alone too; in three formats they take some seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    report = _report(evaluation, cutouts, card, _read_curve(learning_curve, card, evaluation, cutouts))
    content = {
        "model": f"{card.name} {card.version}",
        "data": cutouts.provenance,
        "n_galaxies": len(evaluation.rows),
        "crps_gaussian": evaluation.crps_gaussian,
        "scores": {method: as_numbers(found) for method, found in evaluation.scores.items()},
        "bins": {table.quantity: [asdict(found) for found in table.bins] for table in report.tables},
        "flags": [{**row._asdict(), "scores": as_numbers(row.scores)} for row in report.flags],
        "learning_curve": {str(n): as_numbers(found) for n, found in report.learning_curve.items()},
    }
    (folder / "metrics.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(report.html(), encoding="utf-8")
    if figures:
        _write_figures(report.figures, folder / "figures")


def _write_figures(figures: Mapping[str, Figure], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        for format in FORMATS:
            (folder / f"{name}.{format}").write_bytes(plots.render(figure, format))


def as_numbers(scores: Mapping[str, Score]) -> dict[str, dict[str, float]]:
    """Return scores as JSON takes them: figure -> value and error."""
    return {figure: asdict(score) for figure, score in scores.items()}


def _read_curve(path: Path, card: Card, evaluation: Evaluation, cutouts: Cutouts) -> dict[int, dict[str, Score]]:
    if not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    is_same = (card.architecture.name, galaxies_digest(cutouts, evaluation.rows))
    if (found["settings"]["architecture"], found["test_galaxies"]) != is_same:
        return {}
    return {
        point["n_train"]: {figure: Score(**score) for figure, score in point["scores"].items()}
        for point in found["points"]
    }


def _report(
    evaluation: Evaluation, cutouts: Cutouts, card: Card, learning_curve: Mapping[int, Mapping[str, Score]]
) -> Report:
    rows = evaluation.rows
    names = cutouts.columns.get("object_id")
    return make_report(
        evaluation.pdfs,
        cutouts.column("z_spec")[rows],
        card.grid,
        title=f"{card.name} {card.version}",
        description=f"{len(rows)} test galaxies; {cutouts.provenance or 'no provenance given'}.",
        **_photometry(cutouts, rows, card),
        flags=evaluation.flags,
        learning_curve=learning_curve,
        baselines={method: found for method, found in evaluation.scores.items() if method != MODEL},
        object_id=None if names is None else names[rows],
    )


def _photometry(cutouts: Cutouts, rows: IntArray, card: Card) -> dict[str, Any]:
    """Magnitude in the middle band and the colour g - r, or of the first two bands; dereddened where that is known."""
    bands = card.image.bands
    if "magnitudes" not in cutouts.columns:
        return {}
    extinction = card.image.extinction
    ebv = as_ebv_batch(cutouts.columns.get("ebv"), len(cutouts), card.inputs.ebv_assumed).ebv[rows]
    magnitudes = cutouts.columns["magnitudes"][rows] - extinction * ebv[:, np.newaxis]
    prefix = "dereddened " if extinction.all() else ""
    found = {"magnitudes": magnitudes[:, len(bands) // 2], "magnitude_label": f"{prefix}{bands[len(bands) // 2]} [mag]"}
    if len(bands) > 1:
        blue, red = ("g", "r") if {"g", "r"} <= set(bands) else bands[:2]
        found["colours"] = magnitudes[:, bands.index(blue)] - magnitudes[:, bands.index(red)]
        found["colour_label"] = f"{prefix}{blue} − {red} [mag]"
    return found


def table(scores: dict[str, dict[str, Score]]) -> str:
    """Lay out scores as a table of plain text, one line a method."""
    figures = ("sigma_mad", "outlier_fraction", "bias", "crps", "pit_ks", "coverage_68", "coverage_95")
    width = max(len(method) for method in scores)
    lines = [" " * width + "".join(f"  {figure:>17}" for figure in figures)]
    for method, found in scores.items():
        cells = (str(found[figure]) if figure in found else "-" for figure in figures)
        lines.append(method.ljust(width) + "".join(f"  {cell:>17}" for cell in cells))
    return "\n".join(lines)
