"""The bundle that `train` writes, the commands that use it, predictions of its network, and what is refused."""

import hashlib
import json
import re
import shutil
from dataclasses import asdict
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from photoz import calibration, drift, ood, pdf
from photoz.calibration import Calibration
from photoz.errors import InvalidBundle
from photoz.flags import Flag
from photoz.grid import RedshiftGrid
from photoz.images import ImageSpec
from photoz.io.cutouts import TEST, TRAIN, VALIDATION, Cutouts
from photoz.io.npz import npz_bytes
from photoz.metrics import galaxy_scores, summarise
from photoz.model.bundle import ModelBundle
from photoz.model.card import Inputs
from tests.pdfs import gaussian_pdfs
from tests.training.small import GRID, SETTINGS, SPEC, N, linear_network
from tests.training.small import TRAIN as OPTIONS
from training import evaluation, feature_groups, pipeline, provenance, splits
from training.evaluation import MODEL, NOT_RECALIBRATED, table
from training.trained_model import TrainedModel


def test_card_and_report_describe_data_model_and_training(bundle, trained, cutouts, sample_file):
    card, test, validation = bundle.card, cutouts.rows(TEST), cutouts.rows(VALIDATION)
    assert (card.name, card.image, card.grid) == ("toy", SPEC, GRID)
    assert card.version == card.created.strftime("%Y.%m.%d-%H%M%S")
    assert card.inputs == Inputs(ebv=True, ebv_assumed=None)
    assert card.architecture.name == "compact"
    assert card.gflop == pytest.approx(0.0009297, rel=1e-3)
    z_spec = cutouts.column("z_spec")[cutouts.rows(TRAIN)]
    expected = {
        "data": cutouts.provenance,
        "data_sha256": hashlib.sha256(sample_file.read_bytes()).hexdigest(),
        "n_train": len(z_spec),
        "n_validation": len(validation),
        "z_range": (z_spec.min(), z_spec.max()),
        "hyper_parameters": asdict(SETTINGS),
        "seed": 0,
        "epochs": 2,
    }
    assert card.training.model_dump(exclude={"library_versions", "git_commit"}) == expected
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", card.training.git_commit or 40 * "0")  # none without a checkout
    assert {"keras", "tensorflow", "numpy", "openvino"} <= card.training.library_versions.keys()
    assert (card.test.data, card.test.n_galaxies) == (cutouts.provenance, len(test))
    assert card.calibration.n_galaxies == len(validation)
    assert card.ood.n_features > 0
    assert card.reference.data == f"test galaxies, not trained on: {cutouts.provenance}"
    assert {name: histogram.edges for name, histogram in card.reference.histograms.items()} == drift.edges(GRID)
    assert card.caveats == provenance.RENDERED_CAVEATS
    assert [engine.name for engine in card.engines] == ["openvino-f32"]
    assert (trained / "run" / "history.csv").read_text().startswith("epoch,loss,val_loss,learning_rate\n1,")
    assert any((trained / "run" / "tensorboard").iterdir())
    numbers = json.loads((trained / "run" / "report" / "metrics.json").read_text())
    assert numbers["scores"][MODEL]["crps"]["value"] == card.test.scores[MODEL]["crps"].value
    assert not (trained / "run" / "report" / "figures").exists()


def test_scores_are_those_of_the_recalibrated_network_that_the_card_describes(bundle, trained, cutouts, tmp_path):
    rows, model = cutouts.rows(TEST), TrainedModel.load(bundle)
    z_spec = cutouts.column("z_spec")[rows]
    assert bundle.card.architecture.parameters == model.network.count_params()
    predictions = model.predict(cutouts, rows)
    for name, pdfs in ((MODEL, predictions.pdfs), (NOT_RECALIBRATED, predictions.raw_pdfs)):
        expected = summarise(galaxy_scores(pdfs, z_spec, GRID))
        assert bundle.card.test.scores[name]["crps"].value == pytest.approx(expected["crps"].value, rel=1e-4)
    z_mean, (low, high) = pdf.mean(predictions.pdfs, GRID), pdf.shortest_interval(predictions.pdfs, GRID, 0.68)
    expected = {"z_mean": z_mean, "z_width68": high - low, "ood_score": predictions.ood_scores}
    for name, histogram in bundle.card.reference.histograms.items():
        counted = [np.mean(expected[name] <= edge + 1e-6) for edge in histogram.edges]
        np.testing.assert_allclose(histogram.fractions, counted)
    gaussians = gaussian_pdfs(z_mean, pdf.std(predictions.pdfs, GRID), GRID)
    expected = summarise(galaxy_scores(gaussians, z_spec, GRID))["crps"].value
    numbers = json.loads((trained / "run" / "report" / "metrics.json").read_text())
    assert numbers["crps_gaussian"] == pytest.approx(expected, rel=0.1)  # those are cut at the ends of the grid
    card = bundle.card.model_copy(update={"grid": RedshiftGrid(0.5, 90), "engines": ()})
    with pytest.raises(InvalidBundle, match=r"'pdf': \(40,\).*its card says.*90"):
        TrainedModel.load(ModelBundle.write(tmp_path / "other", card, bundle.path))


