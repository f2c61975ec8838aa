"""Runs that are killed and resumed."""

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from photoz.errors import InvalidDataset
from photoz.grid import SDSS_GRID
from photoz.images import SDSS_IMAGES, ImageSpec
from photoz.io.reader import open_cutouts
from photoz.model.bundle import ModelBundle
from training.checkpoint import CheckpointCallback
from training.cli import main
from training.fit import fit
from training.recipes import TrainingSettings

ROOT = Path(__file__).parents[2]
EPOCHS = 4


def train_command(sample_file: Path, folder: Path) -> list[str]:
    recipe = ["--epochs", str(EPOCHS), "--batch-size", "8", "--patience", "100"]
    places = ["--data", str(sample_file), "--run", str(folder / "run"), "--bundle", str(folder / "bundle")]
    return [sys.executable, "-m", "training", "train", *recipe, *places, "--resume", "--no-figures", "--only-f32"]


def epochs(folder: Path) -> list[int]:
    path = folder / "run" / "history.csv"
    if not path.exists():
        return []
    with path.open() as file:
        return [int(line["epoch"]) for line in csv.DictReader(file)]


def kill_after(sample_file: Path, folder: Path, n_epochs: int) -> None:
    """Start a run and kill it, as kill -9 does, in the middle of the epoch after `n_epochs`."""
    process = subprocess.Popen(train_command(sample_file, folder), cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while len(epochs(folder)) < n_epochs:
            assert process.poll() is None, "the run ended"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_killed_run_is_resumed_and_writes_its_bundle(sample_file: Path, tmp_path: Path) -> None:
    kill_after(sample_file, tmp_path, 1)
    assert not (tmp_path / "bundle").exists()
    before = epochs(tmp_path)
    subprocess.run(train_command(sample_file, tmp_path), cwd=ROOT, check=True, capture_output=True)
    assert before == list(range(1, len(before) + 1))
    assert len(before) < EPOCHS
    assert epochs(tmp_path) == list(range(1, EPOCHS + 1))
    card = ModelBundle.load(tmp_path / "bundle").card
    assert card.training.epochs == EPOCHS
    assert card.test is not None
    assert "this model" in card.test.scores
    assert (tmp_path / "run" / "report" / "report.html").stat().st_size > 10_000


@pytest.fixture
def finished_run(sample_file: Path, tmp_path: Path) -> Path:
    settings = TrainingSettings(epochs=1, batch_size=64)
    with open_cutouts(sample_file) as cutouts:
        fit(cutouts, SDSS_IMAGES, SDSS_GRID, settings, tmp_path / "run", resume=False)
    return tmp_path / "run"


def test_finished_run_is_not_trained_again(sample_file: Path, finished_run: Path) -> None:
    stamp = (finished_run / "history.csv").stat().st_mtime_ns
    (finished_run / ".checkpoint.npz").write_bytes(b"a checkpoint that a kill interrupted")
    with open_cutouts(sample_file) as cutouts:
        fitted = fit(
            cutouts, SDSS_IMAGES, SDSS_GRID, TrainingSettings(epochs=1, batch_size=64), finished_run, resume=True
        )
    assert (finished_run / "history.csv").stat().st_mtime_ns == stamp
    assert np.isfinite(fitted.network.get_weights()[0]).all()


def test_run_is_not_resumed_with_other_settings(finished_run: Path) -> None:
    with pytest.raises(InvalidDataset, match="started with other settings"):
        CheckpointCallback(finished_run, TrainingSettings(epochs=9), resume=True)


def test_bfloat16_training_gives_a_float32_network(sample_file: Path, tmp_path: Path) -> None:
    settings = TrainingSettings("inception", epochs=1, precision="mixed_bfloat16")
    small = ImageSpec(size=16)
    with open_cutouts(sample_file) as whole:
        cutouts = replace(whole, images=whole.images[:, 24:40, 24:40])
        fitted = fit(cutouts, small, SDSS_GRID, settings, tmp_path, resume=False)
        again = fit(cutouts, small, SDSS_GRID, settings, tmp_path, resume=True)
        inputs = {"images": cutouts.images[:8]}
    assert {str(layer.dtype_policy.name) for layer in fitted.network.layers} == {"float32"}
    pdfs = fitted.network.predict_on_batch(inputs)
    np.testing.assert_allclose(pdfs.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(pdfs, again.network.predict_on_batch(inputs))


def test_bfloat16_is_refused_for_compact(sample_file: Path, tmp_path: Path) -> None:
    arguments = [*train_command(sample_file, tmp_path)[3:], "--precision", "mixed_bfloat16"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "compact sums fluxes, which needs precision float32; got mixed_bfloat16" in result.output
