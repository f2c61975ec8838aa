"""The learning curve: nested samples, the same test galaxies, and runs that go on where they stopped."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from photoz.io.cutouts import TEST, TRAIN, VALIDATION, Cutouts
from photoz.io.reader import open_cutouts
from training.cli import main
from training.evaluation import galaxies_digest
from training.learning_curve import scaled, subset
from training.settings import Settings


@pytest.fixture
def cutouts() -> Cutouts:
    split = np.array([TRAIN] * 70 + [VALIDATION] * 10 + [TEST] * 20)
    return Cutouts(np.zeros((100, 4, 4, 1)), {"split": split, "z_spec": np.linspace(0.0, 0.3, 100)})


def test_a_smaller_sample_is_part_of_every_larger_one(cutouts: Cutouts) -> None:
    train = cutouts.rows(TRAIN)
    samples = [set(subset(cutouts, train, n).rows(TRAIN)) for n in (5, 20, 70)]
    assert [len(sample) for sample in samples] == [5, 20, 70]
    assert samples[0] < samples[1] < samples[2] == set(train)


def test_validation_and_test_galaxies_stay_the_same_and_the_cutouts_untouched(cutouts: Cutouts) -> None:
    smaller = subset(cutouts, cutouts.rows(TRAIN), 5)
    for split in (VALIDATION, TEST):
        np.testing.assert_array_equal(smaller.rows(split), cutouts.rows(split))
    assert len(cutouts.rows(TRAIN)) == 70


def test_small_samples_are_passed_over_more_often() -> None:
    settings = Settings(epochs=50)
    assert scaled(settings, 7200, 7200) == settings
    assert scaled(settings, 1800, 7200).epochs == 100


@pytest.mark.slow
def test_the_command_trains_each_size_once_and_writes_the_scores(sample_file: Path, tmp_path: Path) -> None:
    arguments = ["learning-curve", "--data", str(sample_file), "--run", str(tmp_path), "--epochs", "1"]
    arguments += ["--size", "60", "--size", "5000"]
    assert CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code == 0
    found = json.loads((tmp_path / "learning-curve.json").read_text())
    with open_cutouts(sample_file) as cutouts:
        n_train = len(cutouts.rows(TRAIN)) + len(cutouts.rows(VALIDATION))
        assert found["test_galaxies"] == galaxies_digest(cutouts, cutouts.rows(TEST))
    assert [point["n_train"] for point in found["points"]] == [60, n_train]
    assert all(point["scores"]["crps"]["value"] > 0 for point in found["points"])
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/history.csv")}
    assert len(stamps) == 2
    CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert json.loads((tmp_path / "learning-curve.json").read_text()) == found
