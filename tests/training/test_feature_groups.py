import numpy as np
import pytest

from photoz.model.card import OodRecord
from photoz.ood import FEATURES, FeatureGroups, Features, score
from training.feature_groups import FALSE_ALARMS, choose_threshold, fit_feature_groups


def draw_features(n: int, seed: int, shift: float = 0.0) -> dict[str, np.ndarray]:
    """Correlated features with heavy tails, one of them constant, and a skewed concentration."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(6, 12))
    hidden = rng.standard_t(4, size=(n, 6))
    features = np.hstack([hidden @ mixing + 0.1 * rng.standard_normal((n, 12)), np.full((n, 1), 7.0)])
    features[:, 3] += shift
    return {FEATURES: features, "noise": rng.normal(-3, 0.1, (n, 5)), "concentration": rng.beta(2, 8, (n, 1))}


def fit_ood(train: Features, held_out: Features) -> tuple[FeatureGroups, OodRecord]:
    feature_groups = fit_feature_groups(train)
    return feature_groups, choose_threshold(feature_groups, score(feature_groups, held_out))


def test_one_in_a_hundred_ordinary_galaxies_is_flagged() -> None:
    feature_groups, record = fit_ood(draw_features(4000, 1), draw_features(2000, 2))
    assert record.n_features == 13
    assert record.false_alarms == pytest.approx(FALSE_ALARMS, abs=0.001)
    assert np.mean(score(feature_groups, draw_features(4000, 3)) > record.threshold) == pytest.approx(
        FALSE_ALARMS, abs=0.006
    )
    assert record.threshold == pytest.approx(1.0, abs=0.3)


def test_broken_correlations_are_flagged() -> None:
    feature_groups, record = fit_ood(draw_features(4000, 1), draw_features(2000, 2))
    odd = draw_features(500, 3, shift=5.0)
    assert (
        abs(odd[FEATURES][:, 3] - draw_features(4000, 1)[FEATURES][:, 3].mean()).max() < 60
    )  # within the range of single values
    assert np.mean(score(feature_groups, odd) > record.threshold) > 0.95


@pytest.mark.parametrize("name", ["noise", "concentration"])
def test_each_feature_group_is_flagged(name: str) -> None:
    feature_groups, record = fit_ood(draw_features(4000, 1), draw_features(2000, 2))
    odd = draw_features(100, 3)
    odd[name] = odd[name] + 1.0
    assert (score(feature_groups, odd) > record.threshold).all()


def test_network_features_are_optional() -> None:
    sets = [{k: v for k, v in draw_features(500, seed).items() if k != FEATURES} for seed in (1, 2)]
    feature_groups, record = fit_ood(*sets)
    assert record.n_features == 0
    assert set(feature_groups) == {"noise", "concentration"}


def test_few_galaxies_give_finite_scores() -> None:
    feature_groups, record = fit_ood(draw_features(10, 1), draw_features(3, 2))
    assert np.isfinite(record.threshold)
    assert np.isfinite(score(feature_groups, draw_features(5, 3))).all()
