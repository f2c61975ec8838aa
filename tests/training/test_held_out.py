"""Cross-fitting: every galaxy is judged by networks that were not trained on it."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from photoz.errors import InvalidDataset
from photoz.grid import SDSS_GRID
from photoz.images import SDSS_IMAGES
from photoz.io.cutouts import TEST, TRAIN, VALIDATION, Cutouts
from photoz.io.reader import open_cutouts
from photoz.model.bundle import ModelBundle
from training.cli import main
from training.held_out import fit_and_hold_out, folds
from training.rows import usable_rows
from training.settings import Settings


@pytest.fixture
def cutouts() -> Cutouts:
    """Forty galaxies to train on, each seen twice, and ten to test on; one redshift is beyond the grid."""
    z_spec = np.linspace(0.01, 0.39, 90)
    z_spec[7] = 0.9
    names = np.array([f"galaxy-{number}" for number in [*range(40), *range(40), *range(40, 50)]])
    split = np.array([TRAIN] * 80 + [TEST] * 10)
    return Cutouts(np.zeros((90, 4, 4, 1)), {"split": split, "z_spec": z_spec, "object_id": names})


def test_each_galaxy_is_left_out_once_with_all_its_cutouts(cutouts: Cutouts) -> None:
    dealt = list(folds(cutouts, SDSS_GRID, 5))
    firsts = {*range(40), 47} - {7}
    assert sorted(np.concatenate([left_out for _, left_out in dealt])) == sorted(firsts)
    names = cutouts.column("object_id")
    for others, left_out in dealt:
        trained = usable_rows(others, SDSS_GRID, TRAIN)
        assert not set(names[trained]) & set(names[left_out])
        assert len(trained) + 2 * len(left_out) - (47 in left_out) == 79
        np.testing.assert_array_equal(others.rows(TEST), cutouts.rows(TEST))
        assert len(left_out) == 8


def test_more_folds_than_galaxies_are_refused(cutouts: Cutouts) -> None:
    with pytest.raises(InvalidDataset, match="at least 41 galaxies to train on for as many folds, got 40"):
        list(folds(cutouts, SDSS_GRID, 41))


@pytest.mark.slow
def test_a_cross_fitted_bundle_is_calibrated_on_all_that_it_was_trained_on(sample_file: Path, tmp_path: Path) -> None:
    arguments = ["train", "--data", str(sample_file), "--run", str(tmp_path / "run"), "--resume", "--no-figures"]
    arguments += ["--epochs", "1", "--folds", "2", "--bundle", str(tmp_path / "bundle")]
    assert CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code == 0
    with open_cutouts(sample_file) as opened:
        n_known = len(opened.rows(TRAIN)) + len(opened.rows(VALIDATION))
    card = ModelBundle.load(tmp_path / "bundle").card
    assert (card.training.n_train, card.training.n_validation) == (n_known, 0)
    assert card.calibration is not None
    assert card.calibration.n_galaxies == n_known
    assert card.training.hyper_parameters["folds"] == 2
    histories = [tmp_path / "run" / folder / "history.csv" for folder in (".", "fold-0", "fold-1")]
    stamps = [path.stat().st_mtime_ns for path in histories]
    CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert [path.stat().st_mtime_ns for path in histories] == stamps


@pytest.mark.slow
def test_without_folds_the_validation_galaxies_are_held_out(sample_file: Path, tmp_path: Path) -> None:
    with open_cutouts(sample_file) as cutouts:
        fitted, _, held_out = fit_and_hold_out(
            cutouts, SDSS_IMAGES, SDSS_GRID, Settings(epochs=1), tmp_path, resume=False
        )
        rows = cutouts.rows(VALIDATION)
        np.testing.assert_array_equal(held_out.z_spec, cutouts.column("z_spec")[rows])
    assert fitted.n_validation == len(rows)
    assert "val_loss" in json.loads((tmp_path / "checkpoint" / "history.json").read_text())[0]
    assert held_out.pdfs.shape == (len(rows), 180)
    assert np.isfinite(held_out.ood_scores).all()
