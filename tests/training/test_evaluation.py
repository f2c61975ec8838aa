"""Reports: page, figures and numbers."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from photoz import pdf
from photoz.flags import Flag
from photoz.grid import SDSS_GRID
from photoz.images import SDSS_IMAGES, ImageSpec
from photoz.io.cutouts import TEST, Cutouts
from photoz.io.reader import open_cutouts
from photoz.metrics import galaxy_scores, summarise
from photoz.model.card import Architecture, Card, Inputs, TrainingRecord
from training.baselines import gaussian_pdfs
from training.evaluation import MODEL, Evaluation, galaxies_digest, write_report

TRAINING = TrainingRecord(
    data="",
    data_sha256="",
    n_train=1,
    n_validation=1,
    z_range=(0.01, 0.39),
    hyper_parameters={},
    seed=0,
    epochs=1,
    git_commit=None,
    library_versions={},
)


def card_of(spec: ImageSpec) -> Card:
    architecture = Architecture(name="compact", parameters=1)
    made = {"name": "toy", "version": "1", "created": datetime(2026, 1, 1, tzinfo=UTC)}
    return Card(
        **made, grid=SDSS_GRID, image=spec, inputs=Inputs(ebv=True), architecture=architecture, training=TRAINING
    )


def evaluate_gaussians(cutouts: Cutouts) -> Evaluation:
    """Evaluate PDFs around the true redshifts, one of them flagged."""
    rows = cutouts.rows(TEST)
    z_spec = cutouts.column("z_spec")[rows]
    off = np.random.default_rng(0).normal(0.0, 0.01, len(rows))
    pdfs = pdf.as_pdfs(gaussian_pdfs(z_spec + off, np.full(len(rows), 0.01), SDSS_GRID), SDSS_GRID)
    flags = np.zeros(len(rows), np.int32)
    flags[0] = Flag.LOW_SNR
    scores = summarise(galaxy_scores(pdfs, z_spec, SDSS_GRID))
    return Evaluation(pdfs, rows, {MODEL: scores, "trees": scores}, 0.01, flags, np.full(len(rows), np.nan))


def write_curve(path: Path, architecture: str, digest: str, scores: dict) -> Path:
    numbers = {name: asdict(score) for name, score in scores.items()}
    points = [{"n_train": n, "epochs": 1, "scores": numbers} for n in (50, 100)]
    content = {"settings": {"architecture": architecture}, "test_galaxies": digest, "points": points}
    path.write_text(json.dumps(content))
    return path


def test_report_has_numbers_and_figures(sample_file: Path, tmp_path: Path) -> None:
    with open_cutouts(sample_file) as cutouts:
        evaluation = evaluate_gaussians(cutouts)
        digest = galaxies_digest(cutouts, evaluation.rows)
        curve = write_curve(tmp_path / "curve.json", "compact", digest, evaluation.scores[MODEL])
        write_report(evaluation, cutouts, card_of(SDSS_IMAGES), tmp_path / "report", curve)
    numbers = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert {"model", "data", "n_galaxies", "crps_gaussian", "scores"} <= set(numbers)
    assert numbers["scores"][MODEL]["sigma_mad"]["value"] == evaluation.scores[MODEL]["sigma_mad"].value
    assert {row["flag"]: row["n_galaxies"] for row in numbers["flags"]}["LOW_SNR"] == 1
    assert list(numbers["learning_curve"]) == ["50", "100"]
    assert list(numbers["bins"]) == ["true redshift", "dereddened r [mag]", "dereddened g − r [mag]"]
    files = {path.name for path in (tmp_path / "report" / "figures").iterdir()}
    names = ("scatter", "stacked", "panels", "pit", "qq", "coverage", "by_redshift", "by_magnitude", "by_colour")
    assert files == {f"{name}.{format}" for name in (*names, "learning_curve") for format in ("png", "svg", "pdf")}
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("<img") == 10
    assert "LOW_SNR" in page


@pytest.mark.parametrize(("architecture", "same_galaxies"), [("inception", True), ("compact", False)])
def test_learning_curve_of_another_model_is_left_out(
    sample_file: Path, tmp_path: Path, architecture: str, same_galaxies: bool
) -> None:
    with open_cutouts(sample_file) as cutouts:
        evaluation = evaluate_gaussians(cutouts)
        digest = galaxies_digest(cutouts, evaluation.rows[0 if same_galaxies else 1 :])
        curve = write_curve(tmp_path / "curve.json", architecture, digest, evaluation.scores[MODEL])
        write_report(evaluation, cutouts, card_of(SDSS_IMAGES), tmp_path, curve, figures=False)
    assert json.loads((tmp_path / "metrics.json").read_text())["learning_curve"] == {}
    assert not (tmp_path / "figures" / "learning_curve.png").exists()


def test_colours_of_unknown_bands_are_not_dereddened(tmp_path: Path) -> None:
    n = 30
    rng = np.random.default_rng(0)
    columns = {
        "z_spec": rng.uniform(0.05, 0.3, n),
        "split": np.full(n, TEST),
        "magnitudes": np.stack([np.linspace(20, 19, n), np.full(n, 18.5)], axis=1),
    }
    cutouts = Cutouts(np.zeros((n, 8, 8, 2)), columns)
    spec = ImageSpec(size=8, bands=("J", "H"))
    write_report(evaluate_gaussians(cutouts), cutouts, card_of(spec), tmp_path, tmp_path / "none", figures=False)
    assert list(json.loads((tmp_path / "metrics.json").read_text())["bins"]) == [
        "true redshift",
        "H [mag]",
        "J − H [mag]",
    ]
