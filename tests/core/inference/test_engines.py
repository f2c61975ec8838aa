"""Engines of a bundle, and the preflight that runs one in a child process, which may crash."""

import logging
import re
import shutil
import sys
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest

from photoz.errors import InvalidBundle
from photoz.inference import engines, openvino
from photoz.inference.engines import BATCH_SIZES, MAX_BATCH, KerasEngine, load_engine
from photoz.inference.openvino import compile_network, run_once, runs
from photoz.inference.predictor import Predictor
from photoz.inference.preflight import preflight
from photoz.model.bundle import ModelBundle
from tests.running import ROOT
from tests.toys import GRIZ, galaxies, toy_engine, toy_feature_groups, toy_network, toy_ood_record


def test_network_that_disagrees_with_the_card_is_refused(make_toy_bundle):
    takes = "its card says {'images': (23, 23, 4)}"
    for network, message in (
        ((23, 4, 91, False), "the network gives {'pdf': (91,)}; its card says {'pdf': (90,)}"),
        ((23, 5, 90, False), f"the network takes {{'images': (23, 23, 5)}}; {takes}"),
        ((24, 4, 90, False), f"the network takes {{'images': (24, 24, 4)}}; {takes}"),
        ((23, 4, 90, True), f"the network takes {{'images': (23, 23, 4), 'ebv': (1,)}}; {takes}"),
    ):
        with pytest.raises(InvalidBundle, match=f"^{re.escape(message)}$"):
            load_engine(make_toy_bundle(network=toy_network(*network)))
    with pytest.raises(InvalidBundle, match=r"takes .*\(23, 23, 4\).*its card says"):
        preflight(make_toy_bundle(network=toy_network(23, 4, 90, takes_ebv=True)).path)
    bundle = make_toy_bundle(feature_groups=toy_feature_groups(galaxies(GRIZ, 9)), record=toy_ood_record(4))
    with pytest.raises(InvalidBundle, match=r"gives {'pdf': \(90,\)}; its .* {'pdf': \(90,\), 'features': \(4,\)}"):
        load_engine(bundle)


def test_engine_that_the_bundle_does_not_have_is_refused(make_toy_bundle, monkeypatch):
    load_model = Mock(side_effect=ValueError("not a model"))
    monkeypatch.setitem(sys.modules, "keras", Mock(saving=Mock(load_model=load_model)))
    lacking = (toy_engine(path="openvino/none.xml"),)
    for made, preference, message in (
        ((), "openvino", "has no engine openvino; it has keras$"),
        ((toy_engine(),), "openvino-int8", "has no engine openvino-int8; it has openvino-f32, keras$"),
        (lacking, "auto", r"has no file openvino/none\.xml, which its card names as openvino-f32$"),
        ((toy_engine(),), "keras", "^Keras cannot read .*model.keras: "),
        ((), "auto", "^Keras cannot read .*model.keras: "),
    ):
        with pytest.raises(InvalidBundle, match=message):
            load_engine(make_toy_bundle(engines=made), preference)
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(InvalidBundle, match="model.keras needs Keras and TensorFlow, which are not installed$"):
        load_engine(make_toy_bundle(), "keras")


def test_first_engine_that_fits_and_runs_is_loaded(make_toy_bundle, monkeypatch):
    several = toy_engine("openvino-bf16", precision="bf16"), toy_engine("openvino-int8"), toy_engine()
    loaded, bundle = [], make_toy_bundle(engines=several)

    def compile_f32(path, precision, threads):
        loaded.append((precision, threads))
        return compile_network(path, "f32")

    monkeypatch.setattr(engines, "compile_network", compile_f32)
    for preference, runnable, expected in (
        ("auto", ("bf16", "f32"), "bf16"),
        ("openvino-int8", ("bf16", "f32"), "f32"),
        ("openvino-bf16", ("bf16", "f32"), "bf16"),
        ("auto", ("f32",), "f32"),
    ):
        loaded.clear()
        monkeypatch.setattr(engines, "runs", runnable.__contains__)
        load_engine(bundle, preference)
        for threads in ({}, {"threads": 2}):
            Predictor.load(bundle, engine=preference, **threads)
        assert loaded == [(expected, 1), (expected, 1), (expected, 2)]
    with pytest.raises(InvalidBundle, match=r"^openvino-bf16 of .* needs a processor with bfloat16 arithmetic$"):
        load_engine(bundle, "openvino-bf16")


