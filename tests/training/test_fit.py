"""Recipes, and fits of one or several small networks: best weights, interruptions, ensembles, folds, curves."""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import keras
import numpy as np
import pytest

from photoz.errors import InvalidDataset
from photoz.images import UNKNOWN_EBV
from photoz.inference.reading import read_batch
from photoz.io.cutouts import TEST, TRAIN, VALIDATION, Cutouts
from photoz.model.bundle import ModelBundle
from tests.running import ROOT
from tests.training.small import GRID, SETTINGS, SPEC
from training import checkpoint, cross_fitting, ensemble, evaluation, learning_curve, objectives, splits
from training.fit import _optimizer, fit
from training.recipes import PRESETS, TrainingSettings, settings_for

QUICK = replace(SETTINGS, epochs=1)


def fitted_in(run, cutouts, settings=QUICK, resume=False):
    return fit(cutouts, SPEC, GRID, settings, run, resume=resume)


def history(run):
    return (run / "history.csv").read_text().splitlines()


def times_of_runs(folder):
    """Return when the files of all runs in a folder were written, by path."""
    names = ("history.csv", "checkpoint.npz")
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name in names}


def assert_same_weights(first, second):
    for weights, others in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, others)


def test_recipes_have_the_published_numbers_and_the_optimizer_follows_them():
    plain = {"weight_decay": 0.0, "clip_norm": 0.0, "ema_momentum": 0.0}
    paper = TrainingSettings("pasquet", "one-hot", 128, 39, 1e-4, patience=39, schedule="halfway-fifth", **plain)
    selection = {"select": "dered_petro_r<=17.8,z_spec<=0.4", "shares": "393219,20000,103305"}
    assert settings_for(preset="pasquet2019") == replace(paper, seeds=6, **selection)
    assert settings_for("pasquet") == paper
    changed = settings_for(preset="pasquet2019", architecture="compact", epochs=2, select="")
    assert changed == replace(PRESETS["pasquet2019"], architecture="compact", epochs=2, select="")
    inception = TrainingSettings("inception", "one-hot", 32, 20, 1e-3, patience=20)
    assert settings_for("inception") == inception
    assert settings_for(preset="inception") == replace(inception, schedule="constant", **plain)
    compact = TrainingSettings("compact", "crps", 64, 24, 2e-3, 24, 0, "cosine", 1e-3, 1.0, 0.995)
    assert settings_for() == replace(compact, defects=0.3, unknown_ebv=0.1)
    for schedule, expected in {
        "halfway-fifth": [1e-4, 1e-4, 1e-4, 2e-5, 2e-5],  # the boundary itself belongs to the first half
        "constant": [1e-4, 1e-4, 1e-4, 1e-4, 1e-4],
        "cosine": [0.0, 9.5098e-05, 6.15148e-05, 1.96373e-05, 1e-06],
    }.items():
        optimizer, rates = _optimizer(replace(SETTINGS, schedule=schedule, epochs=4, learning_rate=1e-4), 2), []
        for step in range(0, 10, 2):
            optimizer.iterations.assign(step)
            rates.append(float(optimizer.learning_rate))
        assert rates == pytest.approx(expected, rel=1e-4)
    config, plain = optimizer.get_config(), _optimizer(PRESETS["inception"], 10).get_config()
    names = ("weight_decay", "clipnorm", "use_ema", "ema_momentum")
    assert [config[name] for name in names] == [1e-3, 1.0, True, 0.995]
    assert [plain[name] for name in names] == [0.0, None, False, 0.99]


def test_fit_has_the_weights_of_the_best_epoch(linear, cutouts, tmp_path):
    settings = replace(SETTINGS, epochs=6, patience=1, learning_rate=30.0, schedule="constant")
    fitted = fitted_in(tmp_path, cutouts, settings)
    losses = [epoch["val_loss"] for epoch in fitted.history]
    assert len(losses) == np.argmin(losses) + 2 < 6  # it stopped after one epoch without progress
    batch, targets = read_batch(cutouts, cutouts.rows(VALIDATION), SPEC, 0.0), objectives.objective("crps", GRID)
    pdfs = fitted.network.predict_on_batch({"images": batch.images, "ebv": batch.ebv[:, np.newaxis]})
    loss = targets.loss(targets.encode(cutouts.column("z_spec")[cutouts.rows(VALIDATION)]), pdfs)
    assert np.mean(loss) == pytest.approx(min(losses), rel=1e-4)  # of the average of the weights
    z_spec = cutouts.column("z_spec")[cutouts.rows(TRAIN)]
    assert (fitted.n_train, fitted.n_validation) == (len(z_spec), len(batch))
    assert (fitted.z_range, fitted.ebv_default) == ((z_spec.min(), z_spec.max()), UNKNOWN_EBV)


