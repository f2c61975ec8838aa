"""Networks, objectives, and what is fitted to held-out galaxies: calibration, and thresholds of the `ood_score`."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from photoz import metrics, pdf
from photoz.calibration import Calibration, apply
from photoz.grid import SDSS_GRID
from photoz.images import SDSS_IMAGES, UNKNOWN_EBV, ImageSpec
from photoz.metrics import crps, pit, uniform_ks
from photoz.ood import FEATURES, score
from tests.pdfs import gaussian_pdfs
from tests.training.small import GRID
from training import architectures, calibration_fit, cost
from training.feature_groups import FALSE_ALARMS, choose_threshold, fit_feature_groups
from training.objectives import crps_loss, objective, soft_cross_entropy
from training.pixel_statistics import PixelStatistics

ODD = ImageSpec(size=17, bands="griz")  # its side is odd in all layers


def build(name, spec=ODD, grid=GRID, ebv=0.0):
    ones = np.ones(len(spec.bands))
    statistics = PixelStatistics(0.05 * ones, -8.0 * ones, ones, 0.5 * ones[1:], 0.2 * ones[1:], ebv)
    return architectures.build(name, spec, grid, statistics)


def inputs(spec=ODD):
    rng = np.random.default_rng(0)
    given = {"images": rng.normal(0.1, 0.1, (4, *spec.shape)), "ebv": rng.uniform(0, 0.1, (4, 1))}
    return {name: values.astype(np.float32) for name, values in given.items()}


def predict(model, given):
    return np.asarray(model({tensor.name: given[tensor.name] for tensor in model.inputs}))


@pytest.mark.parametrize(
    ("name", "parameters", "takes_ebv", "biases", "moments"),
    [
        ("inception", 3_443_508, False, {0.0}, [0.245858, 0.245952, 0.146018, 0.14601]),
        ("pasquet", 4_556_712, True, {0.1}, [0.244243, 0.244073, 0.144125, 0.144088]),
        ("compact", 82_728, True, {0.0, -2.0}, [0.477369, 0.467987, 0.043015, 0.035728]),
    ],
)
def test_networks_of_known_weights(name, parameters, takes_ebv, biases, moments):
    model = build(name)
    assert (model.count_params(), model.output_shape) == (parameters, (None, GRID.n_bins))
    assert architectures.takes_ebv(model) == takes_ebv
    initial = np.concatenate([weight for weight in model.weights if weight.name == "bias"])
    assert set(np.round(initial.astype(float), 6)) == biases
    rng = np.random.default_rng(0)

    def draw(shape):
        many = len(shape) > 1
        return np.prod(shape[:-1]) ** -0.5 * rng.standard_normal(shape) if many else 0.1 * rng.uniform(0.5, 1.5, shape)

    model.set_weights([draw(weight.shape) for weight in model.get_weights()])
    pdfs = predict(model, inputs())
    np.testing.assert_allclose(pdfs.sum(axis=1), 1.0, rtol=1e-5)
    found = np.ravel([pdf.mean(pdfs, GRID)[:2], pdf.std(pdfs, GRID)[:2]])
    np.testing.assert_allclose(found, moments, rtol=1e-3)


@pytest.mark.acceptance
@pytest.mark.parametrize(
    ("name", "parameters", "gflop"),
    [
        ("inception", 27_841_856, 1.525527),
        # 1,781,668 in the convolutions, 2,628 slopes, 24,412,304 + 1,202,312 + 197,460 in the dense layers.
        ("pasquet", 27_596_372, None),
        ("compact", 85_688, 0.01418967),
    ],
)
def test_saved_model_has_known_size_and_loads_without_this_project(name, parameters, gflop, tmp_path):
    model = build(name, SDSS_IMAGES, SDSS_GRID)
    assert model.count_params() == parameters
    assert gflop is None or cost.forward_gflop(model) == pytest.approx(gflop, rel=1e-4)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "inputs.npz", **inputs(SDSS_IMAGES))
    program = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("photoz", "training", "service", "photoz_client"):
            raise ImportError(f"{name} is imported")
sys.meta_path.insert(0, Absent())
import keras, numpy as np
model = keras.models.load_model("model.keras", safe_mode=True)
inputs = np.load("inputs.npz")
np.save("pdfs.npy", model.predict_on_batch({t.name: inputs[t.name] for t in model.inputs}))
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, env={"PATH": ""})
    expected = model.predict_on_batch({tensor.name: inputs(SDSS_IMAGES)[tensor.name] for tensor in model.inputs})
    np.testing.assert_allclose(np.load(tmp_path / "pdfs.npy"), expected, rtol=1e-5, atol=1e-7)


def test_compact_takes_an_unknown_reddening_and_knows_the_background():
    model = build("compact", ebv=0.05)
    features = keras.Model(model.inputs, model.get_layer("features").output)
    median, unknown = ({**inputs(), "ebv": np.full((4, 1), ebv, np.float32)} for ebv in (0.05, UNKNOWN_EBV))
    # The features are the same, so that it is not out of distribution.
    np.testing.assert_allclose(predict(features, unknown), predict(features, median), atol=1e-5)
    pdfs = predict(model, unknown)
    assert np.isfinite(pdfs).all()
    assert not np.allclose(pdfs, predict(model, median))
    # Fluxes of which the background is subtracted depend on it less, even before the map of the sky is trained.
    brighter = {**median, "images": median["images"] + np.float32(0.02)}
    change = np.abs(predict(features, brighter) - predict(features, median)).mean(axis=0)[:44].reshape(11, 4)
    assert (change.mean(axis=1)[3:6] < 0.5 * change.mean(axis=1)[:3]).all()
    with pytest.raises(ValueError, match="expected one of compact, inception, pasquet, got 'other'"):
        build("other")


def test_losses_are_crps_without_half_bin_bias_and_entropy_with_soft_labels():
    # Over many redshifts the best PDF has the true mean, not one that is off by half a bin.
    z_spec = np.random.default_rng(1).normal(0.2, 0.02, 2000)
    shifts = np.linspace(-1.0, 1.0, 41) * SDSS_GRID.width
    pdfs = gaussian_pdfs(z_spec.mean() + shifts, 0.02)
    losses = [np.mean(crps_loss(SDSS_GRID)(z_spec.astype(np.float32)[:, None], pdf.astype(np.float32))) for pdf in pdfs]
    assert abs(shifts[np.argmin(losses)]) < 0.2 * SDSS_GRID.width
    exact = metrics.crps(np.repeat(pdfs[20:21], len(z_spec), axis=0), z_spec, SDSS_GRID).mean()
    assert losses[20] == pytest.approx(exact, rel=0.02)
    z_spec = np.array([0.1, 0.3])
    labels = np.exp(-0.5 * ((SDSS_GRID.centres - z_spec[:, None]) / 0.004) ** 2)
    labels /= labels.sum(axis=1, keepdims=True)
    pdfs, column = gaussian_pdfs(z_spec + 0.002, 0.01).astype(np.float32), z_spec.astype(np.float32)[:, None]
    entropy = np.asarray(soft_cross_entropy(SDSS_GRID)(column, pdfs))
    np.testing.assert_allclose(entropy, -(labels * np.log(np.maximum(pdfs, 1e-9))).sum(axis=1), rtol=1e-4)
    loss = objective("crps", SDSS_GRID).loss(column, pdfs)
    np.testing.assert_allclose(loss, 100.0 * crps_loss(SDSS_GRID)(column, pdfs) + 0.3 * entropy, rtol=1e-5)


def test_only_crps_objective_knows_that_bins_are_ordered():
    pdfs = np.full((2, 180), 1e-4, dtype=np.float32)
    pdfs[[0, 1], [47, 145]] = 1.0  # the truth lies in bin 45
    pdfs /= pdfs.sum(axis=1, keepdims=True)
    z_spec = SDSS_GRID.centres[[45, 45]]
    documents, ours = objective("one-hot", SDSS_GRID), objective("crps", SDSS_GRID)
    assert documents.encode(z_spec).tolist() == [45, 45]
    one_hot, ordered = (np.asarray(kind.loss(kind.encode(z_spec), pdfs)) for kind in (documents, ours))
    assert one_hot[0] == pytest.approx(one_hot[1])
    assert ordered[0] < 0.2 * ordered[1]
    with pytest.raises(ValueError, match="expected one of crps, one-hot, got 'mse'"):
        objective("mse", SDSS_GRID)


N = 4000
WIDTH = 0.014


def toy(width, shift):
    """PDFs whose width is `width` times the true one, and which lie `shift` widths too high; and true redshifts."""
    rng = np.random.default_rng(5)
    mean = rng.uniform(0.1, 0.3, N)
    return gaussian_pdfs(mean + shift * WIDTH * width, WIDTH * width), mean + WIDTH * rng.standard_normal(N)


@pytest.mark.parametrize(("width", "shift"), [(0.6, 0.0), (1.3, -0.4)])
def test_calibration_corrects_wrong_pdfs_and_needs_evidence(width, shift):
    pdfs, z_spec = toy(width, shift)
    record = calibration_fit.fit_calibration(pdfs[:1000], z_spec[:1000], SDSS_GRID)
    assert record.n_galaxies == 1000
    assert record.scores["after"]["pit_ks"].value < record.scores["before"]["pit_ks"].value
    raw, others = pdfs[2000:], z_spec[2000:]
    corrected = apply(raw, record.parameters)
    assert uniform_ks(pit(raw, others, SDSS_GRID)) > 0.08
    assert uniform_ks(pit(corrected, others, SDSS_GRID)) < 0.03  # 5 % of samples of 2,000 exceed it by chance
    assert crps(corrected, others, SDSS_GRID).mean() < crps(raw, others, SDSS_GRID).mean()
    # The prior and Akaike's criterion keep few galaxies from changing PDFs by chance.
    pdfs, z_spec = toy(0.8, 0.0)
    assert calibration_fit.fit_calibration(pdfs[:8], z_spec[:8], SDSS_GRID).parameters == Calibration()
    temperature = calibration_fit.fit_calibration(pdfs[:400], z_spec[:400], SDSS_GRID).parameters
    assert (temperature.a, temperature.b) == (1.0, 1.0)
    assert temperature.temperature == pytest.approx(1.46538, rel=1e-3)


def draw_features(n, seed, shift=0.0):
    """Correlated features with heavy tails, one of them constant, and a skewed concentration."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(6, 12))
    hidden = rng.standard_t(4, size=(n, 6))
    features = np.hstack([hidden @ mixing + 0.1 * rng.standard_normal((n, 12)), np.full((n, 1), 7.0)])
    features[:, 3] += shift
    return {FEATURES: features, "noise": rng.normal(-3, 0.1, (n, 5)), "concentration": rng.beta(2, 8, (n, 1))}