def test_evaluate_scores_the_bundle_again(bundle, sample_file, tmp_path, run_cli, monkeypatch):
    monkeypatch.setattr(evaluation, "baseline_scores", lambda *_: {})  # as in the card, but slow
    report, test = tmp_path / "report", bundle.card.test
    output = run_cli("evaluate", bundle.path, sample_file, "--output", report, "--no-figures", "--no-calibration")
    assert f"{report}: metrics.json, report.html, figures ({test.n_galaxies} galaxies)\n" in output
    assert table({MODEL: test.scores[NOT_RECALIBRATED]}) in output
    assert {path.name for path in report.iterdir()} == {"metrics.json", "report.html"}


def test_all_galaxies_a_selection_or_the_split_of_the_training_is_the_test(
    bundle, sample_file, cutouts, tmp_path, monkeypatch
):
    monkeypatch.setattr(pipeline, "evaluate", lambda model, cutouts: (model.calibration, cutouts.rows(TEST).tolist()))
    monkeypatch.setattr(pipeline, "write_report", lambda *_, **__: None)
    evaluated = pipeline.evaluate_bundle(bundle, sample_file, tmp_path, all_test=True, recalibrate=False)
    assert evaluated == (None, list(range(N)))
    columns = {name: cutouts.column(name) for name in ("z_spec", "ebv")}
    evaluated = pipeline.evaluate_bundle(bundle, sample_file, tmp_path, all_test=True, select="z_spec<0.1")
    assert evaluated == (bundle.calibration, np.flatnonzero(columns["z_spec"] < 0.1).tolist())
    (tmp_path / "mine.npz").write_bytes(npz_bytes({"images": cutouts.images[:], **columns}))
    recipe = {**bundle.card.training.hyper_parameters, "select": "z_spec<=0.2", "shares": "2,1,1"}
    training = bundle.card.training.model_copy(update={"hyper_parameters": recipe})
    other = ModelBundle.write(tmp_path / "other", bundle.card.model_copy(update={"training": training}), bundle.path)
    near = np.flatnonzero(columns["z_spec"] <= 0.2)
    n, quarter = len(near), round(len(near) / 4)
    _, rows = pipeline.evaluate_bundle(other, tmp_path / "mine.npz", tmp_path)
    assert rows == near[splits.random_split(n, quarter, quarter) == TEST].tolist()


def test_options_describe_the_images_that_the_file_does_not(cutouts, tmp_path, run_cli, refused, monkeypatch):
    specs, card = [], SimpleNamespace(name="toy", version="1")
    written = SimpleNamespace(path="toy", card=card)
    monkeypatch.setattr(pipeline, "train_bundle", lambda data, spec, *_, **__: specs.append(spec) or written)
    (tmp_path / "mine.npz").write_bytes(npz_bytes({"images": cutouts.images[:4]}))
    shutil.copy(cutouts.images.file.filename, tmp_path / "mine.h5")

    def trained_with(name, options=""):
        run_cli("train", "--data", tmp_path / name, *options.split())
        return specs.pop()

    assert trained_with("mine.h5") == SPEC
    assert trained_with("mine.h5", "--unit nJy --pixel-scale 0.5").pixel_scale == 0.5
    assert trained_with("mine.npz", "--bands griz") == SPEC
    hsc = trained_with("mine.npz", "--bands griz --survey hsc")
    assert (hsc.size, hsc.pixel_scale, hsc.extinction_coefficients) == (16, 0.168, (3.240, 2.276, 1.633, 1.263))
    assert "has pixels of 0.396 arcsec" in refused("train", "--data", tmp_path / "mine.h5", "--survey", "hsc")
    assert trained_with("mine.h5", "--survey hsc --pixel-scale 0.396").extinction_coefficients[0] == 3.240


@pytest.mark.acceptance
def test_same_command_gives_the_same_scores(bundle, sample_file, tmp_path, run_cli):
    run_cli("train", "--data", sample_file, "--bundle", tmp_path / "toy", "--run", tmp_path / "run", *OPTIONS)
    card = ModelBundle.load(tmp_path / "toy").card
    assert card.test.scores[MODEL]["crps"] == bundle.card.test.scores[MODEL]["crps"]


