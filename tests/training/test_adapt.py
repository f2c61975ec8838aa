"""Models adapted to a survey whose zero points are wrong, and what is refused."""

import json
import re
import shutil

import h5py
import numpy as np
import pytest

from photoz.calibration import Calibration
from photoz.inference.predictor import Predictor
from photoz.io.cutouts import TEST, TRAIN
from photoz.io.reader import open_cutouts
from photoz.model.bundle import ModelBundle
from tests.pdfs import gaussian_pdfs
from tests.running import ROOT
from tests.training.small import GRID, SPEC
from training import adapt, adapt_bundle
from training.adapt import AS_IT_IS, FROM_NOTHING, GAINS, WEIGHTS, CrossFitted, choose_step
from training.band_gains import apply_gains
from training.calibration_fit import fit_parameters
from training.feature_groups import adapt_feature_groups, fit_feature_groups
from training.splits import UNUSED
from training.trained_model import Predictions, TrainedModel

ZERO_POINTS = np.array([0.8, 1.0, 1.1, 1.2], np.float32)  # as factors of the pixels


@pytest.fixture(scope="module")
def galaxies(tmp_path_factory, run_cli):
    """Return a file of 60 galaxies with wrong zero points."""
    path = tmp_path_factory.mktemp("survey") / "survey.h5"
    run_cli("sample", path, "--limit", 60, "--size", SPEC.size, "--bands", "griz", "--seed", 1, "--workers", 1)
    with h5py.File(path, "r+") as file:
        file["images"][...] *= ZERO_POINTS
        del file["split"]
    return path


@pytest.fixture(scope="module")
def sdss_galaxies(tmp_path_factory, run_cli):
    """Return a file of 60 galaxies as the shipped model takes them."""
    path = tmp_path_factory.mktemp("sdss") / "survey.h5"
    run_cli("sample", path, "--limit", 60, "--seed", 1, "--workers", 1)
    with h5py.File(path, "r+") as file:
        del file["split"]
    return path


@pytest.fixture
def few_steps(monkeypatch):
    """Let networks be adapted in a few steps, on data that the toy model predicts badly."""
    monkeypatch.setattr(adapt, "STEPS", 4)
    monkeypatch.setattr(adapt, "MIN_EPOCHS", 2)
    monkeypatch.setattr(adapt, "N_OF_RECIPE", 1)
    monkeypatch.setattr("training.band_gains.STEPS", 6)
    monkeypatch.setattr(adapt_bundle, "N_FOLDS", 2)
    monkeypatch.setattr(adapt_bundle, "MAX_CRPS", 10.0)


def changed(source, target, images=None, **columns):
    """Copy a file of cutouts with other images or columns."""
    shutil.copy(source, target)
    with h5py.File(target, "r+") as file:
        for name, values in columns.items():
            file.pop(name, None)
            file[name] = values
        if images is not None:
            file["images"][...] = images(file["images"][...])
    return target


@pytest.mark.acceptance
@pytest.mark.usefixtures("few_steps")
def test_adapted_model_names_its_parent_and_is_served(bundle, galaxies, tmp_path, run_cli, monkeypatch):
    monkeypatch.setattr(adapt_bundle, "choose_step", lambda *_: GAINS)
    out, run = tmp_path / "mine", tmp_path / "run"
    options = ("--bundle", out, "--run", run, "--from-nothing", "--only-f32", "--no-figures")
    output = run_cli("adapt", bundle.path, galaxies, *options)
    assert "60 of 60 galaxies have a z_spec of 0 to 0.5 and are not for testing" in output
    assert re.search(r"adapted: band gains; gains of the bands g \d.\d{3}, r .*, z \d", output)
    card = ModelBundle.load(out).card
    record = card.adaptation
    assert record.parent == f"toy {bundle.card.version}"
    assert (record.parent_digest, record.n_galaxies, record.network) == (bundle.card.digest, 60, GAINS)
    assert list(record.gains) == ["g", "r", "i", "z"]
    assert card.training == bundle.card.training
    assert (card.test.n_galaxies, list(card.test.scores)) == (60, ["this model", "before adapting", "from nothing"])
    assert json.loads((run / "report" / "metrics.json").read_text())["n_galaxies"] == 60
    before, after = (TrainedModel.load(ModelBundle.load(path)) for path in (bundle.path, out))
    with open_cutouts(galaxies) as cutouts:
        rows = np.arange(8)
        scaled = cutouts.images[:8] * np.array(list(record.gains.values()), np.float32)
        expected = before.network.predict_on_batch(_inputs(scaled, cutouts, rows))
        network = after.network.predict_on_batch(_inputs(cutouts.images[:8], cutouts, rows))
    np.testing.assert_allclose(network, expected, rtol=1e-4, atol=1e-6)
    Predictor.load(ModelBundle.load(out))  # compiled engine and statistics fit together
    # A finished run is not trained again.
    again = run_cli("adapt", bundle.path, galaxies, *options, "--resume")
    assert "Epoch" in output
    assert "Epoch" not in again
    assert ModelBundle.load(out).card.adaptation.gains == record.gains


