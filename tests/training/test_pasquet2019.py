"""The published cube and the paper's configuration, with sixty simulated galaxies in the layout of the cube."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from photoz.errors import InvalidDataset
from photoz.grid import SDSS_GRID
from photoz.images import SDSS_IMAGES, ImageSpec
from photoz.inference.reading import read_batch
from photoz.io.reader import open_cutouts
from photoz.model.bundle import ModelBundle
from training.catalogue import read_kcorrect
from training.convert import convert_cube
from training.ensemble import fit_ensemble
from training.fit import fit
from training.pipeline import evaluate_bundle
from training.recipes import PRESETS, TrainingSettings, settings_for
from training.sample import make_sample
from training.splits import with_split

ROOT = Path(__file__).parents[2]
N = 60
SMALL = ImageSpec(size=24)


def make_cube(folder: Path, spec: ImageSpec) -> Path:
    """Write sixty galaxies in the layout of sdss.npz, every tenth fainter than the paper's limit."""
    make_sample(read_kcorrect().head(N), folder / "sample.h5", spec, workers=1)
    with open_cutouts(folder / "sample.h5") as cutouts:
        labels = np.empty(N, dtype=[("objID", "i8"), ("z", "f4"), ("EBV", "f4"), ("dered_petro_r", "f4")])
        labels["objID"], labels["z"] = np.arange(N), cutouts.column("z_spec")
        labels["EBV"], labels["dered_petro_r"] = cutouts.column("ebv"), 17.0 + 0.9 * (np.arange(N) % 10 == 9)
        np.savez(folder / "sdss.npz", cube=cutouts.images[:], labels=labels)
        np.savez_compressed(folder / "compressed.npz", cube=cutouts.images[:], labels=labels)
    return folder / "sdss.npz"


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cube(tmp_path_factory.mktemp("cube"), SDSS_IMAGES)


