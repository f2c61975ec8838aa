"""Evaluation of a model on test galaxies, compared with catalogue methods on the same galaxies, and its report."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import properscoring
from matplotlib.figure import Figure

from photoz import pdf, plots
from photoz.grid import FloatArray, IntArray
from photoz.images import as_reddening
from photoz.io.cutouts import TEST, Cutouts
from photoz.metrics import Score, galaxy_scores, summarise
from photoz.model.card import Card
from photoz.report import Report, make_report
from training.baselines import baseline_scores, check_columns
from training.pixel_statistics import median_ebv
from training.splits import numbers, usable_rows
from training.trained_model import TrainedModel

MODEL = "this model"
NOT_RECALIBRATED = "this model, not recalibrated"

FORMATS: tuple[Literal["png", "svg", "pdf"], ...] = ("png", "svg", "pdf")

TABLE_METRICS = ("sigma_mad", "outlier_fraction", "bias", "crps", "pit_ks", "coverage_68", "coverage_95")

# Default output of `learning-curve`, which reports show.
LEARNING_CURVE = Path("runs/learning-curve/learning-curve.json")


@dataclass(frozen=True)
class Evaluation:
    """Predictions for n test galaxies, and the scores of the model and of the catalogue methods."""

    pdfs: FloatArray  # (n, n_bins)
    rows: IntArray  # (n,) rows in the data
    scores: dict[str, dict[str, Score]]  # method -> metric -> Score; the first method is `MODEL`
    crps_gaussian: float  # mean CRPS of Gaussians with the means and standard deviations of the PDFs
    flags: IntArray  # (n,) bit masks of `photoz.flags.Flag`
    ood_scores: FloatArray  # (n,) NaN for a model without feature groups


def evaluate(model: TrainedModel, cutouts: Cutouts) -> Evaluation:
    """Score a model and the catalogue methods on the test galaxies with z_spec on the grid, with bootstrap errors.

    A model with a calibration is scored without it too. Raises `InvalidDataset` if there are no such galaxies, or as
    `check_columns`.
    """
    spec, grid = model.spec, model.grid
    check_columns(cutouts, spec)
    rows = usable_rows(cutouts, grid, TEST)
    z_spec = numbers(cutouts, "z_spec", rows)
    predictions = model.predict(cutouts, rows)
    scores = {MODEL: summarise(galaxy_scores(predictions.pdfs, z_spec, grid))}
    if model.calibration:
        scores[NOT_RECALIBRATED] = summarise(galaxy_scores(predictions.raw_pdfs, z_spec, grid))
    scores |= baseline_scores(cutouts, spec, grid, _reddening(cutouts))
    gaussian = properscoring.crps_gaussian(z_spec, pdf.mean(predictions.pdfs, grid), pdf.std(predictions.pdfs, grid))
    return Evaluation(predictions.pdfs, rows, scores, float(gaussian.mean()), predictions.flags, predictions.ood_scores)


def _reddening(cutouts: Cutouts) -> FloatArray:
    """E(B-V) of all cutouts, (n,), for the catalogue methods: their median where it is unknown."""
    ebv = as_reddening(cutouts.columns.get("ebv"), len(cutouts))
    median = np.float32(median_ebv(cutouts, np.arange(len(cutouts))))
    return np.where(np.isnan(ebv), median, ebv).astype(np.float64)


def galaxies_digest(cutouts: Cutouts, rows: IntArray) -> str:
    """Identify a set of galaxies by the sha256 of their redshifts in order."""
    return hashlib.sha256(numbers(cutouts, "z_spec", rows).astype("<f8").tobytes()).hexdigest()


def write_report(
    evaluation: Evaluation,
    cutouts: Cutouts,
    card: Card,
    folder: Path,
    learning_curve: Path = LEARNING_CURVE,
    *,
    figures: bool = True,
) -> None:
    """Write an evaluation as metrics.json, report.html and, if `figures` is true, figures/NAME.png, .svg and .pdf.

    The report shows the output of `python -m training learning-curve` if there is one with the same architecture and
    test galaxies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    report = _report(evaluation, cutouts, card, _read_curve(learning_curve, card, evaluation, cutouts))
    content = {
        "model": f"{card.name} {card.version}",
        "data": cutouts.provenance,
        "n_galaxies": len(evaluation.rows),
        "crps_gaussian": evaluation.crps_gaussian,
        "scores": {method: as_numbers(scores) for method, scores in evaluation.scores.items()},
        "bins": {table.quantity: [asdict(row) for row in table.bins] for table in report.tables},
        "flags": [{**row._asdict(), "scores": as_numbers(row.scores)} for row in report.flags],
        "learning_curve": {str(n): as_numbers(scores) for n, scores in report.learning_curve.items()},
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
    """Return scores as JSON has them: the value and the error of each metric."""
    return {metric: asdict(score) for metric, score in scores.items()}


def _read_curve(path: Path, card: Card, evaluation: Evaluation, cutouts: Cutouts) -> dict[int, dict[str, Score]]:
    if not path.is_file():
        return {}
    curve = json.loads(path.read_text(encoding="utf-8"))
    expected = (card.architecture.name, galaxies_digest(cutouts, evaluation.rows))
    if (curve["settings"]["architecture"], curve["test_galaxies"]) != expected:
        return {}
    return {
        point["n_train"]: {metric: Score(**score) for metric, score in point["scores"].items()}
        for point in curve["points"]
    }


def _report(
    evaluation: Evaluation, cutouts: Cutouts, card: Card, learning_curve: Mapping[int, Mapping[str, Score]]
) -> Report:
    rows = evaluation.rows
    names = cutouts.columns.get("object_id")
    return make_report(
        evaluation.pdfs,
        numbers(cutouts, "z_spec", rows),
        card.grid,
        title=f"{card.name} {card.version}",
        description=f"{len(rows)} test galaxies; {cutouts.provenance or 'no provenance given'}.",
        **_photometry(cutouts, rows, card),
        flags=evaluation.flags,
        learning_curve=learning_curve,
        baselines={method: scores for method, scores in evaluation.scores.items() if method != MODEL},
        object_id=None if names is None else names[rows],
    )


def _photometry(cutouts: Cutouts, rows: IntArray, card: Card) -> dict[str, Any]:
    """Return the magnitude in the middle band and a colour, g - r or that of the first two bands.

    They are dereddened if the extinction of all bands is known.
    """
    bands = card.image.bands
    if "magnitudes" not in cutouts.columns:
        return {}
    extinction = card.image.extinction
    magnitudes = numbers(cutouts, "magnitudes", rows) - extinction * _reddening(cutouts)[rows, np.newaxis]
    prefix = "dereddened " if extinction.all() else ""
    middle = len(bands) // 2
    photometry = {"magnitudes": magnitudes[:, middle], "magnitude_label": f"{prefix}{bands[middle]} [mag]"}
    if len(bands) > 1:
        blue, red = ("g", "r") if {"g", "r"} <= set(bands) else bands[:2]
        photometry["colours"] = magnitudes[:, bands.index(blue)] - magnitudes[:, bands.index(red)]
        photometry["colour_label"] = f"{prefix}{blue} − {red} [mag]"
    return photometry


def table(scores: Mapping[str, Mapping[str, Score]]) -> str:
    """Format scores as a plain-text table with one line for each method."""
    width = max(len(method) for method in scores)
    lines = [" " * width + "".join(f"  {metric:>17}" for metric in TABLE_METRICS)]
    for method, metrics in scores.items():
        cells = (str(metrics[metric]) if metric in metrics else "-" for metric in TABLE_METRICS)
        lines.append(method.ljust(width) + "".join(f"  {cell:>17}" for cell in cells))
    return "\n".join(lines)
