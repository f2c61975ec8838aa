"""Cross-fitting: each galaxy is predicted by networks that were not trained on it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from photoz.errors import InvalidDataset
from photoz.grid import SDSS_GRID
from photoz.images import SDSS_IMAGES
from photoz.io.cutouts import TEST, TRAIN, VALIDATION, Cutouts
from photoz.io.reader import open_cutouts
from photoz.model.bundle import ModelBundle
from training.cross_fitting import assign_folds, fit_and_predict_held_out
from training.recipes import TrainingSettings


@pytest.fixture
def cutouts() -> Cutouts:
    """Forty training galaxies with two cutouts each, and ten test galaxies; one redshift is off the grid."""
    z_spec = np.linspace(0.01, 0.39, 90)
    z_spec[7] = 0.9
    names = np.array([f"galaxy-{number}" for number in [*range(40), *range(40), *range(40, 50)]])
    split = np.array([TRAIN] * 80 + [TEST] * 10)
    return Cutouts(np.zeros((90, 4, 4, 1)), {"split": split, "z_spec": z_spec, "object_id": names})


def test_each_galaxy_is_in_one_fold_with_all_its_cutouts(cutouts: Cutouts) -> None:
    train, fold_of = assign_folds(cutouts, SDSS_GRID, 5)
    np.testing.assert_array_equal(train, [row for row in range(80) if row != 7])
    names = cutouts.column("object_id")[train]
    folds = [set(names[fold_of == number]) for number in range(5)]
    assert [len(fold) for fold in folds] == [8] * 5
    assert len(set.union(*folds)) == 40


def test_more_folds_than_galaxies_are_refused(cutouts: Cutouts) -> None:
    with pytest.raises(InvalidDataset, match="at least 41 training galaxies for 41 folds, got 40"):
        assign_folds(cutouts, SDSS_GRID, 41)


@pytest.mark.slow
def test_cross_fitted_bundle_is_calibrated_on_all_training_galaxies(
    sample_file: Path, tmp_path: Path, run_cli: Callable[..., str]
) -> None:
    arguments = ["train", "--data", sample_file, "--run", tmp_path / "run", "--resume", "--no-figures"]
    arguments += ["--epochs", 1, "--folds", 2, "--bundle", tmp_path / "bundle", "--only-f32"]
    run_cli(*arguments)
    with open_cutouts(sample_file) as opened:
        n_known = len(opened.rows(TRAIN)) + len(opened.rows(VALIDATION))
    card = ModelBundle.load(tmp_path / "bundle").card
    assert (card.training.n_train, card.training.n_validation) == (n_known, 0)
    assert card.calibration is not None
    assert card.calibration.n_galaxies == n_known
    assert card.training.hyper_parameters["folds"] == 2
    histories = [tmp_path / "run" / folder / "history.csv" for folder in (".", "fold-0", "fold-1")]
    stamps = [path.stat().st_mtime_ns for path in histories]
    run_cli(*arguments)
    assert [path.stat().st_mtime_ns for path in histories] == stamps


@pytest.mark.slow
def test_validation_galaxies_are_held_out_without_folds(sample_file: Path, tmp_path: Path) -> None:
    with open_cutouts(sample_file) as cutouts:
        fitted, _, held_out = fit_and_predict_held_out(
            cutouts, SDSS_IMAGES, SDSS_GRID, TrainingSettings(epochs=1), tmp_path, resume=False
        )
        rows = cutouts.rows(VALIDATION)
        np.testing.assert_array_equal(held_out.z_spec, cutouts.column("z_spec")[rows])
    assert fitted.n_validation == len(rows)
    assert "val_loss" in fitted.history[0]
    assert held_out.pdfs.shape == (len(rows), 180)
    assert np.isfinite(held_out.ood_scores).all()