def test_odd_galaxies_and_one_in_a_hundred_ordinary_ones_are_flagged():
    groups = fit_feature_groups(draw_features(4000, 1))
    record = choose_threshold(groups, score(groups, draw_features(2000, 2)))
    assert record.n_features == 13
    assert record.false_alarms == pytest.approx(FALSE_ALARMS, abs=0.001)
    assert record.threshold == pytest.approx(1.0, abs=0.3)
    ordinary = draw_features(4000, 3)
    assert np.mean(score(groups, ordinary) > record.threshold) == pytest.approx(FALSE_ALARMS, abs=0.006)
    shifted = draw_features(500, 3, shift=5.0)  # within the range of single values
    assert np.mean(score(groups, shifted) > record.threshold) > 0.95
    for name in ("noise", "concentration"):
        assert (score(groups, {**ordinary, name: ordinary[name] + 1.0}) > record.threshold).all()
    sets = [{k: v for k, v in draw_features(500, seed).items() if k != FEATURES} for seed in (1, 2)]
    groups = fit_feature_groups(sets[0])
    assert set(groups) == {"noise", "concentration"}
    assert choose_threshold(groups, score(groups, sets[1])).n_features == 0
    groups = fit_feature_groups(draw_features(10, 1))
    assert np.isfinite(score(groups, draw_features(5, 3))).all()
    shapes = [fit_feature_groups(draw_features(n, 1))[FEATURES].whitening.shape for n in (10, 39, 40, 4000)]
    assert shapes == [(13, 1), (13, 1), (13, 2), (13, 13)]  # 20 galaxies for each direction
