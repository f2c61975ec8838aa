import sys
from types import SimpleNamespace

import numpy as np
import pytest

from photoz.errors import InvalidBundle
from photoz.inference import engines, openvino
from photoz.inference.engines import BATCH_SIZES, MAX_BATCH, KerasEngine, OpenVinoEngine, load_engine
from photoz.inference.openvino import compile_network, runs
from photoz.inference.predictor import Predictor
from photoz.model.bundle import ModelBundle
from tests.running import ROOT
from tests.toys import GRIZ, galaxies, toy_engine, toy_feature_groups, toy_network, toy_ood_record


@pytest.fixture(scope="module")
def shipped(bundle_path):
    return ModelBundle.load(bundle_path)


@pytest.fixture(scope="module")
def images():
    with np.load(ROOT / "examples" / "cutouts.npz") as archive:
        return archive["images"]


def test_pdfs_have_the_bins_of_the_card_and_sum_to_one(shipped, images):
    engine = load_engine(shipped)
    assert isinstance(engine, OpenVinoEngine)
    pdfs = engine.predict(images, np.full(len(images), 0.03, np.float32)).pdfs
    assert pdfs.shape == (len(images), shipped.card.grid.n_bins)
    assert pdfs.dtype == np.float64
    np.testing.assert_allclose(pdfs.sum(axis=1), 1.0, atol=1e-12)


@pytest.mark.parametrize("writeable", [True, False])
def test_engine_holds_no_images_between_calls(shipped, images, writeable):
    engine, copy, ebv = load_engine(shipped), images.copy(), np.full(len(images), 0.03, np.float32)
    copy.flags.writeable = writeable
    before = sys.getrefcount(copy)
    np.testing.assert_array_equal(engine.predict(copy, ebv).pdfs, engine.predict(images, ebv).pdfs)
    engine.predict(copy[:3], ebv[:3])
    assert sys.getrefcount(copy) == before


def test_reddening_changes_only_networks_that_take_it(make_toy_bundle):
    cutouts, low, high = galaxies(GRIZ, 1), np.zeros(1, np.float32), np.ones(1, np.float32)
    with_ebv, without = load_engine(make_toy_bundle(takes_ebv=True)), load_engine(make_toy_bundle())
    assert np.abs(with_ebv.predict(cutouts, low).pdfs - with_ebv.predict(cutouts, high).pdfs).max() > 1e-4
    np.testing.assert_array_equal(without.predict(cutouts, low).pdfs, without.predict(cutouts, high).pdfs)


@pytest.mark.parametrize(
    ("size", "n_bands", "n_bins", "takes_ebv"),
    [(23, 4, 91, False), (23, 5, 90, False), (24, 4, 90, False), (23, 4, 90, True)],
    ids=["bins", "bands", "size", "inputs"],
)
def test_network_that_disagrees_with_the_card_is_refused(make_toy_bundle, size, n_bands, n_bins, takes_ebv):
    bundle = make_toy_bundle(network=toy_network(size, n_bands, n_bins, takes_ebv))
    with pytest.raises(InvalidBundle, match="its card says"):
        load_engine(bundle)
    without_features = make_toy_bundle(feature_groups=toy_feature_groups(galaxies(GRIZ, 9)), record=toy_ood_record(4))
    with pytest.raises(InvalidBundle, match="its card says"):
        load_engine(without_features)


@pytest.mark.parametrize("preference", ["openvino", "openvino-int8"])
def test_engine_that_the_bundle_does_not_have_is_refused(make_toy_bundle, preference):
    engines = () if preference == "openvino" else (toy_engine(),)
    with pytest.raises(InvalidBundle, match=f"has no engine {preference}; it has .*keras"):
        load_engine(make_toy_bundle(engines=engines), preference)


def test_engine_without_its_file_is_refused(make_toy_bundle):
    with pytest.raises(InvalidBundle, match=r"has no file openvino/none\.xml"):
        load_engine(make_toy_bundle(engines=(toy_engine(path="openvino/none.xml"),)))