@pytest.fixture(scope="module")
def small_cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with smaller cutouts, so that two networks train in seconds."""
    return make_cube(tmp_path_factory.mktemp("small_cube"), SMALL)


def train(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training", "train", *map(str, arguments)]
    return subprocess.run([*command, "--no-figures"], cwd=ROOT, capture_output=True, text=True)


def test_preset_is_the_configuration_of_the_paper() -> None:
    assert settings_for(preset="pasquet2019") == TrainingSettings(
        architecture="pasquet",
        objective="one-hot",
        batch_size=128,
        epochs=39,
        learning_rate=1e-4,
        patience=39,
        schedule="halfway-fifth",
        weight_decay=0.0,
        clip_norm=0.0,
        ema_momentum=0.0,
        seeds=6,
        select="dered_petro_r<=17.8,z_spec<=0.4",
        shares="393219,20000,103305",
    )


def test_options_override_a_preset() -> None:
    changed = settings_for(preset="pasquet2019", architecture="compact", epochs=2, select="")
    assert (changed.architecture, changed.epochs, changed.select) == ("compact", 2, "")
    assert (changed.batch_size, changed.seeds) == (128, 6)


def test_preset_selects_and_splits_galaxies(cube: Path) -> None:
    preset = PRESETS["pasquet2019"]
    with open_cutouts(cube) as opened:
        cutouts = with_split(opened, preset.select, preset.shares)
        faint = cutouts.column("dered_petro_r") > 17.8
        assert (cutouts.column("split")[faint] == "").all()
        sizes = [len(cutouts.rows(name)) for name in ("train", "validation", "test")]
        assert sum(sizes) == N - faint.sum() == 54
        assert sizes == [41, 2, 11]  # 54 times 0.761, 0.039 and 0.200
        again = with_split(opened, preset.select, preset.shares)
    assert np.array_equal(cutouts.column("split"), again.column("split"))


def test_selection_keeps_the_split_of_the_file(cube: Path) -> None:
    with open_cutouts(cube.with_name("sample.h5")) as cutouts:
        chosen = with_split(cutouts, "z_spec<0.1")
        near = cutouts.column("z_spec") < 0.1
        assert np.array_equal(chosen.column("split")[near], cutouts.column("split")[near])
        assert (chosen.column("split")[~near] == "").all()
        assert 0 < near.sum() < N


def test_impossible_selection_is_refused(cube: Path) -> None:
    with open_cutouts(cube) as cutouts:
        with pytest.raises(InvalidDataset, match="'primtarget'; there are .*z_spec"):
            with_split(cutouts, "primtarget>=64")
        with pytest.raises(InvalidDataset, match="none of 60 galaxies meets z_spec>5"):
            with_split(cutouts, "z_spec>5")


def test_compressed_cube_is_converted(cube: Path, tmp_path: Path) -> None:
    assert convert_cube(cube.with_name("compressed.npz"), tmp_path / "sdss.h5") == N
    with open_cutouts(cube) as original, open_cutouts(tmp_path / "sdss.h5") as converted:
        assert isinstance(converted.images, h5py.Dataset)
        assert converted.spec == SDSS_IMAGES
        np.testing.assert_array_equal(converted.images[:], original.images[:])
        assert converted.columns.keys() == original.columns.keys()
        for name, values in original.columns.items():
            np.testing.assert_array_equal(converted.column(name), values)


def test_convert_cube_refuses_other_files(cube: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match="expected an .npz file with arrays 'cube' and 'labels'"):
        convert_cube(cube.with_name("sample.h5"), tmp_path / "sdss.h5")


def test_learning_rate_is_a_fifth_after_half_of_the_steps(cube: Path, tmp_path: Path) -> None:
    settings = settings_for(architecture="compact", preset="pasquet2019", epochs=4, batch_size=32, seeds=1)
    with open_cutouts(cube) as opened:
        cutouts = with_split(opened, settings.select, settings.shares)
        fitted = fit(cutouts, SDSS_IMAGES, SDSS_GRID, settings, tmp_path, resume=False)
    rates = [epoch["learning_rate"] for epoch in fitted.history]
    # After each epoch: that of the next step, but for the boundary itself, which belongs to the first half.
    assert rates == pytest.approx([1e-4, 1e-4, 2e-5, 2e-5])


@pytest.fixture(scope="module")
def trained(small_cube: Path) -> Path:
    """Bundle and run of the preset on the small cube, after one epoch."""
    folder = small_cube.parent
    tiny = ("--preset", "pasquet2019", "--epochs", 1, "--batch-size", 8, "--seeds", 2, "--only-f32")
    done = train("--data", small_cube, *tiny, "--bundle", folder / "bundle", "--run", folder / "run", "--resume")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_preset_trains_on_the_cube(trained: Path) -> None:
    card = ModelBundle.load(trained / "bundle").card
    assert card.architecture.name == "pasquet"
    assert card.inputs.ebv
    assert (card.training.n_train, card.training.n_validation) == (41, 2)
    assert card.test is not None
    assert card.test.n_galaxies == 11
    assert card.training.hyper_parameters["select"] == PRESETS["pasquet2019"].select
    assert {path.name for path in (trained / "run").iterdir()} >= {"seed-0", "seed-1", "report"}


@pytest.mark.slow
def test_ensemble_averages_the_pdfs_of_its_members(trained: Path, small_cube: Path) -> None:
    bundle = ModelBundle.load(trained / "bundle")
    model = keras.models.load_model(bundle.keras_path, compile=False, safe_mode=True)
    preset = settings_for(preset="pasquet2019", epochs=1, batch_size=8)
    with open_cutouts(small_cube) as opened:
        cutouts = with_split(opened, preset.select, preset.shares)
        batch = read_batch(cutouts, cutouts.rows("test"), SMALL, 0.0)
        inputs = {"images": batch.images, "ebv": batch.ebv[:, np.newaxis]}
        members = [_member(cutouts, preset, trained, seed) for seed in (0, 1)]
    pdfs = [member.predict_on_batch(inputs) for member in members]
    assert np.abs(pdfs[0] - pdfs[1]).max() > 1e-4
    np.testing.assert_allclose(model.predict_on_batch(inputs), np.mean(pdfs, axis=0), rtol=0, atol=1e-6)
    features = keras.Model(model.inputs, model.get_layer("features").output).predict_on_batch(inputs)
    expected = [keras.Model(net.inputs, net.get_layer("features").output).predict_on_batch(inputs) for net in members]
    np.testing.assert_allclose(features, np.concatenate(expected, axis=1), rtol=1e-4, atol=1e-4)


def _member(cutouts, preset: TrainingSettings, folder: Path, seed: int) -> keras.Model:  # noqa: ANN001
    """Read a finished member of the ensemble from its run."""
    settings = settings_for(preset="pasquet2019", epochs=1, batch_size=8, seeds=1, seed=seed)
    return fit(cutouts, SMALL, SDSS_GRID, settings, folder / "run" / f"seed-{seed}", resume=True).network


@pytest.mark.slow
def test_resumed_ensemble_trains_only_missing_members(small_cube: Path, tmp_path: Path) -> None:
    settings = settings_for(preset="pasquet2019", architecture="compact", epochs=1, batch_size=8, seeds=2)
    with open_cutouts(small_cube) as opened:
        cutouts = with_split(opened, settings.select, settings.shares)
        fit_ensemble(cutouts, SMALL, SDSS_GRID, settings, tmp_path, resume=True)
        stamps = [(tmp_path / f"seed-{seed}" / "history.csv").stat().st_mtime_ns for seed in (0, 1)]
        three = fit_ensemble(cutouts, SMALL, SDSS_GRID, replace(settings, seeds=3), tmp_path, resume=True)
    assert [(tmp_path / f"seed-{seed}" / "history.csv").stat().st_mtime_ns for seed in (0, 1)] == stamps
    assert (tmp_path / "seed-2" / "history.csv").exists()
    assert three.network.output_shape == (None, 180)
    assert (three.n_train, three.n_validation) == (41, 2)


@pytest.mark.slow
def test_evaluation_uses_the_split_of_the_training(small_cube: Path, tmp_path: Path) -> None:
    tiny = ("--preset", "pasquet2019", "--architecture", "compact", "--epochs", 1, "--batch-size", 8, "--only-f32")
    done = train("--data", small_cube, *tiny, "--seeds", 1, "--bundle", tmp_path / "bundle", "--run", tmp_path / "run")
    assert done.returncode == 0, done.stderr[-3000:]
    bundle = ModelBundle.load(tmp_path / "bundle")
    evaluation = evaluate_bundle(bundle, small_cube, tmp_path / "report", figures=False)
    assert bundle.card.test is not None
    assert len(evaluation.rows) == bundle.card.test.n_galaxies == 11
    assert evaluation.scores["this model"]["crps"].value == pytest.approx(
        bundle.card.test.scores["this model"]["crps"].value, rel=1e-4
    )


@pytest.mark.slow
def test_train_refuses_a_compressed_cube_in_one_line(cube: Path) -> None:
    done = train("--data", cube.with_name("compressed.npz"))
    assert done.returncode == 1
    assert "Error:" in done.stderr
    assert "python -m training convert" in done.stderr
    assert "Traceback" not in done.stderr
