import numpy as np
import pytest

from photoz import metrics
from photoz.errors import InvalidInput
from photoz.grid import SDSS_GRID
from photoz.metrics import GalaxyScores, Score
from photoz_client.comparison import MetricPair, metric_pairs


@pytest.fixture(scope="module")
def pairs(calibrated, wider):
    pdfs, z_spec = calibrated
    return metric_pairs(*(metrics.galaxy_scores(of, z_spec, SDSS_GRID) for of in (pdfs, wider)))


def test_values_and_errors_are_those_of_each_model_alone(calibrated, wider, pairs):
    pdfs, z_spec = calibrated
    alone_a, alone_b = (metrics.summarise(metrics.galaxy_scores(of, z_spec, SDSS_GRID)) for of in (pdfs, wider))
    assert pairs.keys() == alone_a.keys()
    units = {"pit_ks": 1.0, "coverage_68": 1.0, "coverage_95": 1.0}
    units["bias"] = alone_a["sigma_mad"].value
    for name, pair in pairs.items():
        assert pair.unit == units.get(name, abs(pair.a.value))
        for score, alone in ((pair.a, alone_a[name]), (pair.b, alone_b[name])):
            assert score.value == alone.value
            assert score.error == pytest.approx(alone.error, rel=1e-12)


@pytest.mark.parametrize("name", ["crps", "cde_loss"])
def test_error_of_the_difference_is_that_of_the_mean_of_the_differences(calibrated, wider, pairs, name):
    pdfs, z_spec = calibrated
    scores_a, scores_b = (getattr(metrics, name)(of, z_spec, SDSS_GRID) for of in (pdfs, wider))
    difference, worsening = scores_b - scores_a, pairs[name].worsening
    assert worsening.value == pytest.approx(difference.mean())
    assert worsening.error == pytest.approx(difference.std() / np.sqrt(len(difference)), rel=0.1)
    assert worsening.error < np.hypot(pairs[name].a.error, pairs[name].b.error) / 2  # unpaired, it would be larger


def test_the_same_model_is_neither_worse_nor_better(calibrated):
    scores = metrics.galaxy_scores(*calibrated, SDSS_GRID)
    for pair in metric_pairs(scores, scores, n_resamples=20).values():
        assert pair.worsening == Score(0.0, 0.0)
        assert not pair.is_worse(0.0)
        assert not pair.is_better(0.0)
    with pytest.raises(InvalidInput, match="expected the same galaxies, at least one, got [1-9].* and 1"):
        metric_pairs(scores, GalaxyScores(dz=np.zeros(1)))


def four_galaxies(dz, in_68):
    """Scores without PDFs, apart from the fraction of galaxies whose 68 % interval holds the true redshift."""
    return GalaxyScores(dz=np.full(4, dz), in_68=np.arange(4) < 4 * in_68)


@pytest.mark.parametrize(
    ("of_a", "of_b", "bias", "coverage"),
    [
        ((-0.02, 0.5), (0.01, 0.25), -0.01, 0.25),  # the bias is closer to 0, the coverage farther from 0.68
        ((0.01, 1.0), (-0.03, 0.75), 0.02, -0.25),  # the coverage is 0.32 too large, then 0.07
        ((0.0, 0.5), (0.0, 1.0), 0.0, 0.14),  # the coverage is 0.18 too small, then 0.32 too large
    ],
)
def test_worse_means_farther_from_the_best_value(of_a, of_b, bias, coverage):
    pairs = metric_pairs(four_galaxies(*of_a), four_galaxies(*of_b), n_resamples=10)
    assert pairs.keys() == {"bias", "sigma_mad", "outlier_fraction", "coverage_68"}
    assert pairs["bias"].worsening.value == pytest.approx(bias)
    assert pairs["coverage_68"].worsening.value == pytest.approx(coverage)


@pytest.mark.parametrize(
    ("worsening", "error", "worse", "better"),
    [(0.3, 0.1, True, False), (0.3, 0.16, False, False), (0.1, 0.01, False, False), (-0.3, 0.1, False, True)],
)
def test_only_changes_beyond_two_errors_and_the_tolerance_count(worsening, error, worse, better):
    pair = MetricPair(Score(2.0, 1.0), Score(2.0 + worsening, 1.0), Score(worsening, error), unit=2.0)
    assert pair.is_worse(0.1) is worse
    assert pair.is_better(0.1) is better