def test_pixels_that_overflow_have_no_pdf_and_do_not_change_the_others(make_toy_bundle):
    cutouts, ebv = galaxies(GRIZ, 3), np.zeros(3, np.float32)
    engine = load_engine(make_toy_bundle())
    expected = engine.predict(cutouts, ebv).pdfs
    cutouts[1] = 3e38
    pdfs = engine.predict(cutouts, ebv).pdfs
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
def test_first_engine_that_fits_and_runs_is_loaded(make_toy_bundle, monkeypatch, preference, has_bfloat16, expected):
    loaded = []

    def compile_f32(path, precision, threads):
        loaded.append((precision, threads))
        return compile_network(path, "f32")

    monkeypatch.setattr(engines, "runs", lambda precision: has_bfloat16 or precision != "bf16")
    monkeypatch.setattr(engines, "compile_network", compile_f32)
    load_engine(make_toy_bundle(engines=SEVERAL), preference)
    for threads in ({}, {"threads": 2}):
        Predictor.load(make_toy_bundle(engines=SEVERAL), engine=preference, **threads)
    assert loaded == [(expected, 1), (expected, 1), (expected, 2)]


def test_bfloat16_engine_is_refused_if_the_processor_has_none(make_toy_bundle, monkeypatch):
    monkeypatch.setattr(engines, "runs", lambda precision: precision != "bf16")
    with pytest.raises(InvalidBundle, match=r"^openvino-bf16 of .* needs a processor with bfloat16"):
        load_engine(make_toy_bundle(engines=SEVERAL), "openvino-bf16")


@pytest.mark.parametrize("capabilities", [["FP32"], ["FP32", "BF16"]])
def test_bfloat16_runs_if_the_processor_has_it(monkeypatch, capabilities):
    core = SimpleNamespace(get_property=lambda *_: capabilities)
    monkeypatch.setattr(openvino, "import_openvino", lambda: SimpleNamespace(Core=lambda: core))
    assert runs("f32")
    assert runs("bf16") == ("BF16" in capabilities)


@pytest.mark.slow
def test_keras_and_openvino_agree(shipped, images):
    ebv, centres = np.full(len(images), 0.03, np.float32), shipped.card.grid.centres
    keras_engine = load_engine(shipped, "keras")
    assert isinstance(keras_engine, KerasEngine)
    expected = keras_engine.predict(images, ebv)
    assert expected.features.shape == (len(images), shipped.card.ood.n_features)
    for record in shipped.card.engines:
        if runs(record.precision):
            found, is_exact = load_engine(shipped, record.name).predict(images, ebv), record.name == "openvino-f32"
            atol = 1e-4 if is_exact else 2e-3
            np.testing.assert_allclose(found.pdfs @ centres, expected.pdfs @ centres, atol=atol)
            if is_exact:
                np.testing.assert_allclose(found.features, expected.features, rtol=1e-3, atol=1e-3)


def test_features_are_found_in_any_order_of_outputs(make_toy_bundle):
    network = toy_network(GRIZ.size, 4, 90, takes_ebv=False, gives_features=True)
    cutouts = galaxies(GRIZ, MAX_BATCH + 3)
    bundle = make_toy_bundle(network=network, feature_groups=toy_feature_groups(cutouts), record=toy_ood_record(4))
    output = load_engine(bundle).predict(cutouts, np.zeros(len(cutouts), np.float32))
    assert output.pdfs.shape == (MAX_BATCH + 3, 90)
    np.testing.assert_allclose(output.features, cutouts.mean((1, 2)), atol=1e-5)


def test_file_that_is_not_a_keras_model_is_refused(make_toy_bundle):
    with pytest.raises(InvalidBundle, match="Keras cannot read"):
        load_engine(make_toy_bundle(), "keras")


def test_keras_model_is_refused_where_keras_is_missing(make_toy_bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(InvalidBundle, match="needs Keras and TensorFlow, which are not installed"):
        load_engine(make_toy_bundle(), "keras")


@pytest.mark.parametrize("n", [1, 2, 5, 17, 33, 49, 64, 65, 130])
def test_network_runs_on_few_batch_sizes_and_padding_is_removed(n):
    sizes = []

    class Recorder(engines._BatchedEngine):
        def _infer(self, feed):
            sizes.append(len(feed["images"]))
            assert len(feed["ebv"]) == sizes[-1]
            weights = feed["images"].mean((1, 2, 3)) + feed["ebv"][:, 0]
            return {"pdf": np.stack([weights, 1 - weights], axis=1), "features": weights[:, np.newaxis]}

    rng = np.random.default_rng(0)
    images, ebv = rng.random((n, 4, 4, 1), dtype=np.float32), rng.random(n, dtype=np.float32) / 10
    output = Recorder(("images", "ebv")).predict(images, ebv)
    assert set(sizes) <= set(BATCH_SIZES)
    assert max(sizes) <= 64
    assert sum(sizes) < 1.5 * n + 1
    np.testing.assert_array_equal(output.features[:, 0], images.mean((1, 2, 3)) + ebv)
    assert output.pdfs.shape == (n, 2)
