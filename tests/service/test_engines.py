import threading

import numpy as np
import pytest
from toys import GRIZ, galaxies, toy_engine, toy_feature_groups, toy_network, toy_ood_record

from photoz.errors import InvalidBundle
from photoz.inference.engines import CHUNK, SIZES, KerasEngine, OpenVinoEngine, _predict_in_chunks, load_engine
from photoz.inference.openvino import compile_network, runs
from photoz.model.bundle import ModelBundle
from service import engines


@pytest.fixture(scope="module")
def shipped(bundle_path):
    return ModelBundle.load(bundle_path)


def test_a_bundle_with_a_compiled_network_is_served_by_openvino(shipped):
    assert isinstance(load_engine(shipped), OpenVinoEngine)


def test_pdfs_have_the_bins_of_the_card_and_sum_to_one(shipped, images):
    pdfs = load_engine(shipped, threads=1).predict(images, np.full(len(images), 0.03, np.float32)).pdfs
    assert pdfs.shape == (len(images), shipped.card.grid.n_bins)
    assert pdfs.dtype == np.float64
    np.testing.assert_allclose(pdfs.sum(axis=1), 1.0, atol=1e-12)


def test_chunks_do_not_change_the_answer(make_toy_bundle):
    engine = load_engine(make_toy_bundle(takes_ebv=True))
    many, ebv = galaxies(GRIZ, 2 * CHUNK + 3), np.linspace(0, 0.5, 2 * CHUNK + 3, dtype=np.float32)
    one_by_one = [engine.predict(many[i : i + 1], ebv[i : i + 1]).pdfs[0] for i in (0, CHUNK - 1, CHUNK, 2 * CHUNK + 2)]
    together = engine.predict(many, ebv).pdfs[[0, CHUNK - 1, CHUNK, 2 * CHUNK + 2]]
    np.testing.assert_allclose(together, one_by_one, atol=1e-7)


def test_reddening_reaches_a_network_that_takes_it_and_only_that(make_toy_bundle):
    pictures, low, high = galaxies(GRIZ, 1), np.zeros(1, np.float32), np.ones(1, np.float32)
    with_ebv, without = load_engine(make_toy_bundle(takes_ebv=True)), load_engine(make_toy_bundle())
    assert np.abs(with_ebv.predict(pictures, low).pdfs - with_ebv.predict(pictures, high).pdfs).max() > 1e-4
    np.testing.assert_array_equal(without.predict(pictures, low).pdfs, without.predict(pictures, high).pdfs)


@pytest.mark.parametrize(
    ("size", "n_bands", "n_bins", "takes_ebv"),
    [(23, 4, 91, False), (23, 5, 90, False), (24, 4, 90, False), (23, 4, 90, True)],
    ids=["bins", "bands", "size", "inputs"],
)
def test_a_network_that_is_not_the_one_of_the_card_is_refused(make_toy_bundle, size, n_bands, n_bins, takes_ebv):
    bundle = make_toy_bundle(network=toy_network(size, n_bands, n_bins, takes_ebv))
    with pytest.raises(InvalidBundle, match="its card says"):
        load_engine(bundle)


def test_an_engine_that_the_bundle_does_not_have_is_refused(make_toy_bundle):
    bundle = make_toy_bundle()
    bare = ModelBundle(bundle.path, bundle.card.model_copy(update={"engines": ()}))
    with pytest.raises(InvalidBundle, match="no OpenVINO engine"):
        load_engine(bare, "openvino")


def test_pixels_beyond_all_measure_have_no_pdf_and_cost_no_other_cutout_its_own(make_toy_bundle):
    pictures, ebv = galaxies(GRIZ, 3), np.zeros(3, np.float32)
    engine = load_engine(make_toy_bundle())
    expected = engine.predict(pictures, ebv).pdfs
    pictures[1] = 3e38
    pdfs = engine.predict(pictures, ebv).pdfs
    assert np.isnan(pdfs[1]).all()
    np.testing.assert_allclose(pdfs[[0, 2]], expected[[0, 2]], atol=1e-7)


SEVERAL = (
    toy_engine("openvino-bf16", precision="bf16"),
    toy_engine("openvino-int8", precision="f32"),
    toy_engine(precision="f32"),
)