def _inputs(images, cutouts, rows):
    return {"images": images, "ebv": cutouts.column("ebv")[rows, np.newaxis].astype(np.float32)}


@pytest.mark.acceptance
@pytest.mark.usefixtures("few_steps")
def test_only_calibration_leaves_the_network_alone(bundle, galaxies, tmp_path, run_cli):
    output = run_cli(
        "adapt", bundle.path, galaxies, "--bundle", tmp_path / "mine", "--run", tmp_path / "run", "--only",
        "calibration", "--only-f32", "--no-figures",
    )  # fmt: skip
    assert "the network stays as it is" in output
    adapted = ModelBundle.load(tmp_path / "mine")
    assert (adapted.card.adaptation.network, adapted.card.adaptation.gains) == (AS_IT_IS, {})
    weights = [TrainedModel.load(one).network.get_weights() for one in (bundle, adapted)]
    assert all(np.array_equal(*pair) for pair in zip(*weights, strict=True))
    assert adapted.card.ood != bundle.card.ood


def test_what_cannot_be_adapted_to_is_refused(bundle, galaxies, tmp_path, refused, monkeypatch):
    def adapting(data):
        output = refused("adapt", bundle.path, data, "--bundle", tmp_path / "mine", "--run", tmp_path / "run")
        assert not (tmp_path / "mine").exists()
        return " ".join(output.split())

    with h5py.File(galaxies) as file:
        split = np.where(np.arange(60) < 20, TEST, TRAIN).astype("S")
    few = changed(galaxies, tmp_path / "few.h5", split=split)
    assert "expected at least 50 galaxies with z_spec, got 40: use the model as it is" in adapting(few)
    with h5py.File(galaxies) as file:
        images, z_spec = file["images"][...], file["z_spec"][...]
    np.savez(tmp_path / "three.npz", images=images[..., :3], z_spec=z_spec, bands="gri")
    assert "cannot be adapted to other bands or pixels: train a model" in adapting(tmp_path / "three.npz")
    monkeypatch.setattr(adapt_bundle, "MAX_CRPS", 0.0)
    assert "the redshifts do not fit the images" in adapting(galaxies)
    monkeypatch.setattr(adapt_bundle, "MAX_CRPS", 10.0)
    brighter = changed(galaxies, tmp_path / "brighter.h5", images=lambda pixels: 100.0 * pixels)
    assert re.search(
        r"\d\d% of the cutouts are unlike those .* expected at most 50%\. Are the unit", adapting(brighter)
    )


@pytest.mark.acceptance
@pytest.mark.parametrize(
    ("bands", "factor", "is_shuffled", "reason"),
    [
        ([1, 0, 2, 3, 4], 1.0, False, "are unlike those"),
        ([0, 2, 1, 3, 4], 1.0, False, "are unlike those"),
        ([0, 1, 3, 2, 4], 1.0, False, "are unlike those"),
        ([0, 1, 2, 4, 3], 1.0, False, "are unlike those"),
        ([0, 1, 2, 3, 4], 3.6, False, "are unlike those"),
        ([0, 1, 2, 3, 4], 1.0, True, "the redshifts do not fit the images"),
    ],
)
def test_shipped_model_is_not_adapted_to_bad_data(sdss_galaxies, bands, factor, is_shuffled, reason, tmp_path, refused):
    with h5py.File(sdss_galaxies) as file:
        z_spec = file["z_spec"][...]
    columns = {"z_spec": np.random.default_rng(0).permutation(z_spec)} if is_shuffled else {}
    data = changed(sdss_galaxies, tmp_path / "bad.h5", lambda images: factor * images[..., bands], **columns)
    output = refused(
        "adapt", ROOT / "models" / "photoz", data, "--bundle", tmp_path / "mine", "--run", tmp_path / "run"
    )
    assert reason in " ".join(output.split())
    assert not (tmp_path / "mine").exists()


