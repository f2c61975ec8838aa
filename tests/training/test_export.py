"""Compiled copies of a network: what is written, what the card says, what is rejected."""

import shutil
import signal
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from photoz import pdf
from photoz.errors import InvalidBundle
from photoz.flags import Flag
from photoz.inference.engines import NetworkSignature, OpenVinoEngine
from photoz.inference.openvino import import_openvino
from photoz.io.cutouts import TEST, TRAIN, VALIDATION
from photoz.model.bundle import ModelBundle
from tests.training.small import GRID, SPEC, linear_network
from training import export, pipeline
from training.child_engine import EngineRejected, child_engine
from training.export_check import Difference, compare
from training.quantise import Scope, quantise
from training.trained_model import Predictions, TrainedModel


@pytest.fixture
def compiled(bundle):
    """Return the copy of the bundle's network in float32."""
    return import_openvino().Core().read_model(bundle.path / "openvino" / "model.xml")


@pytest.fixture
def in_this_process(monkeypatch):
    """Load engines in this process, in float32, and do not time them."""

    @contextmanager
    def engine(path, precision, signature):
        loaded = OpenVinoEngine(path, "f32", 0, signature)
        yield SimpleNamespace(predict=loaded.predict, images_per_second=lambda *_: 1.0)

    monkeypatch.setattr(export, "child_engine", engine)
    monkeypatch.setattr(export, "runs", lambda precision: precision == "bf16")


def test_fastest_engine_by_the_median_is_first():
    def engine(name, *rates):
        left = list(rates)
        process = SimpleNamespace(images_per_second=lambda images, ebv, seconds: left.pop(0))
        return export._Engine(name, f"{name}.xml", "f32", Difference(9, True, 1.0, 1.1, 0.1, 0.9, 0.2), process)

    engines = [engine("slow", 3, 9, 9, 1, 2), engine("fast", 4, 4, 4, 4, 4)]
    fast, slow = export._by_speed(engines, SimpleNamespace(images=None, ebv=None))
    assert [fast.name, slow.check.images_per_second] == ["fast", 3]
    numbers = [fast.max_z_mean_difference, fast.n_compared, *fast.check.model_dump().values()]
    assert numbers == [0.1, 9, 1.0, 1.1, 0.9, 0.2, 4]


def test_export_replaces_engines_and_nothing_else_and_nothing_if_float32_is_rejected(
    bundle, compiled, sample_file, tmp_path, run_cli, in_this_process, monkeypatch
):
    monkeypatch.setattr(export, "to_openvino", lambda _: compiled)
    path = shutil.copytree(bundle.path, tmp_path / "toy")
    with monkeypatch.context() as patch:
        patch.setattr(export, "compare", lambda *_: Difference(9, False, 1.0, 1.0, 0.0, 1.0, 0.0))
        with pytest.raises(InvalidBundle, match="copy in float32 does not agree with Keras: some PDFs are not finite"):
            pipeline.export_bundle(ModelBundle.load(path), sample_file, only_f32=True)
    assert ModelBundle.load(path).card == bundle.card
    output = run_cli("export", path, sample_file, "--only-f32")
    assert "openvino-f32: 1 images/s; CRPS 1.0000 and sigma_MAD 1.0000 of Keras's, z_mean within " in output
    assert f"{path}: 1 engines, the first is the default of PHOTOZ_ENGINE=auto\n" in output
    after = ModelBundle.load(path)
    changing = {"engines", "files", "digest"}
    assert after.card.model_dump(exclude=changing) == bundle.card.model_dump(exclude=changing)
    assert after.card.files.keys() == bundle.card.files.keys()
    [engine] = after.card.engines
    assert (engine.name, engine.path, engine.precision) == ("openvino-f32", "openvino/model.xml", "f32")


@pytest.mark.acceptance
def test_engines_agree_with_keras_as_the_card_says(bundle, cutouts, sample_file, tmp_path, run_cli):
    path = shutil.copytree(bundle.path, tmp_path / "toy")
    run_cli("export", path, sample_file)
    after, rows = ModelBundle.load(path), cutouts.rows(TEST)
    model = TrainedModel.load(after)
    engines, z_mean = after.card.engines, pdf.mean(model.predict(cutouts, rows).pdfs, GRID)
    assert {engine.name for engine in engines} <= {"openvino-int8", "openvino-bf16", "openvino-f32"}
    rates = [engine.check.images_per_second for engine in engines]
    assert rates == sorted(rates, reverse=True)
    for engine in engines:
        with child_engine(path / engine.path, engine.precision, NetworkSignature.of(after.card)) as process:
            difference = np.abs(pdf.mean(model.predict(cutouts, rows, process).pdfs, GRID) - z_mean).max()
        assert engine.max_z_mean_difference == pytest.approx(difference, rel=0.05, abs=1e-6)
        assert (engine.n_compared, difference < 1e-4 or engine.name != "openvino-f32") == (len(rows), True)