def test_one_pass_gives_raw_and_recalibrated_pdfs_scores_and_flags():
    gr = ImageSpec(size=8, bands=("g", "r"))
    all_rows = np.array([290, 1, *range(100, 280), 7, 150])  # more than two batches, not in order
    images = np.random.default_rng(0).normal(0.0, 1.0, (300, 8, 8, 2))
    images[:, 3:5, 3:5] += 100.0
    images[290, 0, 0, 0] = np.nan
    images[7, ..., 1] = 0.0
    cutouts = Cutouts(images, {"ebv": np.where(np.arange(300) == 150, np.nan, 0.02)})
    keras.utils.set_random_seed(0)
    network = linear_network("", gr, GRID, None)
    predictions = TrainedModel(network, gr, GRID, 0.03).predict(cutouts, all_rows)
    of_inputs = predictions.flags & (Flag.EBV_ASSUMED | Flag.MASKED_PIXELS | Flag.BAND_MISSING | Flag.LOW_SNR)
    assert of_inputs[[0, 1, -2, -1]].tolist() == [Flag.MASKED_PIXELS, 0, Flag.BAND_MISSING, Flag.EBV_ASSUMED]
    assert np.count_nonzero(of_inputs) == 4  # row 150 occurs twice
    assert np.isnan(predictions.ood_scores).all()
    rows = np.setdiff1d(all_rows, [290])
    features = TrainedModel(network, gr, GRID, 0.03).features(cutouts, rows)
    groups, bend = feature_groups.fit_feature_groups(features), Calibration(temperature=0.8, a=1.1, b=0.9)
    predictions = TrainedModel(network, gr, GRID, 0.03, bend, groups, ood_threshold=0.9).predict(cutouts, rows)
    ebv = np.where(rows == 150, 0.03, 0.02)[:, np.newaxis]
    inputs = {"images": images[rows].astype(np.float32), "ebv": ebv.astype(np.float32)}
    expected = np.asarray(network(inputs), np.float64)
    np.testing.assert_allclose(predictions.raw_pdfs, expected / expected.sum(axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(predictions.pdfs, calibration.apply(predictions.raw_pdfs, bend), rtol=1e-12)
    np.testing.assert_allclose(predictions.ood_scores, ood.score(groups, features), rtol=1e-12)
    assert np.array_equal(predictions.flags & Flag.OUT_OF_DISTRIBUTION != 0, predictions.ood_scores > 0.9)


Z_SPEC = {"z_spec": np.linspace(0.1, 0.3, 6)}
PER_BAND = "expected the column 'magnitudes' of shape (6, 5), one number per band, got"
NO_TRAIN = "no galaxy of split 'train' has 0 <= z_spec <= 0.4; the data have 6 in 'test'"


@pytest.mark.parametrize(
    ("options", "columns", "message"),
    [
        ("--select z_spec", {}, "'--select': expected conditions such as dered_petro_r<=17.8,z_spec<=0.4, got 'z_"),
        ("--split 0.7,0.3", {}, "'--split': expected three numbers such as 0.7,0.1,0.2, got '0.7,0.3'"),
        ("--split 1,0,0.2", {}, "'--split': expected three numbers above 0, got '1,0,0.2'"),
        ("--precision mixed_bfloat16", {}, "compact sums fluxes, which needs precision float32; got mixed_bfloat16"),
        ("--bands gg", {}, "this does not describe the images: "),
        ("", {"images": np.ones((6, 5, 64, 64))}, "(n, size, size, n_bands), got (6, 5, 64, 64); bring them"),
        ("", {**Z_SPEC, "magnitudes": np.ones((6, 4))}, f"mine.npz: {PER_BAND} (6, 4)\n"),
        ("", {**Z_SPEC, "fwhm": np.ones((6, 4))}, "'fwhm' of shape (6, 5), one number per band, got (6, 4)"),
        ("", {**Z_SPEC, "offset": np.ones((6, 3))}, "'offset' of shape (6, 2), got (6, 3)"),
        ("", {**Z_SPEC, "axis_ratio": np.ones((6, 5))}, "'axis_ratio' of shape (6,), got (6, 5)"),
        ("", {**Z_SPEC, "split": np.array(["train"] * 4 + ["test"] * 2)}, "no galaxy of split 'validation'"),
        ("", {**Z_SPEC, "split": np.array(["test"] * 6)}, NO_TRAIN),
        ("", {**Z_SPEC, "split": np.array(["TEST", "testing"] * 3)}, NO_TRAIN),
        (
            "",
            {**Z_SPEC, "split": np.array(["train", "holdout"] * 3)},
            "the column 'split' has 'holdout'; expected train,",
        ),
    ],
)
def test_unusable_options_and_data_are_refused(tmp_path, refused, options, columns, message):
    data = tmp_path / "mine.npz"
    data.write_bytes(npz_bytes({"images": np.ones((6, 64, 64, 5), np.float32), **columns}))
    places = ("--data", data, "--run", tmp_path / "run", "--bundle", tmp_path / "bundle")
    assert message in refused("train", *places, *options.split())
    assert list(tmp_path.iterdir()) == [data]
