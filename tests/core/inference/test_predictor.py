import numpy as np
import pytest

from photoz import calibration
from photoz.calibration import Calibration
from photoz.errors import InvalidBundle, InvalidImages
from photoz.flags import Flag
from photoz.images import Batch
from photoz.inference.predictor import Predictor
from tests.toys import GRIZ, galaxies, toy_batch, toy_calibration, toy_feature_groups, toy_network, toy_ood_record

CUTOUTS = galaxies(GRIZ, 40)
TRAINED = galaxies(GRIZ, 400, seed=1)
CALIBRATED = {"calibration": toy_calibration(temperature=1.5, a=1.1)}


def predict(bundle, cutouts=CUTOUTS, **options):
    return Predictor.load(bundle, **options).predict(toy_batch(cutouts, bundle.card))


def test_pdfs_are_recalibrated_unless_it_is_switched_off(make_toy_bundle):
    bundle = make_toy_bundle(**CALIBRATED)
    raw = predict(bundle, recalibrate=False).pdf
    np.testing.assert_array_equal(raw, predict(make_toy_bundle()).pdf)
    recalibrated = predict(bundle).pdf
    np.testing.assert_array_equal(recalibrated, calibration.apply(raw, Calibration(1.5, 1.1)))
    assert np.abs(recalibrated - raw).max() > 1e-4


def test_score_is_nan_without_feature_groups(make_toy_bundle):
    estimates = predict(make_toy_bundle())
    assert np.isnan(estimates.ood_score).all()
    assert not (estimates.flags & Flag.OUT_OF_DISTRIBUTION).any()


@pytest.mark.parametrize("n_features", [0, 4])
def test_score_separates_training_cutouts_from_others(make_toy_bundle, n_features):
    bundle = make_toy_bundle(
        network=toy_network(GRIZ.size, 4, 90, takes_ebv=False, gives_features=bool(n_features)),
        feature_groups=toy_feature_groups(TRAINED, with_features=bool(n_features)),
        record=toy_ood_record(n_features),
    )
    inside, outside = predict(bundle), predict(bundle, 10 * CUTOUTS)
    threshold = bundle.card.ood.threshold
    assert (inside.ood_score < threshold).all()
    assert (outside.ood_score > threshold).all()
    assert not (inside.flags & Flag.OUT_OF_DISTRIBUTION).any()
    assert (outside.flags & Flag.OUT_OF_DISTRIBUTION).all()


def test_cutout_without_pdf_does_not_change_the_others_and_is_named(make_toy_bundle):
    bundle = make_toy_bundle(**CALIBRATED)
    overflowing = CUTOUTS.copy()
    overflowing[3] = 3e38
    predictor, batch = Predictor.load(bundle), toy_batch(overflowing, bundle.card)
    columns, expected = predictor.summarise(batch, predictor.run_network(batch)), predict(bundle)
    assert np.isnan(columns["pdf"][3]).all()
    for name in ("pdf", "z_mean", "z_lo68", "flags"):
        others = np.delete(columns[name], 3, axis=0)
        np.testing.assert_array_equal(others, np.delete(getattr(expected, name), 3, axis=0))
    with pytest.raises(InvalidImages, match="NaN for galaxy 3: its pixel values overflow the network"):
        predictor.predict(batch)


def test_only_the_wanted_columns_are_computed(make_toy_bundle):
    bundle = make_toy_bundle(takes_ebv=True)
    predictor, batch = Predictor.load(bundle), toy_batch(CUTOUTS, bundle.card)
    columns = predictor.summarise(batch, predictor.run_network(batch), frozenset({"z_mode", "flags"}))
    assert columns.keys() == {"z_mode", "flags", "pdf", "ood_score"}
    assert (columns["flags"] & Flag.EBV_ASSUMED).all()


def test_batches_are_sliced_and_concatenated(make_toy_bundle):
    batch = toy_batch(CUTOUTS, make_toy_bundle().card, ebv=np.where(np.arange(40) < 20, 0.1, np.nan))
    again = Batch.concatenate([batch[:30], batch[30:]])
    np.testing.assert_array_equal(again.images, batch.images)
    np.testing.assert_array_equal(again.ebv, batch.ebv)
    assert again.ebv_assumed.tolist() == [False] * 20 + [True] * 20
    assert again.names.tolist() == [str(i) for i in range(40)]
    assert Batch.concatenate([batch]) is batch


def test_feature_groups_that_disagree_with_the_card_are_refused(make_toy_bundle):
    bundle = make_toy_bundle(feature_groups=toy_feature_groups(TRAINED), record=toy_ood_record(n_features=0))
    with pytest.raises(InvalidBundle, match=r"holds .*features.* says"):
        Predictor.load(bundle)