def test_network_is_compiled_for_low_latency_and_in_bfloat16_if_the_processor_has_it(monkeypatch):
    properties = {}
    core = SimpleNamespace(get_property=lambda *names: properties[names], compile_model=lambda *arguments: arguments)
    monkeypatch.setattr(openvino, "import_openvino", lambda: SimpleNamespace(Core=lambda: core))
    for capabilities in (["FP32", "BF16"], ["FP32"]):
        properties["CPU", "OPTIMIZATION_CAPABILITIES"] = capabilities
        assert (runs("f32"), runs("bf16")) == (True, "BF16" in capabilities)
    assert run_once("none.xml", "bf16", 1) is None
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
    assert compile_network("a.xml", "f32") == ("a.xml", "CPU", config | {"INFERENCE_NUM_THREADS": 0})
    assert compile_network("a.xml", "f32", 3) == ("a.xml", "CPU", config | {"INFERENCE_NUM_THREADS": 3})


def test_network_runs_on_images_and_reddening_gives_features_and_holds_no_images(make_toy_bundle):
    bundle = make_toy_bundle(takes_ebv=True)
    path = bundle.path / "openvino" / "model.xml"
    assert run_once(path, "f32", 1) == ({"images": (None, 23, 23, 4), "ebv": (None, 1)}, {"pdf": (None, 90)})
    cutouts, ebv, engine = galaxies(GRIZ, 3), np.float32([0.0, 0.0, 1.0]), load_engine(bundle)
    cutouts[2] = cutouts[0]
    expected = engine.predict(cutouts, ebv).pdfs
    assert np.abs(expected[0] - expected[2]).max() > 1e-4
    cutouts[1] = 3e38  # overflows, and changes no other
    pdfs = engine.predict(cutouts, ebv).pdfs
    assert np.isnan(pdfs[1]).all()
    np.testing.assert_allclose(pdfs[[0, 2]], expected[[0, 2]], atol=1e-7)
    network = toy_network(GRIZ.size, 4, 90, takes_ebv=False, gives_features=True)
    cutouts = galaxies(GRIZ, MAX_BATCH + 3)
    bundle = make_toy_bundle(network=network, feature_groups=toy_feature_groups(cutouts), record=toy_ood_record(4))
    output = load_engine(bundle).predict(cutouts, np.zeros(len(cutouts), np.float32))
    assert output.pdfs.shape == (MAX_BATCH + 3, 90)
    np.testing.assert_allclose(output.features, cutouts.mean((1, 2)), atol=1e-5)
    images, ebv, engine = galaxies(GRIZ, 6), np.zeros(6, np.float32), load_engine(make_toy_bundle())
    for writeable in (True, False):
        copy = images.copy()
        copy.flags.writeable = writeable
        before = sys.getrefcount(copy)
        np.testing.assert_array_equal(engine.predict(copy, ebv).pdfs, engine.predict(images, ebv).pdfs)
        engine.predict(copy[:3], ebv[:3])
        assert sys.getrefcount(copy) == before


@pytest.mark.acceptance
def test_keras_and_openvino_agree(bundle_path):
    shipped, images = ModelBundle.load(bundle_path), np.load(ROOT / "examples" / "cutouts.npz")["images"]
    ebv, centres = np.full(len(images), 0.03, np.float32), shipped.card.grid.centres
    keras_engine = load_engine(shipped, "keras")
    assert isinstance(keras_engine, KerasEngine)
    assert preflight(bundle_path, "keras") == "keras"
    expected = keras_engine.predict(images, ebv)
    assert expected.features.shape == (len(images), shipped.card.ood.n_features)
    for record in shipped.card.engines:
        if runs(record.precision):
            found, is_exact = load_engine(shipped, record.name).predict(images, ebv), record.name == "openvino-f32"
            np.testing.assert_allclose(found.pdfs @ centres, expected.pdfs @ centres, atol=1e-4 if is_exact else 2e-3)
            if is_exact:
                np.testing.assert_allclose(found.features, expected.features, rtol=1e-3, atol=1e-3)


def tensor(name, *shape):
    return SimpleNamespace(name=name, shape=(None, *shape))