@pytest.mark.parametrize(
    ("preference", "has_bfloat16", "expected"),
    [
        ("auto", True, "bf16"),
        ("auto", False, "f32"),
        ("openvino", True, "bf16"),
        ("openvino-int8", True, "f32"),
        ("openvino-bf16", True, "bf16"),
    ],
)
def test_the_first_engine_that_is_asked_for_and_runs_here_is_taken(
    make_toy_bundle, monkeypatch, preference, has_bfloat16, expected
):
    monkeypatch.setattr(engines, "runs", lambda precision: has_bfloat16 or precision != "bf16")
    taken = []
    monkeypatch.setattr(
        engines,
        "compile_network",
        lambda path, precision, threads: taken.append(precision) or compile_network(path, "f32"),
    )
    load_engine(make_toy_bundle(engines=SEVERAL), preference)
    assert taken == [expected]


def test_an_engine_in_bfloat16_is_refused_where_the_processor_has_none(make_toy_bundle, monkeypatch):
    monkeypatch.setattr(engines, "runs", lambda precision: precision != "bf16")
    with pytest.raises(InvalidBundle, match=r"^openvino-bf16 of .* needs a processor that multiplies in bfloat16"):
        load_engine(make_toy_bundle(engines=SEVERAL), "openvino-bf16")


def test_an_engine_by_name_that_the_bundle_does_not_have_is_refused(make_toy_bundle):
    with pytest.raises(InvalidBundle, match="no engine openvino-int8, which PHOTOZ_ENGINE asks for"):
        load_engine(make_toy_bundle(), "openvino-int8")


@pytest.mark.slow
def test_keras_and_openvino_give_the_same_redshifts(shipped, images):
    ebv = np.full(len(images), 0.03, np.float32)
    keras_engine = load_engine(shipped, "keras")
    assert isinstance(keras_engine, KerasEngine)
    expected = keras_engine.predict(images, ebv).pdfs @ shipped.card.grid.centres
    for record in shipped.card.engines:
        if runs(record.precision):
            z_mean = load_engine(shipped, record.name).predict(images, ebv).pdfs @ shipped.card.grid.centres
            np.testing.assert_allclose(z_mean, expected, atol=1e-4 if record.name == "openvino-f32" else 2e-3)


@pytest.mark.slow
def test_keras_and_openvino_see_the_same_features(shipped, images):
    ebv = np.full(len(images), 0.03, np.float32)
    keras_features, openvino_features = (
        load_engine(shipped, name).predict(images, ebv).features for name in ("keras", "openvino-f32")
    )
    assert keras_features.shape == (len(images), shipped.card.ood.n_features)
    np.testing.assert_allclose(keras_features, openvino_features, rtol=1e-3, atol=1e-3)


def test_features_come_with_the_pdfs_whatever_the_order_of_the_outputs(make_toy_bundle):
    network = toy_network(GRIZ.size, 4, 90, takes_ebv=False, gives_features=True)
    record = toy_ood_record(n_features=4)
    pictures = galaxies(GRIZ, CHUNK + 3)
    bundle = make_toy_bundle(network=network, feature_groups=toy_feature_groups(pictures), record=record)
    output = load_engine(bundle).predict(pictures, np.zeros(len(pictures), np.float32))
    assert output.pdfs.shape == (CHUNK + 3, 90)
    np.testing.assert_allclose(output.features, pictures.mean((1, 2)), atol=1e-5)


def test_a_network_without_the_features_of_its_card_is_refused(make_toy_bundle):
    record = toy_ood_record(n_features=4)
    bundle = make_toy_bundle(feature_groups=toy_feature_groups(galaxies(GRIZ, 9)), record=record)
    with pytest.raises(InvalidBundle, match="its card says"):
        load_engine(bundle)


def test_a_keras_file_that_is_none_is_refused(make_toy_bundle):
    with pytest.raises(InvalidBundle, match="Keras cannot read"):
        load_engine(make_toy_bundle(), "keras")


@pytest.mark.parametrize("n", [1, 2, 5, 17, 33, 49, 64, 65, 130])
def test_the_network_is_run_on_few_numbers_of_cutouts_and_nobody_notices(n):
    seen = []

    def infer(feed):
        seen.append(len(feed["images"]))
        assert len(feed["ebv"]) == seen[-1]
        weights = feed["images"].mean((1, 2, 3)) + feed["ebv"][:, 0]
        return {"pdf": np.stack([weights, 1 - weights], axis=1), "features": weights[:, np.newaxis]}

    rng = np.random.default_rng(0)
    images, ebv = rng.random((n, 4, 4, 1), dtype=np.float32), rng.random(n, dtype=np.float32) / 10
    output = _predict_in_chunks(infer, ("images", "ebv"), threading.Lock(), images, ebv)
    assert set(seen) <= set(SIZES)
    assert sum(seen) < 1.5 * n + 1
    np.testing.assert_array_equal(output.features[:, 0], images.mean((1, 2, 3)) + ebv)
    assert output.pdfs.shape == (n, 2)
