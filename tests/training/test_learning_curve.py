import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from photoz.io.cutouts import TEST, TRAIN, VALIDATION, Cutouts
from photoz.io.reader import open_cutouts
from training.evaluation import galaxies_digest
from training.learning_curve import scaled, subset
from training.recipes import TrainingSettings


@pytest.fixture
def cutouts() -> Cutouts:
    split = np.array([TRAIN] * 70 + [VALIDATION] * 10 + [TEST] * 20)
    return Cutouts(np.zeros((100, 4, 4, 1)), {"split": split, "z_spec": np.linspace(0.0, 0.3, 100)})


def test_samples_are_nested(cutouts: Cutouts) -> None:
    train = cutouts.rows(TRAIN)
    samples = [set(subset(cutouts, train, n).rows(TRAIN)) for n in (5, 20, 70)]
    assert [len(sample) for sample in samples] == [5, 20, 70]
    assert samples[0] < samples[1] < samples[2] == set(train)


def test_subset_leaves_other_splits_and_the_cutouts_unchanged(cutouts: Cutouts) -> None:
    smaller = subset(cutouts, cutouts.rows(TRAIN), 5)
    for split in (VALIDATION, TEST):
        np.testing.assert_array_equal(smaller.rows(split), cutouts.rows(split))
    assert len(cutouts.rows(TRAIN)) == 70


def test_small_samples_get_more_epochs() -> None:
    settings = TrainingSettings(epochs=50)
    assert scaled(settings, 7200, 7200) == settings
    assert scaled(settings, 1800, 7200).epochs == 100


@pytest.mark.slow
def test_command_trains_each_size_once_and_writes_scores(
    sample_file: Path, tmp_path: Path, run_cli: Callable[..., str]
) -> None:
    places = ["--data", sample_file, "--run", tmp_path]
    arguments = ["learning-curve", *places, "--epochs", 1, "--size", 60, "--size", 5000]
    run_cli(*arguments)
    curve = json.loads((tmp_path / "learning-curve.json").read_text())
    with open_cutouts(sample_file) as cutouts:
        n_train = len(cutouts.rows(TRAIN)) + len(cutouts.rows(VALIDATION))
        assert curve["test_galaxies"] == galaxies_digest(cutouts, cutouts.rows(TEST))
    assert [point["n_train"] for point in curve["points"]] == [60, n_train]
    assert all(point["scores"]["crps"]["value"] > 0 for point in curve["points"])
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/history.csv")}
    assert len(stamps) == 2
    run_cli(*arguments)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert json.loads((tmp_path / "learning-curve.json").read_text()) == curve
