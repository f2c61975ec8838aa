import numpy as np
import pytest
from keras import ops
from scipy.stats import norm

from photoz import metrics
from photoz.grid import SDSS_GRID
from training.objectives import crps_loss, objective, soft_cross_entropy


def gaussians(mean: np.ndarray, sigma: float) -> np.ndarray:
    mass = np.diff(norm.cdf(SDSS_GRID.edges, np.asarray(mean)[:, None], sigma), axis=1)
    return (mass / mass.sum(axis=1, keepdims=True)).astype(np.float32)


def column(z_spec: np.ndarray) -> np.ndarray:
    return np.asarray(z_spec, dtype=np.float32)[:, None]


def test_crps_loss_approaches_the_exact_integral() -> None:
    z_spec = np.random.default_rng(0).uniform(0.05, 0.35, 200)
    pdfs = gaussians(z_spec + 0.01, 0.02)
    loss = np.asarray(crps_loss(SDSS_GRID)(column(z_spec), pdfs))
    exact = metrics.crps(pdfs.astype(float), z_spec, SDSS_GRID)
    np.testing.assert_allclose(loss.mean(), exact.mean(), rtol=0.02)


def test_crps_loss_has_no_half_bin_bias() -> None:
    """Over many redshifts the best PDF has the true mean, not one that is off by half a bin."""
    z_spec = np.random.default_rng(1).normal(0.2, 0.02, 20_000)
    shifts = np.linspace(-1.0, 1.0, 41) * SDSS_GRID.width
    losses = []
    for shift in shifts:
        pdfs = np.repeat(gaussians(np.array([0.2 + shift]), 0.02), len(z_spec), axis=0)
        losses.append(float(np.mean(crps_loss(SDSS_GRID)(column(z_spec), pdfs))))
    assert abs(shifts[np.argmin(losses)]) < 0.2 * SDSS_GRID.width


def test_soft_cross_entropy_is_lowest_at_the_truth() -> None:
    z_spec = np.array([0.1, 0.3])
    right, wrong = gaussians(z_spec, 0.005), gaussians(z_spec[::-1], 0.005)
    entropy = soft_cross_entropy(SDSS_GRID)
    assert (np.asarray(entropy(column(z_spec), right)) < np.asarray(entropy(column(z_spec), wrong))).all()


def test_only_crps_objective_knows_that_bins_are_ordered() -> None:
    """The document's one-hot cross-entropy is the same for errors of two bins and of a hundred."""
    near, far = (np.full((1, 180), 1e-4, dtype=np.float32) for _ in range(2))
    near[0, 47], far[0, 145] = 1.0, 1.0  # the truth lies in bin 45
    near, far = near / near.sum(), far / far.sum()
    z_spec = SDSS_GRID.centres[[45]]
    documents, ours = objective("one-hot", SDSS_GRID), objective("crps", SDSS_GRID)
    assert documents.encode(z_spec).tolist() == [45]
    one_hot = [float(np.asarray(documents.loss(documents.encode(z_spec), p))[0]) for p in (near, far)]
    ordered = [float(np.asarray(ours.loss(ours.encode(z_spec), p))[0]) for p in (near, far)]
    assert one_hot[0] == pytest.approx(one_hot[1])
    assert ordered[0] < 0.2 * ordered[1]


def test_gradients_are_finite_for_a_narrow_wrong_pdf() -> None:
    import tensorflow as tf

    pdfs = tf.Variable(np.eye(180, dtype=np.float32)[[3]])
    ours = objective("crps", SDSS_GRID)
    with tf.GradientTape() as tape:
        loss = ops.sum(ours.loss(column(np.array([0.35])), pdfs))
    assert np.isfinite(tape.gradient(loss, pdfs).numpy()).all()