def test_gains_multiply_and_can_be_applied_again(bundle, cutouts):
    network = TrainedModel.load(bundle).network
    inputs = _inputs(cutouts.images[:4], cutouts, np.arange(4))
    gains = np.array([1.1, 0.9, 1.0, 1.2])
    twice = apply_gains(apply_gains(network, gains), 1.0 / gains)
    np.testing.assert_allclose(twice.predict_on_batch(inputs), network.predict_on_batch(inputs), rtol=1e-4, atol=1e-6)
    assert twice.get_layer("features").output.shape == network.get_layer("features").output.shape


def test_a_step_is_taken_if_it_improves_the_crps_by_more_than_its_error():
    rng = np.random.default_rng(0)
    z_spec = rng.uniform(0.1, 0.3, 200)

    def chosen(**scatter):
        errors = rng.normal(size=200)
        pdfs = {
            step: gaussian_pdfs(z_spec + width * errors, np.full(200, width), GRID) for step, width in scatter.items()
        }
        models, nothing = {step: [] for step in scatter}, np.zeros(200, int)
        predictions = {step: Predictions(one, one, z_spec, nothing) for step, one in pdfs.items()}
        return choose_step(CrossFitted(nothing, nothing, z_spec, models, predictions, pdfs), GRID)

    assert chosen(**{AS_IT_IS: 0.02, GAINS: 0.02, WEIGHTS: 0.03}) == AS_IT_IS
    assert chosen(**{AS_IT_IS: 0.03, GAINS: 0.02, WEIGHTS: 0.02}) == GAINS
    assert chosen(**{AS_IT_IS: 0.03, GAINS: 0.04, WEIGHTS: 0.02}) == WEIGHTS
    assert chosen(**{AS_IT_IS: 0.03, FROM_NOTHING: 0.01}) == AS_IT_IS


def test_few_galaxies_change_a_calibration_only_if_they_contradict_it():
    rng = np.random.default_rng(0)
    z_spec = rng.uniform(0.1, 0.4, 400)
    broad = gaussian_pdfs(z_spec + rng.normal(scale=0.02, size=400), np.full(400, 0.02 / np.sqrt(1.3)), GRID)
    start = Calibration(temperature=1.3)
    assert fit_parameters(broad, z_spec, GRID, start) == start
    narrow = gaussian_pdfs(z_spec + rng.normal(scale=0.02, size=400), np.full(400, 0.005), GRID)
    assert fit_parameters(narrow, z_spec, GRID, start).temperature > 4.0


def test_statistics_move_to_the_galaxies_of_the_survey():
    rng = np.random.default_rng(0)
    groups = fit_feature_groups({"noise": rng.normal(size=(2000, 3))})
    few = rng.normal(loc=[0.0, 2.0, 0.0], scale=0.5, size=(100, 3))
    group = adapt_feature_groups(groups, {"noise": few})["noise"]
    np.testing.assert_allclose(group.centre[1] - groups["noise"].centre[1], 1.9, atol=0.2)
    covariance = np.linalg.inv(group.whitening @ group.whitening.T)
    np.testing.assert_allclose(np.diag(covariance), (200 + 100 * 0.25) / 300, rtol=0.15)


def test_rows_without_redshift_and_test_galaxies_are_left_out(bundle, galaxies, tmp_path):
    z_spec = np.linspace(0.05, 0.45, 60)
    z_spec[:2] = np.nan, 2.0
    split = np.array(["test"] * 5 + ["train"] * 55, "S")
    with open_cutouts(changed(galaxies, tmp_path / "some.h5", z_spec=z_spec, split=split)) as opened:
        prepared, _ = adapt_bundle._prepare(opened, bundle)
    assert prepared.column("split").tolist() == [TEST] * 5 + [TRAIN] * 55
    with open_cutouts(changed(galaxies, tmp_path / "all.h5", z_spec=z_spec)) as opened:
        prepared, _ = adapt_bundle._prepare(opened, bundle)
    assert prepared.column("split").tolist() == [UNUSED] * 2 + [TRAIN] * 58


def test_cards_from_before_adaptation_keep_their_digest():
    content = json.loads((ROOT / "models" / "photoz" / "card.json").read_text())
    assert "adaptation" not in content or content["adaptation"] is None
    assert ModelBundle.load(ROOT / "models" / "photoz").card.adaptation is None