class ToyKerasModel:
    """What the engine uses of a Keras model: the pdf is the mean of images and E(B-V), and one minus it."""

    def __init__(self, inputs, outputs, sizes=[]):  # noqa: B006 - of all models
        self.inputs, self.outputs, self.sizes, self.output = inputs, outputs, sizes, tensor("", 2)
        self.layers = [SimpleNamespace(name=name, output=self.output) for name in ("other", "features")]

    def predict_on_batch(self, feed):
        self.sizes.append(len(feed["images"]))
        mean = feed["images"].mean((1, 2, 3)) + feed["ebv"][:, 0]
        values = {"pdf": np.stack([mean, 1 - mean], axis=1), "features": mean[:, np.newaxis] * [1.0, 2.0]}
        return {name: values[name] for name in self.outputs}


def test_keras_engine_runs_on_few_batch_sizes_and_removes_padding(rng):
    assert BATCH_SIZES == (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
    model = ToyKerasModel([tensor("images", 4, 4, 1), tensor("ebv", 1)], ["pdf"])
    signature = engines.NetworkSignature({"images": (4, 4, 1), "ebv": (1,)}, {"pdf": (2,), "features": (2,)})
    many = ((33, [48]), (49, [64]), (64, [64]), (65, [64, 1]), (150, [64, 64, 24]))
    for n, sizes in ((1, [1]), (5, [6]), (12, [12]), (17, [24]), *many):
        model.sizes.clear()
        images, ebv = rng.random((n, 4, 4, 1), dtype=np.float32), rng.random(n, dtype=np.float32) / 10
        output, mean = KerasEngine(model, signature).predict(images, ebv), images.mean((1, 2, 3)) + ebv
        assert model.sizes == sizes
        np.testing.assert_allclose(output.pdfs[:, 0], mean, rtol=1e-6)
        np.testing.assert_allclose(output.features, mean[:, np.newaxis] * [1.0, 2.0], rtol=1e-6)
    with pytest.raises(InvalidBundle, match=r"the network takes .*'ebv': \(1,\)}; its card says {}"):
        KerasEngine(model, engines.NetworkSignature({}, {"pdf": (2,)}))


# Python imports a module of this name at start-up: this one ends a process that compiles a certain file, as some
# processors end one whose network divides by zero. Networks in bfloat16 do not run, and there is no Keras.
SITE = """
import os, signal, sys
import photoz.inference.openvino as openvino

sys.modules["keras"] = None
compile_network = openvino.compile_network

def compile_or_crash(path, *options):
    if "fatal" in str(path):
        os.kill(os.getpid(), signal.SIGFPE)
    if "odd" in str(path):
        raise ValueError("something\\nis odd\\n")
    return compile_network(path, *options)

openvino.compile_network = compile_or_crash
openvino.runs = lambda precision: precision != "bf16"
"""


def test_engines_that_do_not_run_are_skipped_or_refused(make_toy_bundle, monkeypatch, tmp_path, caplog):
    (tmp_path / "sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{tmp_path}", prepend=":")
    toy, source = make_toy_bundle(), tmp_path / "source"
    shutil.copytree(toy.path, source)
    for name in ("fatal.xml", "fatal.bin", "odd.xml"):
        shutil.copy(source / f"openvino/model{name[-4:]}", source / f"openvino/{name}")
    (source / "openvino/text.xml").write_text("<net>")
    made = [toy_engine("int8", "openvino/fatal.xml"), toy_engine("bf16", precision="bf16"), toy_engine("f32")]
    made += [toy_engine(name, f"openvino/{name}.xml") for name in ("text", "odd")]
    bundle = ModelBundle.write(tmp_path / "bundle", toy.card.model_copy(update={"engines": tuple(made)}), source)
    crash = f"int8 of {bundle.path} ended its process with SIGFPE"
    with caplog.at_level(logging.WARNING, "photoz.inference.preflight"):
        assert preflight(bundle.path) == "f32"
    assert caplog.messages == [f"{crash}; trying bf16", f"{crash}; trying f32"]
    for name, message in (
        ("int8", f"{crash}; try the engine keras$"),
        ("bf16", "bf16 of .* needs a processor with bfloat16 arithmetic$"),
        ("text", r"OpenVINO cannot read .*text\.xml: "),
        ("odd", "odd of .*bundle does not run: is odd$"),
        ("keras", ".*model.keras needs Keras and TensorFlow, which are not installed$"),
    ):
        with pytest.raises(InvalidBundle, match=f"^{message}"):
            preflight(bundle.path, name)