def test_rejected_fast_copy_is_left_out_with_its_files(cutouts, tmp_path, in_this_process, monkeypatch, capsys):
    keras.utils.set_random_seed(0)
    model = TrainedModel(linear_network("", SPEC, GRID, None), SPEC, GRID, 0.03)
    shifted = keras.ops.roll(model.network.output, GRID.n_bins // 4, axis=1)
    wrong, scopes, samples = export.to_openvino(keras.Model(model.network.inputs, shifted)), [], []

    def quantised(_, inputs, scope):
        scopes.append(scope)
        samples.extend(inputs)
        return wrong

    monkeypatch.setattr(export, "quantise", quantised)
    engines = export.export_engines(model, cutouts, tmp_path)
    assert scopes == [Scope.EVERYTHING, Scope.CONVOLUTIONS]
    assert {name: values.shape for name, values in samples[0].items()} == {"images": (1, *SPEC.shape), "ebv": (1, 1)}
    train = cutouts.rows(TRAIN)
    assert np.array_equal(np.concatenate([sample["images"] for sample in samples[: len(train)]]), cutouts.images[train])
    assert [engine.name for engine in engines] == ["openvino-bf16", "openvino-f32"]
    assert {path.name for path in (tmp_path / "openvino").iterdir()} == {"model.xml", "model.bin"}
    output = capsys.readouterr().out
    for scope in ("everything", "convolutions"):
        assert f"openvino-int8 of {scope} is left out: " in output
    assert output.count("of galaxies, expected 0.999") == 2
    split = cutouts.column("split")  # without test galaxies, the validation galaxies are compared
    untested = replace(cutouts, columns={**cutouts.columns, "split": np.where(split == TEST, TRAIN, split)})
    engines = export.export_engines(model, untested, tmp_path, only_f32=True)
    assert [engine.n_compared for engine in engines] == [(split == VALIDATION).sum()]


def test_scope_convolutions_quantises_only_convolutions(compiled):
    images = np.random.default_rng(0).normal(size=(8, 1, *SPEC.shape)).astype(np.float32)
    samples = [{"images": image, "ebv": np.full((1, 1), 0.03, np.float32)} for image in images]
    n_operations = len(compiled.get_ordered_ops())
    operations = quantise(compiled, samples, Scope.CONVOLUTIONS).get_ordered_ops()
    outputs = [operation.output(0) for operation in operations if operation.get_type_name() == "FakeQuantize"]
    fed = {target.get_node().get_type_name() for output in outputs for target in output.get_target_inputs()}
    assert {"Convolution"} <= fed <= {"Convolution", "GroupConvolution"}
    assert len(compiled.get_ordered_ops()) == n_operations  # unchanged


def test_crash_of_an_engine_does_not_end_this_process_and_unreadable_ones_are_rejected(bundle, tmp_path):
    images, ebv = np.ones((2, *SPEC.shape), np.float32), np.zeros(2, np.float32)
    signature = NetworkSignature.of(bundle.card)
    with child_engine(bundle.path / "openvino" / "model.xml", "f32", signature) as engine:
        assert engine.predict(images, ebv).pdfs.shape == (2, GRID.n_bins)
        assert engine.images_per_second(images, ebv, 0.01) > 0
        with pytest.raises(EngineRejected, match="its process ended with SIGILL"):
            engine._run(signal.raise_signal, signal.SIGILL)
    (tmp_path / "model.xml").write_text("<net>")
    loaded = child_engine(tmp_path / "model.xml", "f32", signature)
    with loaded as engine, pytest.raises(EngineRejected, match="OpenVINO cannot read"):
        engine.predict(images, ebv)


def test_differences_are_measured_and_objected_to():
    z_spec, first_two = np.linspace(0.05, 0.4, 1000), np.arange(1000) < 2

    def predictions_at(z, flagged=False):
        rows, bins, pdfs = np.arange(len(z)), GRID.bin_index(z), np.zeros((len(z), GRID.n_bins))
        pdfs[rows, bins - 1], pdfs[rows, bins], pdfs[rows, bins + 1] = 0.25, 0.5, 0.25
        flags = Flag.BROAD_PDF | np.where(flagged, Flag.OUT_OF_DISTRIBUTION, 0) * np.ones(len(z), int)
        return Predictions(pdfs, pdfs, np.ones(len(z)), flags)

    by_keras, missing = predictions_at(z_spec), predictions_at(z_spec)
    missing.pdfs[7] = np.nan
    assert compare(by_keras, by_keras, z_spec, GRID) == Difference(1000, True, 1.0, 1.0, 0.0, 1.0, 0.0)
    assert compare(missing, by_keras, z_spec, GRID).objections() == ["some PDFs are not finite"]
    difference = compare(predictions_at(z_spec + 0.05 * first_two), by_keras, z_spec, GRID)
    assert difference.max_z_mean_difference == pytest.approx(0.05)
    assert difference.objections()[-1] == "z_mean is within 0.002 for 0.9980 of galaxies, expected 0.999"
    flagged = compare(predictions_at(z_spec, first_two), by_keras, z_spec, GRID)
    assert flagged.objections() == ["0.0020 of galaxies change their flag, at most 0.001"]
    assert Difference(1000, True, 1.01, 1.01, 0.1, 0.999, 0.001).objections() == []  # at the limits
    beyond = Difference(1000, True, 1.011, 1.011, 0.1, 0.999, 0.001)
    assert beyond.objections() == [f"{name} is 1.0110 of Keras's, at most 1.01" for name in ("CRPS", "sigma_MAD")]
