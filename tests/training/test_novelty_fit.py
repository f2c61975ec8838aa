import numpy as np
import pytest

from photoz.card import NoveltyRecord
from photoz.novelty import FEATURES, Novelty, Views, score
from training.novelty import FALSE_ALARMS, choose_threshold, fit_parts


def views(n: int, seed: int, shift: float = 0.0) -> dict[str, np.ndarray]:
    """Correlated features with heavy tails, one of them constant, and a skewed concentration."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(6, 12))
    hidden = rng.standard_t(4, size=(n, 6))
    features = np.hstack([hidden @ mixing + 0.1 * rng.standard_normal((n, 12)), np.full((n, 1), 7.0)])
    features[:, 3] += shift
    return {FEATURES: features, "noise": rng.normal(-3, 0.1, (n, 5)), "concentration": rng.beta(2, 8, (n, 1))}


def fit_novelty(train: Views, held_out: Views) -> tuple[Novelty, NoveltyRecord]:
    novelty = fit_parts(train)
    return novelty, choose_threshold(novelty, score(novelty, held_out))


def test_one_in_a_hundred_clean_galaxies_is_flagged() -> None:
    novelty, record = fit_novelty(views(4000, 1), views(2000, 2))
    assert record.n_features == 13
    assert record.false_alarms == pytest.approx(FALSE_ALARMS, abs=0.001)
    assert np.mean(score(novelty, views(4000, 3)) > record.threshold) == pytest.approx(FALSE_ALARMS, abs=0.006)
    assert record.threshold == pytest.approx(1.0, abs=0.3)


def test_what_breaks_the_correlations_is_caught() -> None:
    novelty, record = fit_novelty(views(4000, 1), views(2000, 2))
    odd = views(500, 3, shift=5.0)
    assert abs(odd[FEATURES][:, 3] - views(4000, 1)[FEATURES][:, 3].mean()).max() < 60  # within what single values do
    assert np.mean(score(novelty, odd) > record.threshold) > 0.95


@pytest.mark.parametrize("name", ["noise", "concentration"])
def test_each_part_is_looked_at_by_itself(name: str) -> None:
    novelty, record = fit_novelty(views(4000, 1), views(2000, 2))
    odd = views(100, 3)
    odd[name] = odd[name] + 1.0
    assert (score(novelty, odd) > record.threshold).all()


def test_it_does_without_features() -> None:
    sets = [{k: v for k, v in views(500, seed).items() if k != FEATURES} for seed in (1, 2)]
    novelty, record = fit_novelty(*sets)
    assert record.n_features == 0
    assert set(novelty) == {"noise", "concentration"}


def test_few_galaxies_are_enough_to_go_on_with() -> None:
    novelty, record = fit_novelty(views(10, 1), views(3, 2))
    assert np.isfinite(record.threshold)
    assert np.isfinite(score(novelty, views(5, 3))).all()
