"""Predictions for rows of a file, with a small untrained network."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from photoz import calibration, ood
from photoz.calibration import Calibration
from photoz.errors import InvalidBundle
from photoz.flags import Flag
from photoz.grid import RedshiftGrid
from photoz.images import ImageSpec
from photoz.io.cutouts import Cutouts
from photoz.model.bundle import ModelBundle
from training.feature_groups import fit_feature_groups
from training.trained_model import TrainedModel

SPEC = ImageSpec(size=8, bands=("g", "r"))
GRID = RedshiftGrid(0.5, 40)
ROWS = np.array([290, 1, *range(100, 280), 7, 150])  # more than two batches, not in order


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    images = keras.Input(SPEC.shape, name="images")
    features = layers.Dense(4, name="features")(layers.GlobalAveragePooling2D()(images))
    return keras.Model({"images": images}, layers.Dense(GRID.n_bins, activation="softmax")(features))


@pytest.fixture
def cutouts() -> Cutouts:
    n = 300
    images = np.random.default_rng(0).normal(0.0, 1.0, (n, 8, 8, 2))
    images[:, 3:5, 3:5] += 100.0
    images[290, 0, 0, 0] = np.nan
    images[7, ..., 1] = 0.0
    ebv = np.full(n, 0.02)
    ebv[150] = np.nan
    return Cutouts(images, {"ebv": ebv})


def test_flags_are_those_of_the_rows(network: keras.Model, cutouts: Cutouts) -> None:
    predictions = TrainedModel(network, SPEC, GRID, 0.03).predict(cutouts, ROWS)
    of_inputs = predictions.flags & (Flag.EBV_ASSUMED | Flag.MASKED_PIXELS | Flag.BAND_MISSING | Flag.LOW_SNR)
    assert of_inputs[[0, 1, -2, -1]].tolist() == [Flag.MASKED_PIXELS, 0, Flag.BAND_MISSING, Flag.EBV_ASSUMED]
    assert np.count_nonzero(of_inputs) == 4  # row 150 occurs twice
    assert np.isnan(predictions.ood_scores).all()


def test_one_pass_gives_raw_and_recalibrated_pdfs_and_scores(network: keras.Model, cutouts: Cutouts) -> None:
    bare = TrainedModel(network, SPEC, GRID, 0.03)
    rows = np.setdiff1d(ROWS, [290])
    features = bare.features(cutouts, rows)
    groups = fit_feature_groups(features)
    bend = Calibration(temperature=0.8, a=1.1, b=0.9)
    predictions = TrainedModel(network, SPEC, GRID, 0.03, bend, groups, ood_threshold=0.9).predict(cutouts, rows)
    expected = network.predict_on_batch({"images": cutouts.images[rows].astype(np.float32)}).astype(np.float64)
    np.testing.assert_allclose(predictions.raw_pdfs, expected / expected.sum(axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(predictions.pdfs, calibration.apply(predictions.raw_pdfs, bend), rtol=1e-12)
    np.testing.assert_allclose(predictions.ood_scores, ood.score(groups, features), rtol=1e-12)
    assert np.array_equal(predictions.flags & Flag.OUT_OF_DISTRIBUTION != 0, predictions.ood_scores > 0.9)


def test_bundle_whose_card_describes_another_network_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    shipped = ModelBundle.load(bundle_path)
    card = shipped.card.model_copy(update={"grid": RedshiftGrid(0.4, 90), "engines": ()})
    other = ModelBundle.write(tmp_path / "other", card, shipped.path)
    with pytest.raises(InvalidBundle, match=r"'pdf': \(180,\).*its card says.*90"):
        TrainedModel.load(other)
