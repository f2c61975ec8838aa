import numpy as np
import pytest

from photoz.model.card import OodRecord
from photoz.ood import FEATURES, FeatureGroups, Features, score
from training.ood import FALSE_ALARMS, choose_threshold, fit_parts


def views(n: int, seed: int, shift: float = 0.0) -> dict[str, np.ndarray]:
    """Correlated features with heavy tails, one of them constant, and a skewed concentration."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(6, 12))
    hidden = rng.standard_t(4, size=(n, 6))
    features = np.hstack([hidden @ mixing + 0.1 * rng.standard_normal((n, 12)), np.full((n, 1), 7.0)])
    features[:, 3] += shift
    return {FEATURES: features, "noise": rng.normal(-3, 0.1, (n, 5)), "concentration": rng.beta(2, 8, (n, 1))}


def fit_ood(train: Features, held_out: Features) -> tuple[FeatureGroups, OodRecord]:
    feature_groups = fit_parts(train)
    return feature_groups, choose_threshold(feature_groups, score(feature_groups, held_out))


def test_one_in_a_hundred_clean_galaxies_is_flagged() -> None:
    feature_groups, record = fit_ood(views(4000, 1), views(2000, 2))
    assert record.n_features == 13
    assert record.false_alarms == pytest.approx(FALSE_ALARMS, abs=0.001)
    assert np.mean(score(feature_groups, views(4000, 3)) > record.threshold) == pytest.approx(FALSE_ALARMS, abs=0.006)
    assert record.threshold == pytest.approx(1.0, abs=0.3)


def test_what_breaks_the_correlations_is_caught() -> None:
    feature_groups, record = fit_ood(views(4000, 1), views(2000, 2))
    odd = views(500, 3, shift=5.0)
    assert abs(odd[FEATURES][:, 3] - views(4000, 1)[FEATURES][:, 3].mean()).max() < 60  # within what single values do
    assert np.mean(score(feature_groups, odd) > record.threshold) > 0.95


@pytest.mark.parametrize("name", ["noise", "concentration"])
def test_each_part_is_looked_at_by_itself(name: str) -> None:
    feature_groups, record = fit_ood(views(4000, 1), views(2000, 2))
    odd = views(100, 3)
    odd[name] = odd[name] + 1.0
    assert (score(feature_groups, odd) > record.threshold).all()


def test_it_does_without_features() -> None:
    sets = [{k: v for k, v in views(500, seed).items() if k != FEATURES} for seed in (1, 2)]
    feature_groups, record = fit_ood(*sets)
    assert record.n_features == 0
    assert set(feature_groups) == {"noise", "concentration"}


def test_few_galaxies_are_enough_to_go_on_with() -> None:
    feature_groups, record = fit_ood(views(10, 1), views(3, 2))
    assert np.isfinite(record.threshold)
    assert np.isfinite(score(feature_groups, views(5, 3))).all()