def test_bfloat16_gives_a_float32_network_and_unknown_reddening_becomes_the_median(linear, cutouts, tmp_path):
    merged = cross_fitting.merge_validation(cutouts)
    settings = replace(QUICK, architecture="pasquet", precision="mixed_bfloat16")
    fitted = fitted_in(tmp_path, merged, settings)
    assert {layer.dtype_policy.name for layer in fitted.network.layers} == {"float32"}
    assert_same_weights(fitted.network, fitted_in(tmp_path, merged, settings, resume=True).network)
    assert fitted.ebv_default == pytest.approx(np.median(cutouts.column("ebv")[merged.rows(TRAIN)]))
    assert fitted.n_validation == 0
    assert "val_loss" not in fitted.history[0]


def test_interrupted_run_continues_as_if_it_had_not_been(linear, cutouts, tmp_path, monkeypatch):
    settings, run = replace(SETTINGS, batch_size=64), tmp_path / "run"  # one batch: their order in an epoch may differ
    whole = fitted_in(tmp_path / "whole", cutouts, settings)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.CheckpointCallback, "is_finished", lambda checkpoint: len(checkpoint.history) == 1)
        fitted_in(run, cutouts, settings)
    assert history(run) == history(tmp_path / "whole")[:2]
    resumed = fitted_in(run, cutouts, settings, resume=True)
    assert history(run) == history(tmp_path / "whole")
    assert_same_weights(resumed.network, whole.network)
    checkpoint.CheckpointCallback(run, settings, resume=False)
    assert [path.name for path in run.iterdir()] == ["settings.json"]  # without resume, a run starts again


def test_a_run_removes_and_overwrites_nothing_but_its_own_files(cutouts, tmp_path):
    run, victim = tmp_path / "run", tmp_path / "victim"
    for path in (run / "thesis" / "a.tex", run / ".bashrc", victim):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    for name in (".checkpoint.npz", ".settings.json", "checkpoint.npz", "tensorboard"):
        (run / name).symlink_to(victim)
    with pytest.raises(InvalidDataset, match=r"checkpoint\.npz is a link: expected the folder of a run"):
        fitted_in(run, cutouts, SETTINGS, resume=True)
    fitted_in(run, cutouts, replace(SETTINGS, epochs=1))
    assert [path.read_text() for path in (run / "thesis" / "a.tex", run / ".bashrc", victim)] == ["mine"] * 3
    assert not (run / "checkpoint.npz").is_symlink()


def test_finished_run_is_not_trained_again(trained, cutouts, tmp_path):
    shutil.copytree(trained / "run", tmp_path / "run")
    (tmp_path / "run" / ".checkpoint.npz").write_bytes(b"a checkpoint that a kill interrupted")
    before = times_of_runs(tmp_path)
    fitted = fitted_in(tmp_path / "run", cutouts, SETTINGS, resume=True)
    assert times_of_runs(tmp_path) == before
    assert fitted.history[-1]["learning_rate"] == pytest.approx(2e-5)  # a hundredth, after all steps
    assert_same_weights(fitted.network, keras.models.load_model(trained / "toy" / "model.keras", compile=False))
    with pytest.raises(InvalidDataset, match="was started with other settings: resume with those in .*settings.json"):
        fitted_in(tmp_path / "run", cutouts, replace(SETTINGS, epochs=9), resume=True)


@pytest.mark.acceptance
def test_killed_run_is_resumed_and_writes_its_bundle(sample_file, tmp_path):
    recipe, run = ["--epochs", "4", "--batch-size", "8", "--resume", "--no-figures", "--only-f32"], tmp_path / "run"
    places = ["--data", str(sample_file), "--run", str(run), "--bundle", str(tmp_path / "bundle")]
    command = [sys.executable, "-m", "training", "train", *recipe, *places]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        while not (run / "history.csv").exists() and process.poll() is None:
            time.sleep(0.02)
        assert process.poll() is None, "the run ended"
        process.kill()
    assert not (tmp_path / "bundle").exists()
    before = history(run)
    assert len(before) < 5
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    after = history(run)
    assert [line.partition(",")[0] for line in after] == ["epoch", "1", "2", "3", "4"]
    assert after[: len(before)] == before
    assert ModelBundle.load(tmp_path / "bundle").card.training.epochs == 4


def test_ensemble_averages_its_members_and_trains_only_missing_ones(linear, cutouts, tmp_path):
    def average_of(seeds):
        settings = replace(QUICK, seed=3, seeds=seeds)
        return ensemble.fit_ensemble(cutouts, SPEC, GRID, settings, tmp_path, resume=True).network

    two = average_of(2)
    before = times_of_runs(tmp_path)
    assert {path.parent.name for path in before} == {"seed-3", "seed-4"}
    members = [fitted_in(tmp_path / f"seed-{n}", cutouts, replace(QUICK, seed=n), resume=True).network for n in (3, 4)]
    batch = read_batch(cutouts, cutouts.rows(TEST), SPEC, 0.0)
    inputs = {"images": batch.images, "ebv": batch.ebv[:, np.newaxis]}
    average, *pdfs = (np.asarray(network(inputs)) for network in (two, *members))
    assert np.abs(pdfs[0] - pdfs[1]).max() > 1e-4
    np.testing.assert_allclose(average, np.mean(pdfs, axis=0), rtol=0, atol=1e-6)
    features, *parts = (
        np.asarray(keras.Model(network.inputs, network.get_layer("features").output)(inputs))
        for network in (two, *members)
    )
    np.testing.assert_allclose(features, np.concatenate(parts, axis=1), rtol=1e-4, atol=1e-4)
    assert average_of(3).get_layer("features").output.shape == (None, 12)
    after = times_of_runs(tmp_path)
    assert {path: after[path] for path in before} == before
    assert {path.parent.name for path in after.keys() - before} == {"seed-5"}


