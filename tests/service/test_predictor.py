import numpy as np
import pytest
from toys import GRIZ, galaxies, toy_calibration, toy_feature_groups, toy_network, toy_ood_record

from photoz import calibration
from photoz.calibration import Calibration
from photoz.errors import InvalidBundle, InvalidImages, InvalidInput
from service.batch import as_batch
from service.predictor import Predictor
from service.settings import Settings

PICTURES = galaxies(GRIZ, 40)
TRAINED = galaxies(GRIZ, 400, seed=1)


def predict(bundle, pictures=PICTURES, **settings):
    return Predictor(bundle, Settings(**settings)).predict(as_batch({"images": pictures}, bundle.card, len(pictures)))


def test_pdfs_are_recalibrated_as_the_bundle_says_unless_it_is_switched_off(make_toy_bundle):
    bundle = make_toy_bundle(calibration=toy_calibration(temperature=1.5, a=1.1))
    raw = predict(bundle, calibration=False).pdf
    np.testing.assert_array_equal(raw, predict(make_toy_bundle()).pdf)
    recalibrated = predict(bundle).pdf
    np.testing.assert_array_equal(recalibrated, calibration.apply(raw, Calibration(1.5, 1.1)))
    assert np.abs(recalibrated - raw).max() > 1e-4


def test_the_variable_takes_on_and_off_alone():
    assert Settings.from_environment({}).calibration
    assert Settings.from_environment({"PHOTOZ_CALIBRATION": "on"}).calibration
    assert not Settings.from_environment({"PHOTOZ_CALIBRATION": "off"}).calibration
    with pytest.raises(InvalidInput, match="PHOTOZ_CALIBRATION=no cannot be used: expected on or off"):
        Settings.from_environment({"PHOTOZ_CALIBRATION": "no"})


def test_a_model_that_cannot_tell_gives_no_score(make_toy_bundle):
    assert np.isnan(predict(make_toy_bundle()).ood_score).all()


@pytest.mark.parametrize("n_features", [0, 4])
def test_a_score_tells_what_was_trained_on_from_what_was_not(make_toy_bundle, n_features):
    bundle = make_toy_bundle(
        network=toy_network(GRIZ.size, 4, 90, takes_ebv=False, gives_features=bool(n_features)),
        feature_groups=toy_feature_groups(TRAINED, with_features=bool(n_features)),
        record=toy_ood_record(n_features),
    )
    threshold = bundle.card.ood.threshold
    assert (predict(bundle).ood_score < threshold).all()
    assert (predict(bundle, 10 * PICTURES).ood_score > threshold).all()


def test_a_cutout_without_a_pdf_spoils_no_other_of_its_batch_and_is_named_to_its_caller(make_toy_bundle):
    bundle = make_toy_bundle(calibration=toy_calibration(temperature=1.5, a=1.1))
    spoiled = PICTURES.copy()
    spoiled[3] = 3e38
    predictor, batch = Predictor(bundle, Settings()), as_batch({"images": spoiled}, bundle.card, len(spoiled))
    columns, expected = predictor.summarise(batch, predictor.infer(batch)), predict(bundle)
    assert np.isnan(columns["pdf"][3]).all()
    for name in ("pdf", "z_mean", "z_lo68", "flags"):
        np.testing.assert_array_equal(
            np.delete(columns[name], 3, axis=0), np.delete(getattr(expected, name), 3, axis=0)
        )
    with pytest.raises(InvalidImages, match="the network finds no PDF for cutout 3: its pixel values are beyond all"):
        predictor.predict(batch)


def test_arrays_that_are_not_those_of_the_card_are_refused(make_toy_bundle):
    bundle = make_toy_bundle(feature_groups=toy_feature_groups(TRAINED), record=toy_ood_record(n_features=0))
    with pytest.raises(InvalidBundle, match=r"holds .*features.* says"):
        Predictor(bundle, Settings())


def test_http_answers_with_the_calibration_and_the_flag(make_toy_bundle, start_service, tmp_path):
    import httpx

    from photoz.estimates import Flag
    from photoz.io.npz import npz_bytes

    parts = {"calibration": toy_calibration(temperature=2.0), "record": toy_ood_record()}
    bundle = make_toy_bundle(feature_groups=toy_feature_groups(TRAINED, with_features=False), **parts)
    mixed = np.concatenate([PICTURES[:2], 10 * PICTURES[:2]])
    with start_service(tmp_path, PHOTOZ_BUNDLE=bundle.path) as service:
        answer = httpx.post(f"{service.url}/predict_file?pdf=true", content=npz_bytes({"images": mixed})).json()
    np.testing.assert_allclose(answer["pdf"], predict(bundle, mixed).pdf, atol=1e-9)
    np.testing.assert_allclose(answer["ood_score"], predict(bundle, mixed).ood_score, rtol=1e-6)
    assert [bool(flags & Flag.OUT_OF_DISTRIBUTION) for flags in answer["flags"]] == [False, False, True, True]