def test_each_galaxy_is_predicted_by_a_network_that_was_not_trained_on_it(linear, cutouts, tmp_path):
    def held_out_of(settings, run):
        return cross_fitting.fit_and_predict_held_out(cutouts, SPEC, GRID, settings, tmp_path / run, resume=True)

    settings = replace(QUICK, folds=2)
    fitted, model, held_out = held_out_of(settings, "folds")
    known = np.flatnonzero(cutouts.column("split") != TEST)
    assert (fitted.n_train, fitted.n_validation) == (len(known), 0)
    assert sorted(held_out.z_spec) == sorted(cutouts.column("z_spec")[known])
    merged = cross_fitting.merge_validation(cutouts)
    train, fold_of = cross_fitting.assign_folds(merged, GRID, 2)
    first = fitted_in(tmp_path / "fold", splits.without(merged, train[fold_of == 0]), settings).network
    left_out, _ = splits.group_by_galaxy(merged, train[fold_of == 0])
    expected = replace(model, network=first).predict(cutouts, left_out)
    np.testing.assert_allclose(held_out.pdfs[: len(expected.pdfs)], expected.raw_pdfs, rtol=1e-5)
    assert np.isfinite(held_out.ood_scores).all()
    assert len(times_of_runs(tmp_path / "folds")) == 6
    fitted, _, held_out = held_out_of(QUICK, "plain")
    validation = cutouts.rows(VALIDATION)
    np.testing.assert_array_equal(held_out.z_spec, cutouts.column("z_spec")[validation])
    assert (fitted.n_validation, held_out.pdfs.shape) == (len(validation), (len(validation), GRID.n_bins))


def test_folds_and_nested_samples_keep_the_cutouts_of_a_galaxy_together():
    """Forty training galaxies with two cutouts each, and ten test galaxies; one redshift is off the grid."""
    z_spec, split = np.linspace(0.01, 0.39, 90), np.array([TRAIN] * 80 + [TEST] * 10)
    z_spec[7] = 0.9
    names = np.array([f"galaxy-{number}" for number in [*range(40), *range(40), *range(40, 50)]])
    doubles = Cutouts(np.zeros((90, 4, 4, 1)), {"split": split, "z_spec": z_spec, "object_id": names})
    train, fold_of = cross_fitting.assign_folds(doubles, GRID, 5)
    np.testing.assert_array_equal(train, [row for row in range(80) if row != 7])
    folds = [set(names[train][fold_of == number]) for number in range(5)]
    assert [len(fold) for fold in folds] == [8] * 5
    assert len(set.union(*folds)) == 40
    cross_fitting.assign_folds(doubles, GRID, 40)
    with pytest.raises(InvalidDataset, match="at least 41 training galaxies for 41 folds, got 40"):
        cross_fitting.assign_folds(doubles, GRID, 41)
    train = doubles.rows(TRAIN)
    samples = [set(learning_curve.subset(doubles, train, n).rows(TRAIN)) for n in (5, 20, 40)]
    assert [len(sample) for sample in samples] == [10, 40, 80]
    assert samples[0] < samples[1] < samples[2] == set(train)
    np.testing.assert_array_equal(learning_curve.subset(doubles, train, 5).rows(TEST), doubles.rows(TEST))
    assert learning_curve.scaled(TrainingSettings(epochs=50), 7200, 7200) == TrainingSettings(epochs=50)
    assert learning_curve.scaled(TrainingSettings(epochs=50), 1799, 7200) == TrainingSettings(epochs=101)


def test_learning_curve_trains_each_size_once_and_writes_scores(linear, cutouts, sample_file, tmp_path, run_cli):
    sizes = ("--epochs", 1, "--size", 16, "--size", 5000)
    arguments = ("learning-curve", "--data", sample_file, "--run", tmp_path, *sizes)
    assert f"{tmp_path / 'learning-curve.json'}: 2 networks\n" in run_cli(*arguments)
    curve = json.loads((tmp_path / "learning-curve.json").read_text())
    n_train = len(cutouts) - len(cutouts.rows(TEST))
    assert curve["test_galaxies"] == evaluation.galaxies_digest(cutouts, cutouts.rows(TEST))
    assert (curve["data"], curve["settings"]["epochs"]) == (cutouts.provenance, 1)
    assert [(point["n_train"], point["epochs"]) for point in curve["points"]] == [(16, 2), (n_train, 1)]
    assert all(0 < point["scores"]["crps"]["value"] < 0.3 for point in curve["points"])
    before = times_of_runs(tmp_path)
    assert len(before) == 4
    run_cli(*arguments)
    assert times_of_runs(tmp_path) == before
    assert json.loads((tmp_path / "learning-curve.json").read_text()) == curve
